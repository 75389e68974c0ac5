"""A bulk build of rows at hand, without files: in any pieces, batches and groups."""

from __future__ import annotations

import itertools
import random
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest import mock
from uuid import uuid4

import numpy as np

import squash
from squash.clock import SystemClock, SystemIds
from squash.index.trained import Trained
from squash.maintain import BuildOptions
from squash.maintain.bulk import keys
from squash.maintain.bulk.batches import stage_tasks
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.outcome import read_outcome
from squash.maintain.bulk.pieces import Pieces
from squash.maintain.bulk.plan import InputFile, Piece, Plan
from squash.maintain.bulk.records import write_json
from squash.maintain.bulk.request import Attempt, BuildRequest, BuildSizes, InputColumns, Limits
from squash.maintain.bulk.rows import BadRow, GoodAndBad
from squash.maintain.bulk.run import run_task
from squash.maintain.bulk.stages import Stage
from squash.model import IndexConfig, Metric, RowBatch
from squash.storage import CountingStore, MemoryStore

BUILD = "0123456789abcdef" * 2
STAGES = (Stage.SAMPLE, Stage.TRAIN, Stage.ASSIGN, Stage.KEYS, Stage.ASSEMBLE, Stage.CALIBRATE)
OPTIONS = BuildOptions(
    partition_rows_target=24,
    partition_rows_max=40,
    cluster_rows_target=6,
    calibration_queries=20,
    exact_rows_max=8,
)


@dataclass(frozen=True)
class Scene:
    """Rows, and how they are dealt out; `names` None: their numbers are their keys."""

    config: IndexConfig
    names: list | None
    vectors: np.ndarray
    metadata: list
    options: BuildOptions = OPTIONS
    cuts: tuple = ()
    """Where pieces begin, but for the first."""
    batches: tuple = ()
    """Where batches of pieces begin, but for the first."""
    group_bytes: int = 1
    chunk_rows: int = 7
    bad: frozenset = frozenset()
    key_ranges: int = 3
    sampled: tuple | None = None
    """The pieces that the sample is drawn from; None for all."""

    def sizes(self):
        options = {name: getattr(self.options, name) for name in BuildSizes.__slots__[:7]}
        return BuildSizes(
            **options,
            piece_rows_max=1 << 20,
            piece_bytes_max=1 << 30,
            group_bytes_max=self.group_bytes,
            batch_bytes=1 << 20,
        )

    def plan(self):
        rows = len(self.vectors)
        begins = [0, *sorted(set(self.cuts)), rows]
        pieces = [Piece(0, a, b - a) for a, b in itertools.pairwise(begins) if b > a]
        cuts = sorted({cut for cut in self.batches if 0 < cut < len(pieces)})
        batches = (0, *cuts, len(pieces))
        options, row_bytes = self.options, 4 * self.config.dimension
        sampled = range(len(pieces)) if self.sampled is None else self.sampled
        looked_at = sum(pieces[one].rows for one in sampled)
        return Plan(
            files=(InputFile("file:///rows", "npy", "1", 1, 0, rows),),
            pieces=tuple(pieces),
            rows=rows,
            encodes=False,
            keyed=self.names is not None,
            encode_batches=(0,),
            sample_batches=tuple(
                tuple(one for one in range(a, b) if one in sampled)
                for a, b in itertools.pairwise(batches)
            ),
            assign_batches=batches,
            sample_rows=min(
                looked_at, options.sample_rows_max, options.sample_bytes_max // row_bytes
            ),
            key_ranges=self.key_ranges if self.names is not None else 0,
            flat=rows <= options.exact_rows_max,
        )

    def chunks(self, piece):
        """Yield the rows of a piece, as files would give them."""
        for first in range(piece.first, piece.first + piece.rows, self.chunk_rows):
            some = range(first, min(first + self.chunk_rows, piece.first + piece.rows))
            good = [row for row in some if row not in self.bad]
            yield GoodAndBad(
                RowBatch([self.key(row) for row in good], self.vectors[good],
                         [self.metadata[row] for row in good]),
                np.array(good, dtype=np.int64),
                tuple(BadRow("file:///rows", row, None, "bad") for row in some if row in self.bad),
            )  # fmt: skip

    def key(self, row):
        return str(row) if self.names is None else self.names[row]

    def live(self):
        """Return the rows that must be in the index, by ascending number."""
        last = {self.key(row): row for row in range(len(self.vectors)) if row not in self.bad}
        return sorted(last.values())


def begin(store, scene):
    """Store what the stages before the sample leave."""
    request = BuildRequest(
        BUILD, "x", ("file:///rows",), InputColumns(), None, False, 0, scene.sizes(), 0
    )
    write_json(store, keys.request_key(BUILD), request.to_json())
    attempt = Attempt(1, "local", 0, Limits(bad_rows_max=1 << 30))
    write_json(store, keys.attempt_key(BUILD, 1), asdict(attempt))
    write_json(store, keys.plan_key(BUILD), scene.plan().to_json())
    write_json(store, keys.done_key(BUILD, Stage.PLAN, 0), TaskReport().to_json())


def run(store, scene, *, seed=None, again=False, scratch=None):
    """Run the stages of a build, each's tasks in an order by `seed`, and all twice if `again`."""
    chance = random.Random(seed)
    counting = CountingStore(store)
    with tempfile.TemporaryDirectory(dir=scratch) as folder, rows_of(scene):
        context = BuildContext(
            counting, scene.config, _no_inputs, SystemClock(), SystemIds(), Path(folder)
        )
        for stage in STAGES:
            tasks = stage_tasks(counting, "x", BUILD, stage)
            if seed is not None:
                chance.shuffle(tasks)
            for task in tasks:
                run_task(context, task)
                if again and chance.random() < 0.7:
                    before = objects(store)
                    counting.delete([keys.done_key(BUILD, task.stage, task.batch)])
                    run_task(context, task)
                    assert objects(store) == before, f"{task} left other bytes"
    return read_outcome(counting, BUILD)


@contextmanager
def rows_of(scene):
    """Let tasks read the rows of a scene in the place of files."""

    def chunks(self, number):
        return scene.chunks(self._plan.pieces[number])

    with mock.patch.object(Pieces, "chunks", chunks):
        yield


def objects(store):
    """Return all that a build left but reports, which say when: bytes by key."""
    return {
        info.key: bytes(store.get(info.key))
        for prefix in ("builds/", "segments/", "trained/")
        for info in store.list(prefix)
        if "/done/" not in info.key
    }


def build(scene, **how):
    """Build in memory; return (outcome, store)."""
    store = MemoryStore()
    begin(store, scene)
    return run(store, scene, **how), store


def content(store, segments, trained, dimension):
    """Return what segments and trained object hold, names aside, for comparison."""
    held = [
        (one.kind, one.rows, {n: bytes(store.get(ref.key)) for n, ref in one.objects.items()})
        for one in segments
    ]
    if trained is None:
        return held, None
    made = Trained.from_bytes(store.get(trained.key), trained.key, dimension=dimension)
    assert list(made.partition_ids) == [one.id for one in segments]
    numbers = tuple(f"{number:032x}" for number in range(len(segments)))
    return held, replace(made, partition_ids=numbers).to_bytes()


def in_one_go(scene):
    """Put the scene's good rows, in their order, into an index and fold all of it."""
    config = scene.config
    index = squash.connect(f"memory://{uuid4().hex}").create_index(
        "x", dimension=config.dimension, metric=config.metric.value, codec=config.codec,
        seed=config.seed,
    )  # fmt: skip
    good = [row for row in range(len(scene.vectors)) if row not in scene.bad]
    while good:
        some: dict = {}
        for row in good:
            if scene.key(row) in some:
                break  # a call takes no key twice
            some[scene.key(row)] = row
        rows = list(some.values())
        index.put(
            keys=list(some), vectors=scene.vectors[rows],
            metadata=[scene.metadata[row] for row in rows],
        )  # fmt: skip
        good = good[len(rows) :]
    index.optimize(options=scene.options, full=True)
    session = index._session
    state = session._views.refresh().state
    return content(session._views.log.store, state.segments, state.trained, config.dimension)


def config_of(dimension, metric="euclidean", codec="residual", seed=0):
    """Return the configuration of an index."""
    return IndexConfig("x", dimension, Metric(metric), codec=codec, seed=seed)


def _no_inputs(url):
    raise AssertionError(f"nobody opens {url}")
