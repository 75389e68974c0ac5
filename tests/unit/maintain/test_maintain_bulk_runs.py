"""Runs: what a piece's rows become on their way to their partitions, and the hashes of its keys."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.container import read_layout
from squash.errors import ChecksumError
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import BuildContext
from squash.maintain.bulk.plan import InputFile, Piece, Plan
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.runs import (
    KEYS,
    RUNS,
    Run,
    Runs,
    read_group,
    read_hashes,
    read_replaced,
    replaced_object,
)
from squash.maintain.bulk.tasks import keys as keys_task
from squash.model import RowBatch
from squash.segment.keys import hash_keys
from squash.storage import CountingStore, MemoryStore
from strategies import metadata_rows

BUILD = "0123456789abcdef" * 2
DIMENSION = 3


def plan_of(piece_rows, *, keyed=True, key_ranges=1, batch=2):
    firsts = np.cumsum([0, *piece_rows]).tolist()
    pieces = [Piece(0, first, rows) for first, rows in zip(firsts, piece_rows, strict=False)]
    begins = (*range(0, len(pieces), batch), len(pieces))
    return Plan(
        files=(InputFile("memory://in/a", "npy", "e", 0, 0, firsts[-1]),),
        pieces=tuple(pieces), rows=firsts[-1], encodes=False, keyed=keyed,
        encode_batches=(0,), sample_batches=(), assign_batches=begins,
        sample_rows=0, key_ranges=key_ranges if keyed else 0, flat=False,
    )  # fmt: skip


def batch_of(names, numbers, metadata=None):
    vectors = np.asarray(numbers, dtype=np.float32)[:, None] + np.arange(DIMENSION, dtype="f4") / 8
    return RowBatch(names, vectors, metadata or [{} for _ in names])


def written(store, plan, every, *, groups):
    """Write the runs of all pieces, each of chunks: names, numbers, metadata, clusters, groups."""
    for batch, (first, last) in enumerate(pairwise(plan.assign_batches)):
        runs = Runs(store, BUILD, plan, batch)
        for piece in range(first, last):
            rows = plan.pieces[piece].rows
            run = Run(rows, dimension=DIMENSION, groups=groups, keyed=plan.keyed)
            for names, numbers, metadata, clusters, group in every[piece]:
                run.add(
                    batch_of(names, numbers, metadata),
                    numbers=np.asarray(numbers, np.int64),
                    clusters=np.asarray(clusters, np.int64),
                    groups=np.asarray(group, np.int64),
                )
            runs.write(piece, run)
        runs.close()


@st.composite
def pieces(draw):
    """Rows of some pieces: chunks, with places drawn for each row, some rows left out."""
    groups = draw(st.integers(1, 5))
    found, number = [], 0
    for _ in range(draw(st.integers(1, 4))):
        chunks = []
        for _ in range(draw(st.integers(0, 3))):
            metadata = draw(metadata_rows(max_size=6))
            numbers = []
            for _ in metadata:
                number += draw(st.integers(1, 2))  # a row that is left out takes a number too
                numbers.append(number)
            names = [draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3))
                     for _ in metadata]  # fmt: skip
            some = [draw(st.integers(0, groups - 1)) for _ in metadata]
            chunks.append((names, numbers, metadata, [7 * g + len(names) for g in some], some))
        found.append(chunks)
        number += 1
    return groups, found


@settings(max_examples=examples(60, least=25), deadline=None)
@given(pieces(), st.booleans())
def test_what_runs_hold_comes_back_group_by_group(made, keyed):
    """A group's rows, out of all runs, are those that were sent there, in order of numbers."""
    groups, every = made
    store = CountingStore(MemoryStore())
    plan = plan_of([sum(len(chunk[0]) for chunk in chunks) for chunks in every], keyed=keyed)
    model = {}
    written(store, plan, every, groups=groups)
    for chunks in every:
        for names, numbers, metadata, clusters, some in chunks:
            for i, number in enumerate(numbers):
                name = names[i] if keyed else str(number)
                model[number] = (name, metadata[i], clusters[i], some[i])
    seen = []
    for group in range(groups):
        before, mine = store.counts(), []
        for run in read_group(store, BUILD, plan, group, dimension=DIMENSION):
            assert len(run.rows)
            for i, number in enumerate(run.numbers.tolist()):
                found = run.rows.keys[i], run.rows.metadata[i], int(run.clusters[i]), group
                assert found == model[number]
                expected = batch_of(["x"], [number]).vectors[0]
                assert np.array_equal(run.rows.vectors[i], expected)
            mine += run.numbers.tolist()
        assert (store.counts() - before).requests <= len(every) + -(-len(every) // 2)
        assert mine == sorted(mine)
        seen += mine
    assert sorted(seen) == sorted(model)


def test_runs_and_their_directories_are_containers():
    """Any reader of safetensors can open them, and finds what they are in their headers."""
    store, _ = small()
    found = list(store.list(f"builds/{BUILD}/runs/")) + list(store.list(f"builds/{BUILD}/keys/"))
    kinds = []
    for info in found:
        data = store.get(info.key)
        layout = read_layout(data, where=info.key, total_bytes=len(data))
        kinds.append(layout.header["kind"])
    assert sorted(kinds) == ["build-keys", "build-keys", "build-keys-directory", "build-run",
                             "build-run", "build-run-directory"]  # fmt: skip


def small():
    store = MemoryStore()
    plan = plan_of([2, 1])
    first = [(["a", "b"], [0, 1], [{"x": 1}, {}], [3, 4], [0, 1])]
    written(store, plan, [first, [(["c"], [2], None, [3], [0])]], groups=2)
    return store, plan


@pytest.mark.parametrize("name", [RUNS, f"{RUNS}/directories"])
def test_every_flipped_bit_of_a_run_is_noticed_or_does_no_harm(name):
    """What comes back of a damaged run is what was written, or an error that says what to do."""
    store, plan = small()
    key = keys.part_key(BUILD, name, 0)
    good = bytes(store.get(key))
    expected = _contents(store, plan)
    noticed = 0
    for at in range(0, len(good), 3):
        damaged = bytearray(good)
        damaged[at] ^= 1 << at % 8
        store.put(key, damaged)
        try:
            found = _contents(store, plan)
        except ChecksumError as error:
            assert error.object_key == key
            assert "start the build anew" in str(error)
            noticed += 1
        else:
            assert found == expected
    assert noticed


def _contents(store, plan):
    return [
        (run.numbers.tolist(), run.clusters.tolist(), run.rows.keys, run.rows.metadata,
         run.rows.vectors.tolist())
        for group in range(2)
        for run in read_group(store, BUILD, plan, group, dimension=DIMENSION)
    ]  # fmt: skip


def test_a_run_of_another_place_or_shape_is_refused():
    """A run or directory of another piece or build, or none at all, is never taken."""
    store, plan = small()
    first, second = (keys.part_key(BUILD, RUNS, piece) for piece in (0, 1))
    store.put(first, store.get(second))
    with pytest.raises(ChecksumError, match="start the build anew"):
        _contents(store, plan)
    store.delete([first])
    with pytest.raises(ChecksumError, match=r"missing.*start the build anew"):
        _contents(store, plan)
    store.put(first, b"too short")
    with pytest.raises(ChecksumError, match="start the build anew"):
        _contents(store, plan)
    store, plan = small()
    with pytest.raises(ChecksumError, match="start the build anew"):
        list(read_group(store, BUILD, plan, 2, dimension=DIMENSION))
    directory = keys.part_key(BUILD, f"{RUNS}/directories", 0)
    store.put(directory, store.get(keys.part_key(BUILD, f"{KEYS}/directories", 0)))
    with pytest.raises(ChecksumError, match="start the build anew"):
        _contents(store, plan)


KEY_LETTERS = "abcdefgh"


@settings(max_examples=examples(80, least=25), deadline=None)
@given(
    st.lists(
        st.lists(st.text(KEY_LETTERS, min_size=1, max_size=1), max_size=8), min_size=1, max_size=5
    ),
    st.integers(1, 4),
)
def test_of_rows_with_one_key_the_last_one_stays(names, ranges):
    """Over all ranges, the rows replaced are those that a dict would lose; each is named once."""
    store = CountingStore(MemoryStore())
    plan = plan_of([len(some) for some in names], key_ranges=ranges)
    store.put(keys.plan_key(BUILD), json.dumps(plan.to_json()).encode())
    last, number, rows, every = {}, 0, 0, []
    for some in names:
        numbers = list(range(number, number + len(some)))
        last.update(zip(some, numbers, strict=True))
        number += len(some)
        nowhere = [0] * len(some)
        every.append([(some, numbers, None, nowhere, nowhere)])
    written(store, plan, every, groups=1)
    gone = sorted(set(range(number)) - set(last.values()))
    replaced = 0
    for k in range(ranges):
        report = keys_task.run(context_of(store), request_of(), k)
        rows += report.rows
        replaced += report.replaced
    assert rows == number
    assert read_replaced(store, BUILD, plan).tolist() == gone
    assert replaced == len(gone)


def context_of(store, **more):
    return BuildContext(
        store=store, config=None, open_inputs=None, clock=None, ids=None, scratch=None, **more
    )


def request_of(**more):
    fields = dict.fromkeys(BuildRequest.__slots__)
    return BuildRequest(**{**fields, "build": BUILD, "index": "i", "inputs": (), **more})


@settings(max_examples=examples(60, least=25), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=20))
def test_hashes_that_share_their_first_half_are_told_apart(halves):
    """Only rows of equal hashes replace each other, each the row that the last one is named for."""
    table = np.array([(*half, i) for i, half in enumerate(halves)], dtype=np.uint64).reshape(-1, 3)
    replaced, by = keys_task.replaced_rows(table)
    last = {half: i for i, half in enumerate(halves)}
    expected = [(i, last[half]) for i, half in enumerate(halves) if last[half] != i]
    assert list(zip(replaced.tolist(), by.tolist(), strict=True)) == expected


def test_hashes_lie_in_the_range_that_their_first_bits_say():
    """All hashes come back, each in one range, ranges ascending by hash."""
    store = MemoryStore()
    plan = plan_of([500], key_ranges=7)
    names = [f"key {i}" for i in range(500)]
    nowhere = [0] * 500
    written(store, plan, [[(names, list(range(500)), None, nowhere, nowhere)]], groups=1)
    found = np.concatenate([part for k in range(7) for part in read_hashes(store, BUILD, plan, k)])
    order = found[:, 2].astype(np.int64)
    assert np.array_equal(found[:, :2], hash_keys(names)[order])
    assert np.array_equal(found[:, 0], np.sort(found[:, 0]))
    for k in range(7):
        for part in read_hashes(store, BUILD, plan, k):
            assert ((part[:, 0] >> np.uint64(32)) * np.uint64(7) >> np.uint64(32) == k).all()


def test_a_damaged_list_of_replaced_rows_is_refused():
    """A list that is missing, or of which a bit differs, is never taken for an empty one."""
    store, plan = MemoryStore(), plan_of([3])
    key = keys.part_key(BUILD, "replaced", 0)
    with pytest.raises(ChecksumError, match="missing: start the build anew"):
        read_replaced(store, BUILD, plan)
    data = bytearray(replaced_object(np.array([1, 2])))
    store.put(key, data)
    assert read_replaced(store, BUILD, plan).tolist() == [1, 2]
    data[-64] ^= 1
    store.put(key, data)
    with pytest.raises(ChecksumError, match="start the build anew"):
        read_replaced(store, BUILD, plan)
