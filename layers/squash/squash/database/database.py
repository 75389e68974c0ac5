"""Indexes under one location."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from squash.clock import Clock, IdSource, SystemClock, SystemIds
from squash.database.arguments import (
    flag,
    listed,
    named,
    one_of,
    told,
    whole_number,
)
from squash.database.index import Index
from squash.errors import DataError, InvalidArgumentError, NotFoundError, shown
from squash.index import catalogue
from squash.index.entries import Entry, entry_key
from squash.index.names import bucket_of, check_index_name
from squash.limits import GC_RETENTION_S_DEFAULT, LOCAL_WHOLE_BYTES_MAX, MIB
from squash.model import TEXT_KEY_DEFAULT, AttributeType, IndexConfig, Metric
from squash.planning.prices import architecture_of
from squash.quantize import PRESETS
from squash.reports import DatabaseGcReport, Progress
from squash.runtime import RetainedMemory, Settings, choose_kernels, read_costs
from squash.runtime.encoder_names import encoder_label
from squash.runtime.encoding import Encoding
from squash.runtime.session import IndexSession
from squash.runtime.settings import StorePlace
from squash.search import Searcher
from squash.storage import ObjectStore, open_store
from squash.storage.tmp import TmpFiles

if TYPE_CHECKING:
    from squash.index.buckets import VectorBuckets
    from squash.runtime.encoders import EncoderRegistry


def connect(
    location: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    retained_bytes_max: int = 2_048 * MIB,
) -> Database:
    """Open a database.

    Parameters
    ----------
    location:
        ``s3://bucket/prefix``, ``file:///path`` or a plain path, or ``memory://name``.
    endpoint_url, region:
        Of S3, where they differ from what the AWS configuration says.
    retained_bytes_max:
        How much of what was read is kept in memory, of all indexes together.

    Raises
    ------
    InvalidArgumentError
        If the location is none of these, `retained_bytes_max` is no whole number from 0, the
        environment's SQUASH_KERNELS names kernels that this machine cannot run, or its
        SQUASH_COSTS a file that holds no costs.

    """
    retained = whole_number(retained_bytes_max, "retained_bytes_max")
    if retained < 0:
        raise InvalidArgumentError(
            f"retained_bytes_max is 0 or more, not {shown(retained)}", field="retained_bytes_max"
        )
    choose_kernels(os.environ)
    store = open_store(location, endpoint_url=endpoint_url, region=region)
    remote = location.startswith("s3://")
    settings = Settings(
        retained_bytes_max=retained,
        whole_bytes_max=0 if remote else LOCAL_WHOLE_BYTES_MAX,
        billed=remote,
        costs=read_costs(os.environ),
        architecture=architecture_of(os.uname().machine),
        place=StorePlace(location, endpoint_url, region),
    )
    return Database(store, settings=settings, clock=SystemClock(), ids=SystemIds())


class Database:
    """Indexes under one location; made by `connect`.

    Parameters
    ----------
    store, settings, clock, ids:
        Its components.
    searcher:
        Answers queries; without one, this process does.
    tmp:
        Files behind the memory, for a store that is remote.
    fold_soon:
        Told of an index, by its name, after every write with which much of it is in no partition;
        without it, that is logged.
    encoding:
        Encodes texts and images; without it this process does, see `LocalEncoding`. In either case
        queries' vectors are remembered.

    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        settings: Settings,
        clock: Clock,
        ids: IdSource,
        searcher: Searcher | None = None,
        tmp: TmpFiles | None = None,
        fold_soon: Callable[[str], None] | None = None,
        encoding: Encoding | None = None,
    ) -> None:
        self._store = store
        self._given_encoding = encoding
        self._encoding: Encoding | None = None
        self._buckets: VectorBuckets | None = None
        self._lock = threading.Lock()
        self._fold_soon = fold_soon
        self._memory = RetainedMemory(settings.retained_bytes_max)
        self._tmp = tmp
        self._settings = settings
        self._clock = clock
        self._ids = ids
        self._searcher = searcher

    @property
    def store(self) -> ObjectStore:
        """Where the indexes lie."""
        return self._store

    @property
    def settings(self) -> Settings:
        """How this process uses its machine."""
        return self._settings

    @property
    def encoders(self) -> EncoderRegistry:
        """The encoders that are kept beside the indexes."""
        from squash.runtime.encoders import EncoderRegistry  # noqa: PLC0415 - likewise

        return EncoderRegistry(self._store)

    @property
    def vector_buckets(self) -> VectorBuckets:
        """The vector buckets, in which indexes are called ``bucket/index``."""
        from squash.index.buckets import VectorBuckets  # noqa: PLC0415 - most have none

        with self._lock:
            # Kept, since it remembers what it read.
            if self._buckets is None:
                self._buckets = VectorBuckets(self._store, clock=self._clock, ids=self._ids)
            return self._buckets

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held open: every write was durable when its call returned."""

    def create_index(
        self,
        name: str,
        *,
        dimension: int | None = None,
        metric: str | Metric | None = None,
        encoder: str | None = None,
        text_key: str | None = TEXT_KEY_DEFAULT,
        attributes: Mapping[str, str | AttributeType] | None = None,
        non_filterable: Sequence[str] = (),
        expires: str | None = None,
        codec: str = "residual",
        seed: int = 0,
        tags: Mapping[str, str] | None = None,
    ) -> Index:
        """Create an index.

        Parameters
        ----------
        name:
            1 to 63 of a-z, 0-9, "-" and "_"; or ``bucket/index``, of a vector bucket that is there.
        dimension:
            Of all its vectors; 1 to 4,096. With an encoder it may be left out, or be one to which
            the encoder's vectors may be cut.
        metric:
            "cosine", "euclidean" or "dot". If left out, the encoder's, or "cosine".
        encoder:
            What makes vectors of texts, or of images: one of `Database.encoders`, by its name or
            ``name@<first digits of its digest>``. The index pins it for good: all its vectors are
            that encoder's.
        text_key:
            With an encoder of texts, the metadata key under which a record's text is kept. It is
            not filterable. None keeps no texts.
        attributes:
            Types that metadata must have: "number", "string", "boolean", or one of these with
            "[]" for lists. Names not given here may hold anything.
        non_filterable:
            Metadata keys that are stored and returned but never filtered by; none of `attributes`.
        expires:
            A metadata attribute that says when a record expires: a number, in seconds since 1970
            UTC. From then on the record is gone for whoever reads; folding removes it. A record
            without the attribute never expires.
        codec:
            How vectors are quantised: "residual", or "osq", "osq-factors", "osq-residual".
        seed:
            Decides what training leaves to chance.
        tags:
            Of an index in a vector bucket, as `VectorBuckets.change_index` changes them.

        Raises
        ------
        ConflictError
            If there is an index of this name.
        NotFoundError
            If there is no such encoder, or vector bucket.
        InvalidArgumentError
            If an argument is out of its range, or does not go with the encoder.

        """
        types = named(attributes, "attributes", "the type")
        labels = named(tags, "tags", "the value")
        declared = {
            key: one_of(AttributeType, kind, f"attributes.{key}") for key, kind in types.items()
        }
        if isinstance(expires, str):  # else it is refused with the rest
            declared.setdefault(expires, AttributeType.NUMBER)
        check_index_name(name)
        chosen = None if metric is None else one_of(Metric, metric, "metric")
        size = None if dimension is None else whole_number(dimension, "dimension")
        unfilterable = tuple(listed(non_filterable, "non_filterable"))
        pin = None
        if encoder is not None:
            # Here, and not with the module: most processes make no index.
            from squash.database.pinning import pinned  # noqa: PLC0415

            if text_key is not None and not isinstance(text_key, str):
                raise InvalidArgumentError(
                    f"text_key is a metadata key, or None, not {shown(text_key)}", field="text_key"
                )
            pin, size, chosen = pinned(
                self.encoders.resolve(encoder), dimension=size, metric=chosen, text_key=text_key
            )
            if pin.text_key is not None and pin.text_key not in unfilterable:
                unfilterable += (pin.text_key,)
        elif text_key is not None and not (
            isinstance(text_key, str) and text_key == TEXT_KEY_DEFAULT
        ):
            raise InvalidArgumentError(
                "text_key goes with an encoder: name one, or leave it out", field="text_key"
            )
        if size is None:
            raise InvalidArgumentError(
                "give the dimension of the index's vectors, or an encoder, which has one",
                field="dimension",
            )
        now_ms = self._clock.now_ms()
        config = IndexConfig(
            name=name,
            dimension=size,
            metric=chosen or Metric.COSINE,
            encoder=pin,
            attributes=declared,
            non_filterable=unfilterable,
            codec=codec,
            seed=whole_number(seed, "seed"),
            created_ms=now_ms,
            expires=expires,
        )
        if not isinstance(codec, str) or codec not in PRESETS:
            raise InvalidArgumentError(
                f"there is no codec {shown(codec)}; take one of {', '.join(PRESETS)}", field="codec"
            )
        if bucket_of(name) is not None:
            return self._open(self.vector_buckets.create_index(config, tags=labels), now_ms)
        if labels:
            raise InvalidArgumentError(
                f"index {name!r} is in no vector bucket: it has no tags", field="tags"
            )
        return self._open(catalogue.create(self._store, config, self._ids), now_ms)

    def index(self, name: str) -> Index:
        """Open an index.

        Raises
        ------
        NotFoundError
            If there is none of this name.

        """
        looked_ms = self._clock.now_ms()
        return self._open(catalogue.load(self._store, name), looked_ms)

    def list_indexes(
        self, *, in_buckets: bool = True, unreadable: dict[str, DataError] | None = None
    ) -> list[IndexConfig]:
        """Return the configuration of every index, by name; last those in vector buckets.

        Parameters
        ----------
        in_buckets:
            Without it, of those alone that are in none.
        unreadable:
            A dict that gets, by name, the errors of indexes whose entries cannot be read; the
            others are returned. Without it, the first such error is raised.

        Raises
        ------
        DataError, UnsupportedFormatError
            If an entry is damaged, or a newer release's, and there is no `unreadable`.

        """
        return catalogue.list_configs(self._store, in_buckets=in_buckets, unreadable=unreadable)

    def drop_index(self, name: str) -> None:
        """Remove an index and all of its data.

        Its log's end stays, with what was written in the twenty minutes before, so that whoever has
        the index open learns of it; `gc` removes these a day later.

        Raises
        ------
        NotFoundError
            If there is none of this name.

        """
        catalogue.drop(self._store, name)

    def gc(
        self,
        retention_s: float = GC_RETENTION_S_DEFAULT,
        *,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> DatabaseGcReport:
        """Collect the garbage of every index, as `Index.gc`, and what is left of dropped ones.

        An index that cannot be collected is left as it was, and named; the others are collected.

        Parameters
        ----------
        retention_s, dry_run, progress:
            As `Index.gc`.

        Raises
        ------
        InvalidArgumentError
            If the retention is shorter than an hour.

        """
        from squash.runtime.keeping import gc_all  # noqa: PLC0415 - see there

        return gc_all(
            self._store,
            self.index,
            ids=self._ids,
            clock=self._clock,
            retention_s=retention_s,
            dry_run=flag(dry_run, "dry_run"),
            report=told(progress),
        )

    def _open(self, entry: Entry, looked_ms: int) -> Index:
        session = IndexSession(
            self._store,
            entry,
            settings=self._settings,
            clock=self._clock,
            ids=self._ids,
            looked_ms=looked_ms,
            searcher=self._searcher,
            check_catalogue=lambda: self._check_catalogue(entry.config.name),
            memory=self._memory,
            tmp=self._tmp,
            fold_soon=self._fold_soon,
            encoding=self._encode_by,
        )
        return Index(session)

    def _encode_by(self) -> Encoding:
        """Return who encodes; without one that was given, this process, from now on."""
        # Who sends vectors waits for none of these.
        from squash.runtime.query_vectors import QueryVectors  # noqa: PLC0415

        with self._lock:
            if self._encoding is None:
                self._encoding = QueryVectors(self._given_encoding or self._encoding_here())
            return self._encoding

    def _encoding_here(self) -> Encoding:
        from squash.runtime.local_encoding import LocalEncoding, encoder_folders  # noqa: PLC0415

        folders = encoder_folders(os.environ)
        threads = os.cpu_count() or 1
        return LocalEncoding(self.encoders, folders, clock=self._clock, threads=threads)

    def _check_catalogue(self, name: str) -> None:
        """Raise a DataError if an index's entry, its bucket or its encoder cannot be read."""
        pin = catalogue.load(self._store, name).config.encoder
        bucket = bucket_of(name)
        if bucket is not None:
            from squash.index.buckets import VectorBuckets  # noqa: PLC0415 - most have none

            try:
                # One that remembers nothing: what lies there is to be read.
                VectorBuckets(self._store, clock=self._clock, ids=self._ids).get(bucket)
            except NotFoundError as error:
                raise DataError(
                    f"index {name!r} is in the vector bucket {bucket!r}, which is not there: "
                    "create that again, or drop the index",
                    object_key=entry_key(name),
                ) from error
        if pin is None:
            return
        try:
            self.encoders.resolve(f"{pin.name}@{pin.digest}")
        except NotFoundError as error:
            raise DataError(
                f"index {name!r} pins the encoder {encoder_label(pin.name, pin.digest)}, which is "
                "not in the store: texts cannot be put or asked for. Add it again",
                object_key=entry_key(name),
            ) from error
