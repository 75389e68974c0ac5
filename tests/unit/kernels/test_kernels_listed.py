"""Filters by lists of rows find what filters of all rows find."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from cluster_tables import cluster_words, random_leaf, random_program, random_table
from squash.kernels import (
    AND,
    LEAF,
    NOT,
    OR,
    FilterProgram,
    filter_clusters,
    filter_listed,
    list_rows,
    native,
)

EVERY = 1 << 40
ROWS = [0, 1, 31, 32, 33, 64, 65, 255, 257, 1025]


def listed_table(rng, rows, names):
    table = random_table(rng, rows)
    for name in names:
        table.listed[name] = list_rows(table, name)
    return table


def bitmaps_of(table):
    return [np.full(len(table.alive), 0x5A5A5A5A, dtype=np.uint32) for _ in range(2)]


def check(variant, table, program):
    """Assert that lists give the counts and the bits of all rows; return whether they gave any."""
    every = np.arange(len(table.rows))
    with native.use(variant):
        wanted_bits, bits = bitmaps_of(table), bitmaps_of(table)
        wanted = filter_clusters(table, program, every, *wanted_bits)
        found = filter_listed(table, program, EVERY, *bits)
    if found is None:
        assert all((bitmap == 0x5A5A5A5A).all() for bitmap in bits)
        return False
    for left, right in zip(found, wanted, strict=True):
        assert left.dtype == right.dtype
        assert left.tolist() == right.tolist()
    some = np.flatnonzero(wanted[1])
    for left, right in zip(bits, wanted_bits, strict=True):
        assert (cluster_words(table, left, some) == cluster_words(table, right, some)).all()
        others = np.flatnonzero(wanted[1] == 0)
        assert (cluster_words(table, left, others) == 0x5A5A5A5A).all()
    return True


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.lists(st.sampled_from(ROWS), max_size=8),
    leaves=st.integers(1, 6),
    listed=st.sets(st.sampled_from(["plain", "absent", "listed"])),
)
@settings(max_examples=examples(60, least=25), deadline=None)
def test_lists_find_what_filtering_all_rows_finds(seed, rows, leaves, listed):
    """Any program, with lists of some attributes: all variants give the same, or nothing alike."""
    rng = np.random.default_rng(seed)
    table = listed_table(rng, rows, sorted(listed))
    program = random_program(rng, leaves)
    assert len({check(variant, table, program) for variant in native.variants()}) == 1


@pytest.mark.parametrize("variant", native.variants())
def test_what_lists_can_say(variant):
    """One listed part of a conjunction suffices, all of a disjunction are needed."""
    rng = np.random.default_rng(5)
    table = listed_table(rng, [257, 33, 1025], ["plain"])
    plain, absent = random_leaf(rng, "plain"), random_leaf(rng, "absent")

    def says(*operations):
        program = FilterProgram(operations, (plain, absent))
        return check(variant, table, program)

    assert says((LEAF, 0))
    assert says((LEAF, 0), (LEAF, 1), (AND, 0))
    assert says((LEAF, 1), (LEAF, 0), (AND, 0))
    assert says((LEAF, 1), (NOT, 0), (LEAF, 0), (AND, 0))
    assert not says((LEAF, 0), (LEAF, 1), (OR, 0))
    assert not says((LEAF, 0), (NOT, 0))
    table.listed["absent"] = list_rows(table, "absent")
    assert says((LEAF, 0), (LEAF, 1), (OR, 0))


@pytest.mark.parametrize("variant", native.variants())
def test_no_more_rows_are_looked_at_than_may_be(variant):
    """A list of so many rows is taken, of one row more is not."""
    rng = np.random.default_rng(6)
    table = listed_table(rng, [257, 33], ["plain"])
    program = FilterProgram(((LEAF, 0),), (random_leaf(rng, "plain"),))
    with native.use(variant):
        bits = bitmaps_of(table)
        least = next(n for n in range(300) if filter_listed(table, program, n, *bits) is not None)
    assert 0 < least < 290
