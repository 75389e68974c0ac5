"""What native code relies on is checked before it runs: what does not fit is a DataError.

Checksums hold here: these are objects of a wrong, or hostile, writer. Each is refused by queries
that would go by it, and named by `verify`. Factors of any value are no reason to refuse: they make
answers wrong, but never rows that are not there.
"""

import numpy as np
import pytest
from make_golden import DIMENSION, FILTERS, NEWEST, expected_of, open_database, queries, store_of

from forcing import codes_only
from squash.container import Container, pack
from squash.errors import DataError
from squash.index.live import unpack_mask
from squash.kernels import native
from squash.runtime import Settings

pytestmark = pytest.mark.usefixtures("checksums_hold")

BLOCK_FACTORS = {"norm": ("<f4", 320, 192), "secant": ("<f2", 192, 128), "shift": ("<f2", 128, 64)}
"""Of a block's factors: dtype, and where they begin and end, in bytes from the block's end."""


@pytest.fixture(params=[True, False], ids=["by codes", "as planned"])
def plans(request):
    """Let queries go by the codes, or as few rows would have it."""
    if request.param:
        with codes_only():
            yield
    else:
        yield


def objects_of(store, name, part):
    """Return the keys of an index's objects of a name, or its `trained`."""
    found = [info.key for info in store.list(f"{name}/")]
    return [key for key in found if key.endswith(f"/{part}") or f"/{part}/" in key]


def rewrite(store, key, change):
    """Write an object again, with what `change` makes of its header and arrays."""
    kind = "trained" if "/trained/" in key else f"segment-{key.rpartition('/')[2]}"
    old = Container(store.get(key), kind=kind, versions=(1,), where=key)
    header = {n: v for n, v in old.header.items() if n not in {"kind", "version"}}
    arrays = {n: old.array(n).copy() for n in old.names()}
    change(header, arrays)
    store.put(key, pack(kind, 1, header=header, arrays=arrays))


def array(name, make):
    """Change one array."""

    def change(header, arrays):
        arrays[name] = np.ascontiguousarray(make(arrays[name]))

    return change


def both(*changes):
    def change(header, arrays):
        for one in changes:
            one(header, arrays)

    return change


def put(place, value):
    def make(old):
        old.reshape(-1)[place] = value
        return old

    return make


def added(place, count):
    def make(old):
        old[place] += count
        return old

    return make


def moved(first, second, count=1):
    """Move rows from one cluster to another: the sum stays."""
    return both(
        array("cluster_rows", added(first, -count)), array("cluster_rows", added(second, count))
    )


def codec_of(dimension):
    """Make a codec, well formed, of vectors of another dimension."""

    def change(header, arrays):
        header["codec"]["dimension"] = dimension
        arrays["codec.mean"] = np.zeros(dimension, np.float32)
        arrays["codec.rotation"] = np.eye(dimension, dtype=np.float32)
        arrays["centers"] = np.zeros((len(arrays["centers"]), dimension), np.float32)

    return change


def header_entry(name, value):
    def change(header, arrays):
        header[name] = value

    return change


def swapped(header, arrays):
    header["partition_ids"] = header["partition_ids"][::-1]


def clusters_shifted(header, arrays):
    arrays["partition_begins"][1] += 1


def wrapped(begins):
    """Ascend by differences that wrap 64 bits, not by value."""
    steps = [0, 2**62, 2**63 - 1, -(2**63), -(2**62), 0]
    return np.array([*steps, *begins[1:]], dtype=np.int64)


def all_wrapped(header, arrays):
    arrays["cluster_begins"] = wrapped(arrays["cluster_begins"])
    arrays["centers"] = np.zeros((len(arrays["cluster_begins"]) - 1, DIMENSION), np.float32)


CHANGES = {
    # The routing table, which says where rows, cells and blocks of a partition are.
    "a cluster has a row more": ("trained", array("cluster_rows", added(0, 1))),
    "a cluster has a row less": ("trained", array("cluster_rows", added(0, -1))),
    "the last has a million more": ("trained", array("cluster_rows", added(-1, 1_000_000))),
    "a cluster has 2^40 rows": ("trained", array("cluster_rows", put(0, 2**40))),
    "a cluster has -1 rows": ("trained", array("cluster_rows", put(0, -1))),
    "a row in another cluster": ("trained", moved(0, 1)),
    "clusters in another partition": ("trained", clusters_shifted),
    "partitions swapped": ("trained", swapped),
    "partition begins wrap": ("trained", array("partition_begins", put(1, -(2**63)))),
    "partition begins far on": ("trained", array("partition_begins", put(1, 2**62))),
    "centers too few": ("trained", array("centers", lambda old: old[:-1])),
    "centers too narrow": ("trained", array("centers", lambda old: old[:, :-1])),
    "centers NaN": ("trained", array("centers", put(3, np.nan))),
    "rotation infinite": ("trained", array("codec.rotation", put(3, np.inf))),
    "mean NaN": ("trained", array("codec.mean", put(0, np.nan))),
    "a codec of five dimensions": ("trained", codec_of(DIMENSION - 1)),
    "a codec of seven dimensions": ("trained", codec_of(DIMENSION + 1)),
    # Codes.
    "a block less": ("codes", array("codes.blocks", lambda old: old[:-1])),
    "a block more": ("codes", array("codes.blocks", lambda old: np.concatenate([old, old[:1]]))),
    "no blocks": ("codes", array("codes.blocks", lambda old: old[:0])),
    "blocks a byte narrower": ("codes", array("codes.blocks", lambda old: old[:, :-1])),
    "blocks without factors": ("codes", array("codes.blocks", lambda old: old[:, :-320])),
    "blocks of signed bytes": ("codes", array("codes.blocks", lambda old: old.view(np.int8))),
    "blocks as one row": ("codes", array("codes.blocks", lambda old: old.reshape(1, -1))),
    "blocks by group": ("codes", array("codes.blocks", lambda old: old.reshape(len(old), -1, 16))),
    "a full code less": ("codes", array("codes.full", lambda old: old[:-1])),
    "full codes a byte narrower": ("codes", array("codes.full", lambda old: old[:, :-1])),
    "full codes flat": ("codes", array("codes.full", lambda old: old.reshape(-1))),
    "other clusters": ("codes", array("cluster_begins", added(1, 1))),
    "cluster begins descend": ("codes", array("cluster_begins", put(1, 40))),
    "cluster begins beyond": ("codes", array("cluster_begins", added(-1, 1))),
    "cluster begins wrap": ("codes", all_wrapped),
    "codes' centers too narrow": ("codes", array("centers", lambda old: old[:, :-1])),
    "codec version 1": ("codes", header_entry("codec_version", 1)),
    # Vectors.
    "vectors too narrow": ("vectors", array("vector", lambda old: old[:, :-1])),
    "vectors too wide": ("vectors", array("vector", lambda old: np.hstack([old, old[:, :1]]))),
    "a vector less": ("vectors", array("vector", lambda old: old[:-1])),
    "vectors as halves": ("vectors", array("vector", lambda old: old.astype(np.float16))),
    "vectors of another dimension": ("rows", header_entry("dimension", DIMENSION - 1)),
    # Cells and values.
    "a cell less": ("attributes", array("cells.0.codes", lambda old: old[:-1])),
    "cells as integers": ("attributes", array("cells.0.codes", lambda old: old.astype(np.int32))),
    "an id less": ("attributes", array("columns.3.ids", lambda old: old[:-1])),
    "an id beyond the values": ("attributes", array("columns.3.ids", put(0, 2**32 - 1))),
    "numbers that are NaN": ("attributes", array("columns.3.numbers", put(0, np.nan))),
    "numbers that are gone": ("attributes", array("columns.3.numbers", lambda old: old[:0])),
    "a signature less": ("attributes", array("cells.2.signatures", lambda old: old[:-1])),
}  # fmt: skip
OF_EVERY_CODEC = ("trained", "vectors", "rows", "attributes")


def ask(store, name, *, whole_bytes_max=1 << 20):
    """Ask everything of an index; return the first error, if there is one."""
    database = open_database(store)
    database._settings = Settings(whole_bytes_max=whole_bytes_max)
    index = database.index(name)
    errors = []
    for query in queries(index.config.dimension):
        for filter_ in FILTERS:
            try:
                answer = index.query(query, top_k=5, filter=filter_, recall_target=0.999)
            except DataError as error:
                errors.append(error)
            else:
                assert len(answer.matches) <= 5
    return errors


@pytest.mark.parametrize("variant", native.variants())
@pytest.mark.parametrize("what", CHANGES)
def test_what_does_not_fit_is_refused(what, variant):
    """Queries that would go by it are a DataError, and `verify` names it."""
    part, change = CHANGES[what]
    for name in ("residual", "osq") if part in OF_EVERY_CODEC else ("residual",):
        if name == "osq" and ("codec" in what or "rotation" in what):
            continue
        store = store_of(NEWEST)
        for key in objects_of(store, name, part)[:1]:
            rewrite(store, key, change)
        with codes_only(), native.use(variant):
            assert ask(store, name)
        report = open_database(store).index(name).verify()
        assert report.damages


def flipped_signs(header, arrays):
    blocks = arrays["codes.blocks"]
    blocks[:, :-320] ^= 0xFF


def other_bits(old):
    return old ^ np.uint8(0xFF)


def test_verify_compares_signs():
    """Signs that are not those of the vectors, and cells not those of values, verify names."""
    changes = [
        ("residual", "codes", flipped_signs),
        (
            "residual",
            "attributes",
            array("cells.0.codes", lambda old: np.where(old == 0, 1, 0).astype(old.dtype)),
        ),
        ("osq", "codes", array("codes.low", other_bits)),
        ("osq", "codes", array("codes.full", other_bits)),
    ]
    for name, part, change in changes:
        store = store_of(NEWEST)
        key = objects_of(store, name, part)[1]
        rewrite(store, key, change)
        (damage,) = open_database(store).index(name).verify().damages
        assert key.endswith(damage.object_key)


@pytest.mark.parametrize("what", CHANGES)
def test_few_rows_measured_at_once(what):
    """So it is, or the object is not needed, where a plan goes by no codes."""
    part, change = CHANGES[what]
    store = store_of(NEWEST)
    for key in objects_of(store, "residual", part)[:1]:
        rewrite(store, key, change)
    for whole_bytes_max in (0, 1 << 20):
        ask(store, "residual", whole_bytes_max=whole_bytes_max)


WORST = (np.nan, np.inf, -np.inf, -1.0, 0.0, 6e4)


@pytest.mark.parametrize("variant", native.variants())
@pytest.mark.parametrize("worst", WORST)
@pytest.mark.parametrize("factor", ["norm", "secant", "shift", "sine", "all"])
def test_factors_of_any_value(factor, worst, variant, plans):
    """Answers may be wrong, but hold rows of the index that pass the filter, each once."""
    places = {**BLOCK_FACTORS, "sine": ("<f2", 64, 0)}
    chosen = places if factor == "all" else {factor: places[factor]}

    def change(header, arrays):
        blocks = arrays["codes.blocks"]
        width = blocks.shape[1]
        for dtype, begin, end in chosen.values():
            count = (begin - end) // np.dtype(dtype).itemsize
            values = np.full(count, worst, dtype=dtype).view(np.uint8)
            blocks[:, width - begin : width - end] = values

    store = store_of(NEWEST)
    for key in objects_of(store, "residual", "codes"):
        rewrite(store, key, change)
    records = expected_of(NEWEST)["residual"]["records"]
    wanted = expected_of(NEWEST)["residual"]["answers"]
    index = open_database(store).index("residual")
    with native.use(variant), np.errstate(all="ignore"):
        for number, query in enumerate(queries()):
            for place, filter_ in enumerate(FILTERS):
                answer = index.query(query, top_k=5, filter=filter_, explain=True)
                keys = [match.key for match in answer.matches]
                assert set(keys) <= set(records)
                assert len(keys) == len(set(keys)) == len(wanted[2 * number][place])


@pytest.mark.parametrize("worst", [0.0, -1.0, np.nan, np.inf, 6e-8])
def test_cosines_of_version_1(worst):
    """Cosines that have no secant are read as such, without an error or a warning."""
    store = store_of("v1")
    for key in objects_of(store, "residual", "codes"):
        rewrite(store, key, array("codes.low_cosine", lambda old: np.full_like(old, worst)))
    with codes_only():
        assert not ask(store, "residual")


def test_partitions_are_in_the_routing_tables_order():
    """The kernels' table counts partitions as the routing table does."""
    view = open_database(store_of(NEWEST)).index("residual")._session.view("strong")
    assert len(view.partitions) > 1
    assert [p.reader.ref.id for p in view.partitions] == list(view.trained.partition_ids)


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 64])
def test_bitmaps_of_another_length(rows):
    """A bitmap has a bit a row, no byte more or less."""
    length = -(-rows // 8)
    for wrong in {length - 1, length + 1} - {-1}:
        with pytest.raises(DataError):
            unpack_mask(bytes(wrong), rows)
