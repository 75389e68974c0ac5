"""From a file's name to who reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from squash.errors import InvalidArgumentError
from squash.maintain.bulk.files.chunks import unusable
from squash.maintain.bulk.files.npy import probe_npy
from squash.maintain.bulk.plan import FileKind, InputFile
from squash.maintain.bulk.request import BuildRequest
from squash.model import EncoderPin, IndexConfig
from squash.storage.inputs import InputInfo, InputStore

if TYPE_CHECKING:
    from squash.maintain.bulk.files.parquet import ParquetPieces

_KINDS: Final[dict[str, FileKind]] = {".npy": "npy", ".parquet": "parquet"}


def probe(
    store: InputStore, info: InputInfo, request: BuildRequest, config: IndexConfig
) -> InputFile:
    """Look at a file's header or footer.

    Returns
    -------
    What it holds; `first` is 0, for it does not know the files before it.

    Raises
    ------
    InvalidArgumentError
        If nothing can be built of it: it is empty, cut short, of another kind, dimension or
        encoder, or lacks a column.
    ConflictError, NotFoundError, PermissionDeniedError, UnavailableError
        As the store does.

    """
    kind = file_kind(info.url)
    if not info.bytes:
        raise unusable(info.url, "it is empty, 0 bytes: write it again, or leave it out")
    if kind == "npy":
        if request.columns.text is not None:
            raise unusable(
                info.url,
                f"texts are to be read from a column {request.columns.text!r}, and a .npy file "
                "has none: build of Parquet files, or leave the column's name out",
            )
        file, made_by = probe_npy(store, info, dimension=config.dimension), None
    else:
        opened = open_parquet(store, info, request, config)
        file, made_by = opened.probe(info), opened.made_by
    _check_encoder(file, made_by or request.encoder, config)
    return file


def check_alike(files: Sequence[InputFile]) -> None:
    """Refuse files of which some have keys and others not: numbers would meet keys.

    Raises
    ------
    InvalidArgumentError
        With one of each.

    """
    keyed = next((file.url for file in files if file.keyed), None)
    bare = next((file.url for file in files if not file.keyed), None)
    if keyed is not None and bare is not None:
        raise InvalidArgumentError(
            f"{keyed} has a column of keys, and {bare} has none, so that its rows' numbers would "
            "be their keys: give all of them keys, or build of one kind"
        )


def open_parquet(
    store: InputStore, info: InputInfo, request: BuildRequest, config: IndexConfig
) -> ParquetPieces:
    """Open a Parquet file.

    Raises
    ------
    InvalidArgumentError
        If it is none, or pyarrow is not installed.

    """
    try:
        # Only now: pyarrow is an extra, and takes its time to import.
        from squash.maintain.bulk.files.parquet import ParquetPieces  # noqa: PLC0415
    except ImportError as error:
        raise InvalidArgumentError(
            f"{info.url}: reading .parquet needs pyarrow, which is an extra: "
            "pip install 'squash-search[parquet]'"
        ) from error
    return ParquetPieces(store, info, request.columns, dimension=config.dimension)


def file_kind(url: str) -> FileKind:
    """Return a file's kind by its ending.

    Raises
    ------
    InvalidArgumentError
        If no index can be built of such.

    """
    kind = _KINDS.get(PurePosixPath(url).suffix.lower())
    if kind is None:
        raise unusable(
            url,
            "what it holds cannot be told from its ending: a build takes .npy and .parquet. Leave "
            "it out; names that begin with _ or . are passed over",
        )
    return kind


def _check_encoder(file: InputFile, made_by: str | None, config: IndexConfig) -> None:
    """Hold who made a file's vectors against who makes the index's."""
    pin = config.encoder
    if file.texts:
        if pin is None:
            raise unusable(
                file.url,
                f"it is to be read for its texts, and index {config.name!r} has no encoder: give "
                "vectors, or create an index with an encoder",
            )
        return
    if pin is None:
        return
    shown = f"{pin.name}@{pin.digest[:12]}"
    if made_by is None:
        raise unusable(
            file.url,
            f"it holds vectors, and index {config.name!r} those of the encoder {shown}: name the "
            f"column of texts, or say encoder={shown!r} if it made these vectors",
        )
    if not _fits(made_by, pin):
        raise unusable(
            file.url,
            f"its vectors are {made_by}'s, which cannot be compared with those of the index's "
            f"encoder {shown}: name the column of texts, or build an index for the other",
        )


def _fits(made_by: str, pin: EncoderPin) -> bool:
    name, at, digest = made_by.partition("@")
    return made_by == pin.digest or (
        name == pin.name and (not at or (digest != "" and pin.digest.startswith(digest)))
    )
