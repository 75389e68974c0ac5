"""A fault at any storage step of a build leaves the old content, or the new, and never else."""

import dataclasses
from contextlib import suppress

import pytest
from fault_store import KilledError, StepStore

from bulk_files import BUILD, DIMENSION, SIZES, built, vectors, write_npy
from simulated import Clock
from squash.clock import SystemIds
from squash.database import Database
from squash.errors import ConflictError, NotFoundError, SquashError
from squash.runtime import Settings
from squash.storage import MemoryStore

FAULTS = ("refused", "lost", "killed before", "killed after", "twice")
OLD = ["old"]


def opened(store):
    return Database(store, settings=Settings(), clock=Clock(), ids=SystemIds()).index("papers")


def begun(url, sizes):
    """A store with an index that has a record, and how it is built anew."""
    store = MemoryStore()
    database = Database(store, settings=Settings(), clock=Clock(), ids=SystemIds())
    database.create_index("papers", dimension=DIMENSION).put(keys=OLD, vectors=vectors(1))

    def build(index):
        return index.build([url], sizes=sizes, build=BUILD, replace=True)

    return store, build


def check(url, sizes, rows, *, step, fault, expected):
    store, build = begun(url, sizes)
    faulty = StepStore(store, step=step, fault=fault)
    with suppress(SquashError, KilledError):
        build(opened(faulty))
    index = opened(store)
    found = index.stats().rows
    assert found in {1, rows}, faulty.happened
    # Whoever looks finds a build that can be gone on with, or none.
    for status in index.builds():
        assert (status.state == "published") <= (found == rows), faulty.happened
    try:
        done = index.resume_build(BUILD)
    except NotFoundError:
        done = build(index)  # it had not begun
    except ConflictError:
        done = index.build_status(BUILD)
    assert done.state == "published", faulty.happened
    assert index.stats().rows == rows, faulty.happened
    assert built(store) == expected, faulty.happened
    assert [one.operation for one in index.snapshots()].count("build") == 1, faulty.happened


def undisturbed(url, sizes):
    """What a build leaves, and how many storage steps it takes."""
    store, build = begun(url, sizes)
    counted = StepStore(store)
    build(opened(counted))
    return built(store), len(counted.log)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_builds_that_were_not_noted_keep_nobody_from_the_index(tmp_path, fault):
    """Whatever happens while a build is asked for: cancelling it, at the most, lets others on."""
    url = write_npy(tmp_path / "in", 40)

    def ask(store):
        opened(store).bulk_builds().prepare([url], build_id=BUILD, replaces=True)

    counted = StepStore(begun(url, SIZES)[0])
    ask(counted)
    for step in range(len(counted.log)):
        store = begun(url, SIZES)[0]
        faulty = StepStore(store, step=step, fault=fault)
        with suppress(SquashError, KilledError):
            ask(faulty)
        index = opened(store)
        if index.builds() or fault.startswith("killed"):
            with suppress(NotFoundError):
                index.cancel_build(BUILD)
        index.optimize()
        done = index.build([url], replace=True, build="d0" * 16)
        assert done.state == "published", faulty.happened
        with pytest.raises(ConflictError, match="published"):
            index.cancel_build("d0" * 16)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_builds_of_few_rows(tmp_path, fault):
    url = write_npy(tmp_path / "in", 40, 30)
    expected, steps = undisturbed(url, SIZES)
    for step in range(FAULTS.index(fault), steps, 3 * len(FAULTS)):
        check(url, SIZES, 70, step=step, fault=fault, expected=expected)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_builds_of_partitions(tmp_path, fault):
    sizes = dataclasses.replace(SIZES, group_bytes_max=1 << 18, batch_bytes=1 << 16)
    url = write_npy(tmp_path / "in", 700, 500)
    expected, steps = undisturbed(url, sizes)
    for step in range(steps):
        check(url, sizes, 1200, step=step, fault=fault, expected=expected)
