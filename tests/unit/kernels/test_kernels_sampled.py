"""What is copied and listed of a table's cells serves on when the cells' values come in."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from cluster_tables import random_program, random_table
from squash.kernels import (
    FilterProgram,
    filter_clusters,
    filter_listed,
    filter_sample,
    list_rows,
    native,
    refresh,
)

EVERY = 1 << 40


def without_intervals(program):
    """Return a program that asks cells alone."""
    leaves = tuple(replace(leaf, intervals=None) for leaf in program.leaves)
    return FilterProgram(program.operations, leaves)


def asked(table, program):
    """Return what a sample says, and what lists find of all rows, if they say it."""
    bits = [np.zeros(len(table.alive), dtype=np.uint32) for _ in range(2)]
    sampled = filter_sample(table, program, 2)
    found = filter_listed(table, program, EVERY, *bits)
    return sampled, None if found is None else [one.tolist() for one in found]


@given(seed=st.integers(0, 2**32 - 1), leaves=st.integers(1, 4))
@settings(max_examples=examples(30, least=25), deadline=None)
def test_values_may_come_in_after_cells(seed, leaves):
    """A filter of cells is asked first, then one of numbers: as of a table that had all before."""
    rng = np.random.default_rng(seed)
    whole = random_table(rng, [40, 0, 31, 257, 1025, 64])
    program = random_program(rng, leaves)
    values = dict(whole.values)
    for variant in native.variants():
        with native.use(variant):
            whole.native = None
            every, bits = np.arange(len(whole.rows)), [np.zeros_like(whole.alive) for _ in range(2)]
            wanted = [one.tolist() for one in filter_clusters(whole, program, every, *bits)]
            expected = filter_sample(whole, program, 2)
            whole.native, whole.values, whole.listed = None, {}, {}
            whole.listed = {name: list_rows(whole, name) for name in whole.columns}
            before = asked(whole, without_intervals(program))
            whole.values.update(values)
            for partition in range(len(whole.blocks)):
                refresh(whole, partition)
            sampled, found = asked(whole, program)
            assert sampled == expected
            assert found in (None, wanted)
            assert asked(whole, without_intervals(program)) == before
            whole.listed = {}
