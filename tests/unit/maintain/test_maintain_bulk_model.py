"""What training leaves to later tasks, and groups to calibration: kept whole, or refused."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_scene import BUILD, Scene, build, config_of
from squash.attributes import CellScheme, Columns
from squash.errors import ChecksumError, DataError, UnavailableError
from squash.maintain.assembly import finish
from squash.maintain.bulk import keys
from squash.maintain.bulk.assembled import ASSEMBLED, read_assembled, write_assembled
from squash.maintain.bulk.model import (
    BuildModel,
    GroupPlacer,
    group_buckets,
    read_model,
)
from squash.maintain.bulk.outcome import read_outcome
from squash.maintain.bulk.samples import SAMPLE, read_sample
from squash.maintain.routing import Routing
from squash.model import IndexConfig, Metric
from squash.storage import MemoryStore


@pytest.fixture(scope="module")
def built():
    """The store of a build of a few partitions in several groups, and its vectors."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(150, 4)).astype(np.float32)
    names = [f"k{row}" for row in range(150)]
    scene = Scene(config_of(4), names, vectors, [{"n": 1}] * 150, cuts=(40,), group_bytes=2_000)
    return build(scene)[1], vectors


@given(
    rows=st.lists(st.integers(0, 50), min_size=1, max_size=40),
    bytes_max=st.integers(1, 3_000),
    groups_max=st.integers(1, 50),
)
def test_groups_hold_all_buckets_once_and_are_no_larger_than_need_be(rows, bytes_max, groups_max):
    """Each has a bucket at least; two are in one only if they fit, or there would be too many."""
    begins = group_buckets(np.array(rows), row_bytes=8, bytes_max=bytes_max, groups_max=groups_max)
    assert begins[0] == 0
    assert begins[-1] == len(rows)
    assert bool(np.all(np.diff(begins) > 0))
    assert len(begins) - 1 <= groups_max
    if len(rows) <= groups_max:
        for first, last in pairwise(begins.tolist()):
            assert last - first == 1 or 8 * sum(rows[first:last]) <= bytes_max


def test_a_model_read_places_rows_as_it_did(built):
    """Clusters, buckets and groups of all rows agree with each other and with what is stored."""
    store, vectors = built
    model = read_model(store, BUILD, dimension=4)
    again = BuildModel.from_bytes(model.to_bytes(), "model", dimension=4)
    first, second = (GroupPlacer(one, Metric.EUCLIDEAN).place(vectors) for one in (model, again))
    assert model.groups > 1
    assert first.cluster.tolist() == second.cluster.tolist()
    assert first.bucket.tolist() == model.learned.bucket_of_cluster[first.cluster].tolist()
    for bucket, group in zip(first.bucket.tolist(), first.group.tolist(), strict=True):
        assert model.group_begins[group] <= bucket < model.group_begins[group + 1]


def test_what_is_not_there_yet_is_said_so():
    """Later stages wait: nothing is trained, nothing is complete."""
    with pytest.raises(UnavailableError, match="not trained"):
        read_model(MemoryStore(), BUILD, dimension=4)
    with pytest.raises(UnavailableError, match="not complete"):
        read_outcome(MemoryStore(), BUILD)
    with pytest.raises(ChecksumError, match="missing"):
        read_sample(MemoryStore(), BUILD, 0, dimension=4)
    with pytest.raises(ChecksumError, match="missing"):
        read_assembled(MemoryStore(), BUILD, 0, queries=20, dimension=4)


@pytest.mark.parametrize("what", ["model", SAMPLE, ASSEMBLED])
def test_a_changed_bit_is_found(built, what):
    """Whatever bit of an object between stages changes, its reader refuses it."""
    store, _ = built
    key = keys.model_key(BUILD) if what == "model" else keys.part_key(BUILD, what, 0)
    data = bytes(store.get(key))
    readers = {
        "model": lambda held: read_model(held, BUILD, dimension=4),
        SAMPLE: lambda held: read_sample(held, BUILD, 0, dimension=4),
        ASSEMBLED: lambda held: read_assembled(held, BUILD, 0, queries=20, dimension=4),
    }
    for at in range(0, len(data), max(len(data) // 60, 1)):
        held = MemoryStore()
        held.put(key, data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(DataError):
            readers[what](held)


def test_a_share_of_an_earlier_release_is_read(built):
    """It has no ranks; a build that went on with it says nothing of rows to keep."""
    store, _ = built
    share = read_assembled(store, BUILD, 0, queries=20, dimension=4)
    assert share.ranks is not None
    assert np.all(np.diff(share.ranks.estimates, axis=1) >= 0)
    held = MemoryStore()
    write_assembled(held, BUILD, 0, replace(share, ranks=None))
    assert read_assembled(held, BUILD, 0, queries=20, dimension=4).ranks is None
    learned = read_model(store, BUILD, dimension=4).learned
    assert learned is not None
    routing = Routing()
    routing.take(
        [segment.id for segment in share.segments],
        begins=share.begins, centers=share.centers, rows=share.cluster_rows, energy=share.energy,
        sections=share.sections,
    )  # fmt: skip
    config = IndexConfig(name="x", dimension=4, metric=Metric.EUCLIDEAN)
    cells = CellScheme.fit(Columns.from_metadata([{}], non_filterable=()))
    for ranks in (None, share.ranks):
        made = finish(routing, share.neighbours, ranks, learned=learned, cells=cells, config=config)
        assert (made.calibration.kept is None) == (ranks is None)


def test_objects_of_another_build_or_dimension_are_refused(built):
    """A share that lies in another's place, or is of other vectors, is not taken."""
    store, _ = built
    held = MemoryStore()
    held.put(keys.part_key(BUILD, ASSEMBLED, 1), store.get(keys.part_key(BUILD, ASSEMBLED, 0)))
    with pytest.raises(DataError, match="start the build anew"):
        read_assembled(held, BUILD, 1, queries=20, dimension=4)
    with pytest.raises(DataError, match="fit"):
        read_assembled(store, BUILD, 0, queries=21, dimension=4)
    with pytest.raises(DataError, match="fit"):
        read_model(store, BUILD, dimension=5)
    with pytest.raises(DataError, match="fit"):
        read_sample(store, BUILD, 0, dimension=5)
