"""What is to be known of a model beside its weights, and who says it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from squash.encoders.contract import OverLong, Pooling
from squash.model import Metric
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """How an encoder's texts are to be encoded, and what it is called; None is not said.

    Parameters
    ----------
    revision, licence:
        For people.
    pooling, tokens_max, over_long, query_prefix, document_prefix:
        See `squash.encoders.contract.TextPart`.
    metric, normalise, truncate_dimensions:
        See `squash.encoders.contract.EncoderConfig`.

    """

    revision: str | None = None
    licence: str | None = None
    pooling: Pooling | None = None
    tokens_max: int | None = None
    over_long: OverLong | None = None
    query_prefix: str | None = None
    document_prefix: str | None = None
    metric: Metric | None = None
    normalise: bool | None = None
    truncate_dimensions: tuple[int, ...] | None = None

    def over(self, other: Settings) -> Settings:
        """Return these settings, and the other's where these say nothing."""
        said: dict[str, Any] = {}
        for field in fields(self):
            own = getattr(self, field.name)
            said[field.name] = getattr(other, field.name) if own is None else own
        return Settings(**said)
