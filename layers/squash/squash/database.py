# ruff: noqa
"""The Python face."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from squash.arrays import F32
from squash.model import (
    Answer,
    Filter,
    IndexConfig,
    IndexStats,
    Metadata,
    Progress,
    Record,
    RecordPage,
    RowBatch,
    VerifyReport,
    WriteResult,
)


class Index:
    config: IndexConfig

    def put(
        self, *, keys: Sequence[str], vectors: Any, metadata: Sequence[Metadata] | None = None
    ) -> WriteResult:
        raise NotImplementedError

    def import_batches(
        self,
        batches: Iterable[RowBatch],
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> WriteResult:
        raise NotImplementedError

    def delete(
        self, *, keys: Sequence[str] | None = None, filter: Filter | None = None
    ) -> WriteResult:
        raise NotImplementedError

    def get(
        self, *, keys: Sequence[str], include: Sequence[str] = ("metadata", "vector")
    ) -> list[Record]:
        raise NotImplementedError

    def list(
        self,
        *,
        cursor: str | None = None,
        limit: int = 500,
        include: Sequence[str] = ("metadata",),
    ) -> RecordPage:
        raise NotImplementedError

    def query(
        self,
        vector: Any,
        *,
        top_k: int = 10,
        filter: Filter | None = None,
        recall_target: float = 0.95,
        exact: bool = False,
        consistency: str = "strong",
        include: Sequence[str] = ("metadata",),
        explain: bool = False,
    ) -> Answer:
        raise NotImplementedError

    def query_many(
        self, vectors: F32, *, top_k: int = 10, filters: Any = None, **same: Any
    ) -> "builtins.list[Answer]":
        raise NotImplementedError

    def optimize(self, *, progress: Callable[[Progress], None] | None = None) -> WriteResult:
        raise NotImplementedError

    def stats(self) -> IndexStats:
        raise NotImplementedError

    def verify(self, *, progress: Callable[[Progress], None] | None = None) -> VerifyReport:
        raise NotImplementedError


class Database:
    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def create_index(
        self,
        name: str,
        *,
        dimension: int,
        metric: str = "cosine",
        attributes: Mapping[str, str] | None = None,
        non_filterable: Sequence[str] = (),
        codec: str = "residual",
        seed: int = 0,
    ) -> Index:
        raise NotImplementedError

    def index(self, name: str) -> Index:
        raise NotImplementedError

    def list_indexes(self) -> list[IndexConfig]:
        raise NotImplementedError

    def drop_index(self, name: str) -> None:
        raise NotImplementedError


def connect(
    location: str, *, endpoint_url: str | None = None, region: str | None = None
) -> Database:
    raise NotImplementedError
