"""The twins of the searching kernels compute what `layers/squash/native/README.md` says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from cluster_tables import random_program, random_table
from squash.kernels import (
    UNANCHORED,
    cell_values,
    cells_of,
    filter_clusters,
    filter_sample,
    native,
    prepare,
    sign_table,
    walk,
)
from squash.kernels.lanes import lanes8, lanes16
from squash.kernels.tables import AND, LEAF, NOT

SIZES = [0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 257]


@pytest.fixture(autouse=True)
def _twins():
    with native.use(native.NUMPY):
        yield


@pytest.mark.parametrize("size", SIZES)
def test_lanes_add_in_their_order(size):
    """Each lane adds its own values in order, and the lanes are folded in halves."""
    values = np.random.default_rng(size).standard_normal((3, size))
    for row, got in zip(values, lanes8(values), strict=True):
        lanes = [0.0] * 8
        for i, x in enumerate(row.tolist()):
            lanes[i % 8] += x
        l0, l1, l2, l3, l4, l5, l6, l7 = lanes
        assert got == ((l0 + l4) + (l2 + l6)) + ((l1 + l5) + (l3 + l7))
    narrow = values.astype(np.float32)
    for row, got in zip(narrow, lanes16(narrow), strict=True):
        lanes = [np.float32(0)] * 16
        for i, x in enumerate(row):
            lanes[i % 16] += x
        for half in (8, 4, 2, 1):
            lanes = [lanes[i] + lanes[i + half] for i in range(half)]
        assert got == lanes[0]
        assert got.dtype == np.float32


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("space", ["l2", "dot"])
@pytest.mark.parametrize("dimension", [1, 4, 21, 64, 65])
def test_prepare_rotates_and_measures(space, dimension, unit):
    """What it gives is, to rounding, what plain algebra says."""
    rng = np.random.default_rng(dimension)
    table = random_table(rng, [1] * 9, dimension=dimension, space=space)
    axes = rng.standard_normal((dimension, 30)).astype(np.float32)
    mean, query = rng.standard_normal((2, 30)).astype(np.float32)
    found = prepare(table, axes, mean, query, unit=unit)
    if unit:
        query = (query / np.linalg.norm(query.astype(np.float64))).astype(np.float32)
    if space == "l2":
        projected = axes.astype(np.float64) @ (query.astype(np.float64) - mean)
        distances = ((table.centers - projected) ** 2).sum(axis=1)
        distances += 0 if table.spreads is None else table.spreads
        assert found.offset == 0.0
    else:
        projected = axes.astype(np.float64) @ query
        distances = -(table.centers @ projected + float(query.astype(np.float64) @ mean))
        assert found.offset == pytest.approx(float(query.astype(np.float64) @ mean))
    np.testing.assert_allclose(found.projected, projected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5, atol=1e-4)
    table_of_signs = sign_table(found.projected)
    assert found.step == pytest.approx(table_of_signs.step, rel=1e-14)
    assert found.base == pytest.approx(table_of_signs.base, rel=1e-14)
    assert np.abs(found.entries.astype(int) - table_of_signs.entries).max() <= 1


def truth_of(table, program, partition, row):
    """Return the truth of one row: 0 no, 1 maybe, 2 yes; by values only if cells do not say."""
    by_cells = one_run(table, program, partition, row, settle=False)
    return one_run(table, program, partition, row, settle=True) if by_cells == 1 else by_cells


def one_run(table, program, partition, row, *, settle):
    stack = []
    for operation, number in program.operations:
        if operation == LEAF:
            leaf = program.leaves[number]
            column = table.columns.get(leaf.attribute, [None] * 9)[partition]
            if column is None:
                stack.append(0)
            elif column[row] != leaf.list_code:
                truth = leaf.truth[column[row]]
                values = table.values.get(leaf.attribute, [None] * 9)[partition]
                if settle and truth == 1 and leaf.intervals is not None and values is not None:
                    numbers, ids = values
                    if ids[row] < len(numbers):
                        value = numbers[ids[row]]
                        truth = 2 * any(low <= value <= high for low, high in leaf.intervals)
                stack.append(truth)
            else:
                signatures = table.signatures[leaf.attribute][partition]
                bits = 0 if signatures is None else int(signatures[row])
                stack.append(2 if bits & leaf.sure_bits else int(bits & leaf.possible_bits != 0))
        elif operation == NOT:
            stack.append(2 - stack.pop())
        else:
            join = min if operation == AND else max
            stack.append(join(stack.pop(), stack.pop()))
    return stack.pop()


@given(
    seed=st.integers(0, 1 << 32),
    rows=st.lists(st.sampled_from([0, 1, 31, 32, 33, 64, 65]), max_size=5),
    leaves=st.integers(1, 5),
    every=st.integers(1, 3),
)
@settings(max_examples=examples(40, least=25), deadline=None)
def test_filter_says_row_by_row_what_is_true(seed, rows, leaves, every):
    """Bitmaps and counts are those of a plain loop; blocks of other clusters are left alone."""
    rng = np.random.default_rng(seed)
    table = random_table(rng, rows)
    program = random_program(rng, leaves)
    asked = np.flatnonzero(rng.random(len(rows)) < 0.7)
    sure, possible = (np.full(len(table.alive), 0xABCD, dtype=np.uint32) for _ in range(2))
    wanted = [sure.copy(), possible.copy()]
    counts = filter_clusters(table, program, asked, sure, possible)
    sample = [0, 0, 0]
    for cluster, count in enumerate(rows):
        truths = [
            truth_of(table, program, table.partition[cluster], table.first_row[cluster] + row)
            * (int(table.alive[table.first_block[cluster] + row // 32]) >> row % 32 & 1)
            for row in range(count)
        ]
        if cluster % every == 0:
            drawn = min(count, 32)
            sampled = [truths[row * count // drawn] for row in range(drawn)]
            sample[0] += drawn
            sample[1] += sampled.count(2)
            sample[2] += drawn - sampled.count(0)
        if cluster not in asked:
            continue
        place = int(np.flatnonzero(asked == cluster)[0])
        assert counts[0][place] == truths.count(2)
        assert counts[1][place] == len(truths) - truths.count(0)
        for begin in range(0, count, 32):
            block = table.first_block[cluster] + begin // 32
            bits = enumerate(truths[begin : begin + 32])
            words = [0, 0]
            for bit, truth in bits:
                words[0] |= (truth == 2) << bit
                words[1] |= (truth != 0) << bit
            wanted[0][block], wanted[1][block] = words
    assert sure.tolist() == wanted[0].tolist()
    assert possible.tolist() == wanted[1].tolist()
    assert filter_sample(table, program, every) == tuple(sample)


def test_cells_are_32_an_octave():
    """Cells ascend from 2^-16 to 1; beyond, and for what is no share, they end."""
    values = cell_values()
    assert len(values) == 513
    assert values[0] == 2.0**-16
    assert values[-1] == 1.0
    assert cells_of(values).tolist() == list(range(513))
    below = np.nextafter(values.astype(np.float32), np.float32(0))
    assert cells_of(below.astype(np.float64)).tolist() == [0, *range(512)]
    assert math.isclose(values[32] / values[0], 2.0)
    odd = np.array([0.0, -0.0, -1.0, np.nan, -np.inf, 1e-300, 1.5, np.inf, 1e300])
    assert cells_of(odd).tolist() == [0, 0, 0, 0, 0, 0, 512, 512, 512]


def plain_walk(table, distances, counts, *, k, **given):
    """Walk as the page says it, cluster after cluster."""
    taken, met, met_here, need, enough, anchor = [], 0.0, 0.0, 1.0, False, None
    rows = sure = possible = 0
    prior = given["prior_rows"] * given["overall"]
    for i in sorted(range(len(distances)), key=lambda i: (distances[i], i)):
        own_sure, own_possible = int(counts[0][i]), int(counts[1][i])
        rows += int(table.rows[i])
        sure += own_sure
        possible += own_possible
        if table.rows[i] == 0:
            continue
        if own_possible > 0:
            taken.append((i, own_sure, own_possible))
        around = (possible + prior) / (rows + given["prior_rows"])
        own = (own_possible + prior) / (int(table.rows[i]) + given["prior_rows"])
        share = np.array(min(around, own) * given["thinning"])
        fullness = (own_possible + 1) / (given["overall"] * int(table.rows[i]) + 1)
        weight, distance = 1.0, float(distances[i])
        if anchor is not None and anchor != 0:
            weight = math.prod([min(max(distance / anchor, 1.0), 4.0)] * given["exponent"])
        elif anchor is not None:
            weight = 4.0 ** given["exponent"] if distance > 0 else 1.0
        elif possible >= given["anchor_rows"]:
            anchor = distance
            expected = given["overall"] * (rows - int(table.rows[i])) + 10
            passed = possible - own_possible + 10
            need = min(max(expected / (2 * passed), 1.0), given["need_against"])
        met_here += (
            given["inverse_need"][cells_of(np.array(own * given["thinning"]))]
            * min(fullness, 1.0)
            * weight
        )
        met += given["inverse_need"][cells_of(share)] * min(fullness, 1.0) * weight
        against = given["adverse"][cells_of(np.array(around / given["overall"]))]
        enough = enough or met * against >= 1.0 - 1e-9
        if enough and met_here >= need * (1.0 - 1e-9) and sure >= k:
            break
    return taken, (rows, possible, sure)


@given(
    seed=st.integers(0, 1 << 32),
    count=st.sampled_from([0, 1, 2, 63, 64, 65, 200, 300]),
    k=st.sampled_from([0, 1, 10, 300, 10_000]),
    gain=st.sampled_from([0.0, 0.003, 0.05, 2.0]),
    anchor_rows=st.sampled_from([0, 1, 10, 300, UNANCHORED]),
    exponent=st.integers(0, 4),
    need_against=st.sampled_from([1.0, 1.7, 30.0]),
)
@settings(max_examples=examples(60, least=25), deadline=None)
def test_walk_takes_what_a_plain_loop_takes(
    seed, count, k, gain, anchor_rows, exponent, need_against
):
    """The lots in which the twin looks at clusters change nothing."""
    rng = np.random.default_rng(seed)
    table = random_table(rng, rng.integers(0, 50, count))
    distances = rng.integers(-20, 20, count).astype(np.float32)
    program = random_program(rng, 2)
    sure, possible = np.zeros_like(table.alive), np.zeros_like(table.alive)
    counts = filter_clusters(table, program, np.arange(count), sure, possible)
    given_ = {
        "k": k,
        "overall": 0.3,
        "prior_rows": 1_024.0,
        "thinning": 0.7,
        "inverse_need": rng.random(513) * gain,
        "adverse": np.sort(rng.random(513)),
        "need_against": need_against,
        "anchor_rows": anchor_rows,
        "exponent": exponent,
    }
    live = (table.alive_counts, table.alive_counts)
    for chosen, found in (
        (live, walk(table, distances, **given_)),
        (counts, walk(table, distances, counts=counts, **given_)),
        (
            counts,
            walk(table, distances, program=program, sure=sure, possible=possible, **given_),
        ),
    ):
        taken, seen = plain_walk(table, distances, chosen, **given_)
        got = zip(
            found.clusters.tolist(),
            found.sure_counts.tolist(),
            found.possible_counts.tolist(),
            strict=True,
        )
        assert list(got) == taken
        assert (found.rows_seen, found.possible_seen, found.sure_seen) == seen
