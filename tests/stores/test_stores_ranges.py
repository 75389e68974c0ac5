"""A read plan covers every range, wastes little, and gives back exactly what was asked."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from amounts import examples
from squash.storage import plan_reads
from squash.storage.ranges import GAP_BYTES_MAX, READ_BYTES_MAX, SPARE_BYTES_MAX

LENGTH = 300
RANGES = st.lists(
    st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)).map(lambda pair: tuple(sorted(pair))),
    max_size=12,
)


@settings(max_examples=examples(300, least=25))
@given(RANGES, st.integers(0, 40), st.integers(0, 90), st.integers(1, 80))
def test_plan(ranges, gap_max, spare_max, read_max):
    """Reads are disjoint, ascending, bounded; apart by more than the gap unless they adjoin."""
    data = bytes(i % 251 for i in range(LENGTH))
    plan = plan_reads(ranges, gap_max=gap_max, spare_max=spare_max, read_max=read_max)
    got = plan.assemble([data[start:stop] for start, stop in plan.reads])
    assert [bytes(part) for part in got] == [data[start:stop] for start, stop in ranges]
    for start, stop in plan.reads:
        assert 0 < stop - start <= read_max
    for (_, stop), (start, _) in zip(plan.reads, plan.reads[1:], strict=False):
        assert start == stop or start - stop > gap_max
    wanted = {at for start, stop in ranges for at in range(start, stop)}
    read = [at for start, stop in plan.reads for at in range(start, stop)]
    assert len(read) == len(set(read)) == plan.read_bytes
    assert wanted <= set(read)
    runs = []
    extra = sorted(set(read) - wanted)
    for i, at in enumerate(extra):
        if i and extra[i - 1] == at - 1:
            runs[-1] += 1
        else:
            runs.append(1)
    spent = sum(run for run in runs if run > gap_max)
    assert spent <= spare_max
    left = [b[0] - a[1] for a, b in zip(plan.extents, plan.extents[1:], strict=False)]
    assert all(gap > spare_max - spent for gap in left)


def test_the_limits_as_set():
    """Gaps of exactly the limits are read over; eight MiB are one read, one byte more are two."""
    assert len(plan_reads([(0, 1), (1 + SPARE_BYTES_MAX, 2 + SPARE_BYTES_MAX)]).reads) == 1
    assert len(plan_reads([(0, 1), (2 + SPARE_BYTES_MAX, 3 + SPARE_BYTES_MAX)]).reads) == 2
    steps = [at * (1 + GAP_BYTES_MAX) for at in range(100)]
    assert len(plan_reads([(at, at + 1) for at in steps]).extents) == 1
    steps = [at * (2 + GAP_BYTES_MAX) for at in range(100)]
    assert len(plan_reads([(at, at + 1) for at in steps]).reads) == 100 - 3
    assert len(plan_reads([(5, 5 + READ_BYTES_MAX)]).reads) == 1
    assert len(plan_reads([(5, 6 + READ_BYTES_MAX)]).reads) == 2
    assert plan_reads([(4, 4)]).reads == ()


@pytest.mark.parametrize("bad", [(-1, 2), (3, 2), (-2, -1)])
def test_no_ranges(bad):
    """A range that cannot be is refused."""
    with pytest.raises(ValueError, match="no range"):
        plan_reads([(0, 1), bad])
