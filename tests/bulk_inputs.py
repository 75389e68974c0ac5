"""Input files of a build in memory, and a plain reading of them to compare with."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from fakes import CountedIds, FakeClock
from squash.maintain.bulk.context import BuildContext
from squash.maintain.bulk.files.choose import probe
from squash.maintain.bulk.plan import Piece, Plan
from squash.maintain.bulk.request import BuildRequest, BuildSizes, InputColumns
from squash.model import IndexConfig, Metric
from squash.storage import CountingStore, MemoryStore
from squash.storage.inputs_memory import MemoryInputs

ROOT = "memory://inputs/"
BUILD = "0123456789abcdef0123456789abcdef"
SIZES = BuildSizes(256, 512, 32, 1000, 1 << 20, 16, 64, 1000, 1 << 20, 1 << 20, 1 << 20)


def config_of(dimension, **more):
    return IndexConfig("things", dimension, more.pop("metric", Metric.EUCLIDEAN), **more)


def request_of(columns=None, encoder=None):
    return BuildRequest(
        build=BUILD,
        index="things",
        inputs=(ROOT,),
        columns=columns or InputColumns(),
        encoder=encoder,
        replaces=False,
        base=0,
        sizes=SIZES,
        created_ms=0,
    )


class World:
    """Files in memory, and a build that reads them."""

    def __init__(self, config, request=None, encode=None):
        self.config = config
        self.request = request or request_of()
        self.objects = MemoryStore()
        self.inputs = MemoryInputs("inputs", self.objects)
        self.context = BuildContext(
            store=CountingStore(MemoryStore()),
            config=config,
            open_inputs=lambda url: self.inputs,
            clock=FakeClock(),
            ids=CountedIds(),
            scratch=Path("unused"),
            encode=encode,
        )

    def put(self, name, data):
        self.objects.put(name, data)
        return self.info(name)

    def info(self, name):
        (found,) = self.inputs.files(ROOT + name)
        return found

    def probe(self, name):
        return probe(self.inputs, self.info(name), self.request, self.config)

    def plan(self, *names, cuts=()):
        """A plan of files, their row groups cut into pieces also at `cuts`."""
        files, pieces, first = [], [], 0
        for name in names:
            file = self.probe(name)
            file = type(file)(**{**as_dict(file), "first": first})
            files.append(file)
            edges = {first, first + file.rows}
            edges |= set(first + np.cumsum(file.row_groups, dtype=int))
            edges |= {cut for cut in cuts if first < cut < first + file.rows}
            edges = sorted(int(edge) for edge in edges)
            pieces += [
                Piece(len(files) - 1, start, stop - start)
                for start, stop in pairwise(edges)
                if stop > start
            ]
            first += file.rows
        return Plan(
            files=tuple(files),
            pieces=tuple(pieces),
            rows=first,
            encodes=any(file.texts for file in files),
            keyed=any(file.keyed for file in files),
            encode_batches=(0, len(pieces)),
            sample_batches=(tuple(range(len(pieces))),),
            assign_batches=(0, len(pieces)),
            sample_rows=first,
            key_ranges=1,
            flat=True,
        )


def as_dict(file):
    return {name: getattr(file, name) for name in file.__dataclass_fields__}


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def parquet_bytes(table, **options):
    file = io.BytesIO()
    parquet.write_table(table, file, **options)
    return file.getvalue()


def lists(rows, *, dtype=None, kind="list", dimension=None):
    """A column of vectors: `rows` are lists, or None."""
    element = pa.from_numpy_dtype(np.dtype(dtype or np.float32))
    types = {
        "list": pa.list_(element),
        "large": pa.large_list(element),
        "fixed": pa.list_(element, dimension) if dimension else None,
    }
    return pa.array(rows, type=types[kind])
