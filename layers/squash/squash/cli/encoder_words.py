"""Encoders as JSON documents and as rows of tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from squash.encoders.contract import TextPart

if TYPE_CHECKING:
    from squash.runtime.encoders import EncoderInfo


def info_document(info: EncoderInfo) -> dict[str, Any]:
    """Describe an encoder of a store: what its `encoder.json` says, its digest and its size."""
    config = info.config
    return asdict(config) | {
        "digest": info.digest,
        "bytes": info.bytes,
        "metric": str(config.metric),
        "modalities": [str(modality) for modality in config.modalities],
        "files": {name: asdict(file) for name, file in config.files.items()},
    }


def info_rows(info: EncoderInfo) -> list[tuple[str, Any]]:
    """Return what a person wants to know of an encoder, with its titles."""
    config = info.config
    rows: list[tuple[str, Any]] = [
        ("digest", info.digest),
        ("revision", config.revision),
        ("source", config.source),
        ("licence", config.licence),
        ("of", ", ".join(config.modalities)),
        ("dimension", config.dimension),
        ("may be cut to", ", ".join(map(str, config.truncate_dimensions)) or "nothing shorter"),
        ("metric", str(config.metric)),
        ("normalised", config.normalise),
    ]
    if config.text is not None:
        rows += _text_rows(config.text)
    if config.image is not None:
        rows.append(("pixels a side", config.image.size))
    return [*rows, ("bytes", info.bytes)]


def _text_rows(part: TextPart) -> list[tuple[str, Any]]:
    rows = [
        ("tokens at most", part.tokens_max),
        ("longer texts", "cut" if part.over_long == "truncate" else "encoded part by part"),
        ("pooling", str(part.pooling)),
    ]
    prefixes = (("before queries", part.query_prefix), ("before texts", part.document_prefix))
    return [*rows, *((title, repr(prefix)) for title, prefix in prefixes if prefix)]
