"""Every variant of the native kernels gives the bits of its NumPy twin."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from cluster_tables import (
    LIST_CODE,
    cluster_words,
    random_leaf,
    random_program,
    random_table,
    shifted,
)
from squash.errors import InternalError
from squash.kernels import (
    UNANCHORED,
    HadamardRotation,
    cells_of,
    filter_clusters,
    filter_sample,
    native,
    prepare,
    top_k,
    walk,
)
from squash.kernels.batching import search_many
from squash.kernels.native_table import refresh
from squash.kernels.outcomes import Missing
from squash.kernels.search_rooms import SearchPlan, Straight
from squash.kernels.searching import search
from squash.kernels.tables import AND, LEAF, NOT, FilterProgram

# Around every width of register, block and stack.
SIZES = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257]
ROWS = [*SIZES, 511, 512, 513, 1023, 1024, 1025, 2050]
DIMENSIONS = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 129, 511, 1030]

NATIVE = native.variants()[1:]

pytestmark = pytest.mark.skipif(not NATIVE, reason="no native kernels were built here")


@pytest.fixture(params=NATIVE)
def variant(request):
    return request.param


def same(got, wanted):
    """Assert that two results have the same fields with the same bits."""
    for item in dataclasses.fields(wanted):
        left, right = getattr(got, item.name), getattr(wanted, item.name)
        if isinstance(right, np.ndarray):
            assert left.dtype == right.dtype, item.name
            assert left.shape == right.shape, item.name
            assert left.tobytes() == right.tobytes(), item.name
        else:
            assert left == right, item.name


def both(variant, call):
    """Return what a call gives under a variant and under the twins."""
    with native.use(variant):
        got = call()
    with native.use(native.NUMPY):
        return got, call()


seeds = st.integers(0, 1 << 32)


def run_prepare(variant, seed, *, dimension, vector_dimension, clusters, space):
    rng = np.random.default_rng(seed)
    table = random_table(rng, np.zeros(clusters), dimension=dimension, space=space)
    axes = shifted(rng.standard_normal((dimension, vector_dimension)).astype(np.float32), 4)
    rotations = [axes]
    if dimension == vector_dimension:
        rotations.append(HadamardRotation.random(dimension, seed))
    mean = shifted(rng.standard_normal(vector_dimension).astype(np.float32), 4)
    query = shifted(rng.standard_normal(vector_dimension).astype(np.float32), 12)
    for rotation, unit in product(rotations, (False, True)):

        def prepared(rotation=rotation, unit=unit):
            return prepare(table, rotation, mean, query, unit=unit)

        same(*both(variant, prepared))


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_prepare_has_the_twins_bits_at_every_dimension(variant, dimension):
    """Dimensions around every register width, projected ones and others, in both spaces."""
    for space in ("l2", "dot"):
        run_prepare(
            variant, dimension, dimension=dimension, vector_dimension=9, clusters=5, space=space
        )
        run_prepare(
            variant, dimension, dimension=5, vector_dimension=dimension, clusters=1, space=space
        )
        run_prepare(
            variant, 3, dimension=dimension, vector_dimension=dimension, clusters=1, space=space
        )


@given(
    seed=seeds,
    dimension=st.integers(1, 1030),
    vector_dimension=st.integers(1, 300),
    clusters=st.sampled_from(SIZES),
    space=st.sampled_from(["l2", "dot"]),
)
@settings(max_examples=examples(40, least=25), deadline=None)
def test_prepare_has_the_twins_bits(seed, dimension, vector_dimension, clusters, space):
    """Any sizes give the same bits in every variant."""
    for variant in NATIVE:
        run_prepare(
            variant,
            seed,
            dimension=dimension,
            vector_dimension=vector_dimension,
            clusters=clusters,
            space=space,
        )


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e15])
def test_prepare_of_extreme_queries(variant, scale):
    """Queries of zero, tiny and the largest allowed length."""
    rng = np.random.default_rng(0)
    table = random_table(rng, np.zeros(7), dimension=21)
    axes = rng.standard_normal((21, 21)).astype(np.float32)
    query = (rng.standard_normal(21) * scale).astype(np.float32)
    mean = np.zeros(21, dtype=np.float32)
    got, wanted = both(variant, lambda: prepare(table, axes, mean, query))
    same(got, wanted)
    assert got.entries.any() == (scale > 0)


def run_filter(table, program, clusters, every):
    bitmaps = [np.full(len(table.alive), 0x5A5A5A5A, dtype=np.uint32) for _ in range(2)]
    counts = filter_clusters(table, program, clusters, *bitmaps)
    return [*counts, *bitmaps, filter_sample(table, program, every)]


def same_filter(variant, table, program, clusters, every=3):
    got, wanted = both(variant, lambda: run_filter(table, program, clusters, every))
    assert got[-1] == wanted[-1]
    for left, right in zip(got[:-1], wanted[:-1], strict=True):
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()


@pytest.mark.parametrize("attribute", ["plain", "absent", "listed", "unknown"])
def test_filter_leaf_has_the_twins_bits_at_every_size(variant, attribute):
    """Clusters of rows around every register width; all of them, none, and in any order."""
    rng = np.random.default_rng(1)
    table = random_table(rng, ROWS)
    program = FilterProgram(((LEAF, 0),), (random_leaf(rng, attribute),))
    for count in (0, 1, len(ROWS)):
        same_filter(variant, table, program, rng.permutation(len(ROWS))[:count])


def test_filter_has_every_code_right(variant):
    """Each of the 256 codes is looked up by itself."""
    rng = np.random.default_rng(2)
    table = random_table(rng, [256], partitions=1, dead=0.0)
    table.columns["plain"][0][:] = np.arange(256)
    for code in range(256):
        truth = bytearray(256)
        truth[code] = 2 if code % 3 else 1
        leaf = dataclasses.replace(random_leaf(rng, "plain"), truth=bytes(truth))
        program = FilterProgram(((LEAF, 0),), (leaf,))
        same_filter(variant, table, program, np.array([0]))


@given(
    seed=seeds,
    rows=st.lists(st.sampled_from(ROWS), max_size=12),
    leaves=st.integers(1, 9),
    every=st.integers(1, 5),
)
@settings(max_examples=examples(60, least=25), deadline=None)
def test_filter_has_the_twins_bits(seed, rows, leaves, every):
    """Any program over any clusters, lists and missing columns among them."""
    rng = np.random.default_rng(seed)
    table = random_table(rng, rows)
    program = random_program(rng, leaves)
    clusters = rng.permutation(len(rows))[: int(rng.integers(0, len(rows) + 1))]
    for variant in NATIVE:
        same_filter(variant, table, program, clusters, every)


def test_filter_sees_what_was_put_in(variant):
    """A column put in after the first filter is seen after `refresh`."""
    rng = np.random.default_rng(3)
    table = random_table(rng, [40, 50], partitions=1)
    program = random_program(rng, 1)
    program = FilterProgram(program.operations, (random_leaf(rng, "unknown"),))
    same_filter(variant, table, program, np.arange(2))
    table.columns["unknown"] = [rng.integers(0, 256, 90).astype(np.uint8)]
    refresh(table, 0)
    same_filter(variant, table, program, np.arange(2))
    table.columns["unknown"][0] = rng.integers(0, 256, 90).astype(np.uint8)
    refresh(table, 0)
    same_filter(variant, table, program, np.arange(2))


@pytest.mark.parametrize(
    "operations", [[], [(AND, 0)], [(LEAF, 1)], [(LEAF, -1)], [(LEAF, 0)] * 2, [(NOT, 0)], [(9, 0)]]
)
def test_filter_refuses_a_program_that_is_none(variant, operations):
    """What is not a postfix list of known operations never reaches the native code."""
    rng = np.random.default_rng(4)
    table = random_table(rng, [40])
    program = FilterProgram(tuple(operations), (random_leaf(rng, "plain"),))
    with native.use(variant), pytest.raises(InternalError, match="filter program"):
        filter_sample(table, program, 1)


def walk_arguments(rng, *, k):
    return {
        "k": k,
        "overall": float(rng.random()) * 0.5 + 1e-3,
        "prior_rows": 1_024.0,
        "thinning": float(rng.random()),
        "inverse_need": rng.random(513) * float(rng.choice([0.001, 0.02, 0.5])),
        "adverse": np.sort(rng.random(513)),
        "anchor_rows": int(rng.choice([0, 1, 10, 300, UNANCHORED])),
        "need_against": float(rng.choice([1.0, 1.3, 20.0])),
        "exponent": int(rng.integers(0, 5)),
    }


def random_distances(rng, count):
    """Return distances with ties, zeros of both signs, and now and then infinity."""
    kind = int(rng.integers(0, 3))
    if kind == 0:
        return rng.standard_normal(count).astype(np.float32)
    tied = rng.integers(-4, 5, count).astype(np.float32)
    tied[rng.random(count) < 0.1] = -0.0
    tied[rng.random(count) < 0.02] = np.inf if kind == 1 else np.nan
    return tied


@given(
    seed=seeds,
    count=st.one_of(st.sampled_from(SIZES), st.sampled_from([300, 1000, 2500])),
    k=st.sampled_from([0, 1, 10, 100, 10_000]),
    rows_max=st.sampled_from([1, 40, 70]),
)
@settings(max_examples=examples(60, least=25), deadline=None)
def test_walk_has_the_twins_bits(seed, count, k, rows_max):
    """With a filter, with counts, and with neither, whatever the distances and the need."""
    rng = np.random.default_rng(seed)
    table = random_table(rng, rng.integers(0, rows_max + 1, count))
    program = random_program(rng, int(rng.integers(1, 4)))
    distances = random_distances(rng, count)
    arguments = walk_arguments(rng, k=k)
    bitmaps = [np.zeros(len(table.alive), dtype=np.uint32) for _ in range(2)]
    counts = filter_clusters(table, program, np.arange(count), *bitmaps)
    for variant in NATIVE:
        same(*both(variant, lambda: walk(table, distances, **arguments)))
        counted = both(variant, lambda: walk(table, distances, counts=counts, **arguments))
        same(*counted)
        with native.use(variant):
            sure, possible = (np.zeros_like(bitmap) for bitmap in bitmaps)
            filtered = walk(
                table, distances, program=program, sure=sure, possible=possible, **arguments
            )
        same(filtered, counted[1])
        for written, wanted in zip((sure, possible), bitmaps, strict=True):
            got = cluster_words(table, written, filtered.clusters)
            assert got.tolist() == cluster_words(table, wanted, filtered.clusters).tolist()


@given(
    seed=seeds,
    count=st.sampled_from([255, 256, 257, 700, 2500]),
    dimension=st.sampled_from([1, 3, 4, 17, 64, 129]),
    space=st.sampled_from(["l2", "dot"]),
    scale=st.sampled_from([1.0, 1e-3, 1e-14, 1e-25, 1e14, 1e16]),
)
@settings(max_examples=12, deadline=None)
def test_search_takes_the_twins_clusters(seed, count, dimension, space, scale):
    """Centers that are only bounded from below are taken in no other order, ties included."""
    rng = np.random.default_rng(seed)
    table = random_table(rng, rng.integers(0, 40, count), dimension=dimension, space=space)
    # Some lie on one another; some are far longer than others.
    table.centers = table.centers[rng.integers(0, int(rng.choice([3, count])), count)]
    table.centers *= rng.choice([0.0, 0.01, 1.0, 7.0], (count, 1)).astype(np.float32)
    table.centers *= np.float32(scale)
    rotation = np.eye(dimension, dtype=np.float32)
    if rng.integers(2):
        rotation = HadamardRotation.random(dimension, seed)
    mean = table.centers.mean(axis=0)
    queries = rng.standard_normal((4, dimension)).astype(np.float32) * np.float32(scale)
    queries[1] = table.centers[7]
    queries[2] = 0
    walked = walk_arguments(rng, k=int(rng.choice([1, 100, 10_000])))
    k, overall = walked.pop("k"), walked.pop("overall")
    plan = SearchPlan(k=k, keep=k, reach=1.0, share_min=0.1, straight=Straight(0, 0, 0), **walked)
    bitmaps = {"sure": table.alive.copy(), "possible": table.alive.copy()}
    asked = {"metric": "euclidean", "plan": plan, **bitmaps}

    def ask(i):
        found = search(table, rotation, mean, query=queries[i], overall=overall, **asked)
        assert isinstance(found, Missing)  # nothing but the clusters is there
        return found.taken.tolist()

    with native.use(native.NUMPY):
        wanted = [ask(i) for i in range(len(queries))]
    for variant in NATIVE:
        with native.use(variant):
            assert [ask(i) for i in range(len(queries))] == wanted
            many = search_many(
                table, rotation, mean, queries=queries,
                overall=np.full(len(queries), overall), programs=[None] * len(queries), **asked,
            )  # fmt: skip
            assert [one.taken.tolist() for one in many] == wanted


def test_walk_with_a_filter_wants_bitmaps(variant):
    """There must be somewhere to write."""
    rng = np.random.default_rng(5)
    table = random_table(rng, [40])
    program = random_program(rng, 1)
    with native.use(variant), pytest.raises(InternalError, match="bitmaps"):
        walk(table, np.zeros(1, np.float32), program=program, **walk_arguments(rng, k=1))


@given(
    seed=seeds,
    count=st.one_of(st.sampled_from(SIZES), st.sampled_from([1000, 70_000])),
    k=st.sampled_from(SIZES),
    dtype=st.sampled_from([np.float32, np.float64, np.int64]),
)
@settings(max_examples=examples(80, least=25), deadline=None)
def test_top_k_has_the_twins_places(seed, count, k, dtype):
    """Ties, zeros of both signs and NaN included."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-9, 9, count).astype(dtype)
    if dtype != np.int64 and rng.random() < 0.7:
        values = rng.standard_normal(count).astype(dtype) if rng.random() < 0.4 else values
        values[rng.random(count) < 0.2] = -0.0
        values[rng.random(count) < 0.2] = np.nan
        values[rng.random(count) < 0.1] = np.inf
        values[rng.random(count) < 0.1] = -np.inf
    for variant in NATIVE:
        for array in (values, np.repeat(values, 2)[::2]):
            got, wanted = both(variant, lambda array=array: top_k(array, k))
            assert got.dtype == wanted.dtype == np.int64
            assert got.tolist() == wanted.tolist()


def test_two_threads_may_ask_one_table(variant):
    """Calls at the same time don't write over one another."""
    rng = np.random.default_rng(6)
    table = random_table(rng, rng.integers(0, 90, 700), dimension=30)
    axes = rng.standard_normal((30, 30)).astype(np.float32)
    mean = np.zeros(30, dtype=np.float32)
    program = random_program(rng, 4)
    arguments = walk_arguments(rng, k=100)
    queries = rng.standard_normal((40, 30)).astype(np.float32)

    def ask(query):
        prepared = prepare(table, axes, mean, query)
        sure, possible = np.zeros_like(table.alive), np.zeros_like(table.alive)
        taken = walk(
            table,
            prepared.distances,
            program=program,
            sure=sure,
            possible=possible,
            **arguments,
        )
        return prepared, taken

    with native.use(variant):
        alone = [ask(query) for query in queries]
        with ThreadPoolExecutor(4) as pool:
            for _ in range(5):
                for got, wanted in zip(pool.map(ask, queries), alone, strict=True):
                    same(got[0], wanted[0])
                    same(got[1], wanted[1])


def test_list_code_means_nothing_without_lists(variant):
    """A leaf that knows no lists takes the list code's own truth."""
    rng = np.random.default_rng(7)
    table = random_table(rng, [100], partitions=1)
    leaf = random_leaf(rng, "listed")
    truth = bytearray(leaf.truth)
    truth[LIST_CODE] = 2
    leaf = dataclasses.replace(leaf, list_code=-1, truth=bytes(truth))
    program = FilterProgram(((LEAF, 0),), (leaf,))
    same_filter(variant, table, program, np.array([0]))


def test_cells_do_not_depend_on_the_variant(variant):
    """`cells_of` has no native form; a walk finds the same cells by itself at every edge."""
    rng = np.random.default_rng(8)
    table = random_table(rng, [1], dead=0.0)
    for share in np.geomspace(2.0**-18, 2.0, 200):
        arguments = walk_arguments(rng, k=0) | {"overall": float(share), "prior_rows": 0.0}
        arguments["inverse_need"] = np.ones(513)
        arguments["adverse"] = (np.arange(513) == cells_of(np.array(1.0 / share))) * 1.0
        got, wanted = both(variant, lambda a=arguments: walk(table, np.zeros(1, np.float32), **a))
        same(got, wanted)
