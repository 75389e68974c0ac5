"""Planning a build: its files are listed and looked at, and all their rows dealt out."""

import io
import itertools
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from bulk_scene import BUILD, OPTIONS, config_of
from fakes import CountedIds, FakeClock
from squash import limits
from squash.errors import InvalidArgumentError, NotFoundError, UnavailableError
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import BuildContext
from squash.maintain.bulk.plan import InputFile
from squash.maintain.bulk.records import read_plan, write_json
from squash.maintain.bulk.request import Attempt, BuildRequest, BuildSizes, InputColumns, Limits
from squash.maintain.bulk.run import run_task
from squash.maintain.bulk.stages import Stage, Task
from squash.maintain.bulk.tasks.plan import make_plan
from squash.storage import CountingStore, MemoryStore, open_store
from squash.storage.inputs import open_inputs

PLAN = Task("x", BUILD, Stage.PLAN)


def sizes(**more):
    options = {name: getattr(OPTIONS, name) for name in BuildSizes.__slots__[:7]}
    rest = {"piece_rows_max": 10, "piece_bytes_max": 1 << 20, "group_bytes_max": 1 << 20}
    return BuildSizes(**{**options, **rest, "batch_bytes": 4 * 3 * 25, **more})


def request_of(inputs, **more):
    return BuildRequest(BUILD, "x", tuple(inputs), InputColumns(), None, False, 0, sizes(**more), 0)


def npy(rows, dimension=3):
    data = io.BytesIO()
    np.save(data, np.ones((rows, dimension), dtype=np.float32))
    return data.getvalue()


class World:
    """Files in memory, and an index to build of them."""

    def __init__(self, files):
        self.name = uuid4().hex
        self.files = open_store(f"memory://{self.name}")
        for key, data in files.items():
            self.files.put(key, data)
        self.store = CountingStore(MemoryStore())
        self.open_inputs = open_inputs

    def url(self, key=""):
        return f"memory://{self.name}/{key}"

    def plan(self, *inputs, **more):
        request = request_of([self.url(key) for key in inputs], **more)
        write_json(self.store, keys.request_key(BUILD), request.to_json())
        attempt = Attempt(1, "local", 0, Limits())
        write_json(self.store, keys.attempt_key(BUILD, 1), asdict(attempt))
        with tempfile.TemporaryDirectory() as folder:
            context = BuildContext(
                self.store, config_of(3), self.open_inputs, FakeClock(), CountedIds(),
                Path(folder),
            )  # fmt: skip
            report = run_task(context, PLAN)
        return read_plan(self.store, BUILD), report


def test_files_come_in_the_order_asked_and_a_folders_by_name():
    """Numbers of rows go on from file to file; the report says what was asked of the files."""
    world = World({"b/2.npy": npy(5), "b/10.npy": npy(30), "a.npy": npy(1), "b/_log": b"x"})
    plan, report = world.plan("b/", "a.npy")
    names = [file.url.removeprefix(world.url()) for file in plan.files]
    assert names == ["b/10.npy", "b/2.npy", "a.npy"]
    assert [(file.first, file.rows) for file in plan.files] == [(0, 30), (30, 5), (35, 1)]
    assert plan.rows == report.rows == 36
    assert not plan.keyed
    assert plan.key_ranges == 0
    assert report.requests["range"] >= 3
    assert report.detail["estimate"]["rows"] == 36
    assert report.detail["estimate"]["cost_usd"] > 0


def test_the_same_files_give_the_same_plan():
    """Planned again, byte for byte."""
    world = World({"a.npy": npy(55), "b.npy": npy(20)})
    world.plan("")
    first = bytes(world.store.get(keys.plan_key(BUILD)))
    world.store.delete([keys.done_key(BUILD, Stage.PLAN, 0)])
    world.plan("")
    assert bytes(world.store.get(keys.plan_key(BUILD))) == first


def test_all_files_that_cannot_be_taken_are_named():
    """Who asked corrects them all at once: damaged, empty, of another kind or dimension, absent."""
    world = World(
        {
            "cut.npy": npy(5)[:-3],
            "empty.npy": b"",
            "wide.npy": npy(5, 4),
            "notes.txt": b"x",
            "good.npy": npy(2),
        }
    )
    with pytest.raises(InvalidArgumentError) as caught:
        world.plan("")
    for name in ("cut.npy", "empty.npy", "wide.npy", "notes.txt"):
        assert world.url(name) in str(caught.value)
    assert "good.npy" not in str(caught.value)
    assert world.store.get(keys.plan_key(BUILD)) is None
    with pytest.raises(NotFoundError, match=r"absent\.npy"):
        world.plan("absent.npy", "good.npy")
    with pytest.raises(InvalidArgumentError, match=r"2 files.*gone\.npy.*lost/"):
        world.plan("gone.npy", "lost/")


def test_a_file_named_twice_is_refused():
    """By its name and by its folder: its rows would be there twice."""
    world = World({"a/x.npy": npy(2)})
    with pytest.raises(InvalidArgumentError, match=r"a/x\.npy is among the inputs twice"):
        world.plan("a/", "a/x.npy")


def test_files_without_rows_are_refused():
    """There is nothing to build, and whoever asked is told so."""
    world = World({"a.npy": npy(0)})
    with pytest.raises(InvalidArgumentError, match="no rows"):
        world.plan("a.npy")


def test_what_is_only_unavailable_is_asked_again():
    """A store that does not answer says nothing about its files."""
    world = World({"a.npy": npy(2)})

    def unavailable(url):
        raise UnavailableError(f"{url} does not answer")

    world.open_inputs = unavailable
    with pytest.raises(UnavailableError):
        world.plan("a.npy")


FILES = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(0, 40), max_size=4)), min_size=1, max_size=5
).filter(lambda files: any(sum(groups) for _, groups in files))


def made(files, *, keyed=False, texts=False):
    """Make files of (is Parquet, rows of its row groups)."""
    return [
        InputFile(
            f"memory://x/{i}", "parquet" if parquet else "npy", "e", 4 * 3 * sum(groups), 0,
            sum(groups), row_groups=tuple(groups) if parquet else (), keyed=keyed, texts=texts,
        )
        for i, (parquet, groups) in enumerate(files)
    ]  # fmt: skip


@settings(max_examples=examples(80, least=25), deadline=None)
@given(FILES, st.booleans(), st.integers(1, 500), st.integers(1, 30))
def test_every_row_lies_in_one_piece_and_one_batch(files, texts, batch_bytes, piece_rows):
    """Whatever the files, all rows are dealt out once, within files and row groups."""
    request = request_of([], batch_bytes=batch_bytes, piece_rows_max=piece_rows)
    plan = make_plan(made(files, texts=texts, keyed=True), request, config_of(3))
    rows = [row for piece in plan.pieces for row in range(piece.first, piece.first + piece.rows)]
    assert rows == list(range(plan.rows))
    for piece in plan.pieces:
        file = plan.files[piece.file]
        groups = np.cumsum([file.first, *(file.row_groups or (file.rows,))])
        at = np.searchsorted(groups, piece.first, side="right") - 1
        assert groups[at] <= piece.first < piece.first + piece.rows <= groups[at + 1]
        assert piece.rows <= piece_rows
    begins = [plan.assign_batches, *([plan.encode_batches] if texts else [])]
    for one in begins:
        assert one[0] == 0
        assert one[-1] == len(plan.pieces)
        assert all(a < b for a, b in itertools.pairwise(one))
    sampled = [piece for batch in plan.sample_batches for piece in batch]
    assert sampled == list(range(len(plan.pieces)))
    assert 0 < plan.sample_rows <= plan.rows
    assert type(plan).from_json(plan.to_json()) == plan


def test_of_very_many_pieces_some_are_sampled():
    """As many as may be, and the sample is no larger than their rows."""
    pieces = limits.BUILD_SAMPLE_PIECES_MAX + 50
    files = made([(False, [10 * pieces])])
    plan = make_plan(files, request_of([]), config_of(3))
    sampled = [piece for batch in plan.sample_batches for piece in batch]
    assert len(plan.pieces) == pieces
    assert len(set(sampled)) == len(sampled) == limits.BUILD_SAMPLE_PIECES_MAX
    assert plan.sample_rows == sum(plan.pieces[piece].rows for piece in sampled)
    assert len(plan.assign_batches) - 1 <= limits.BUILD_BATCHES_MAX


def test_unlike_files_are_refused():
    """Some with keys and some without, or texts beside vectors, name one of each."""
    one, two = made([(True, [3]), (True, [4])])
    with pytest.raises(InvalidArgumentError, match=r"memory://x/0.*memory://x/1"):
        make_plan([replace(one, keyed=True), two], request_of([]), config_of(3))
    with pytest.raises(InvalidArgumentError, match=r"memory://x/1.*texts.*memory://x/0"):
        make_plan([one, replace(two, texts=True)], request_of([]), config_of(3))
