"""Encoders, and databases whose encoding is looked at."""

from __future__ import annotations

import numpy as np

from fakes import CountedIds, FakeClock
from squash.database import Database
from squash.encoders.encoded import Encoded
from squash.runtime import Settings
from squash.runtime.encoders import EncoderRegistry
from squash.runtime.encoding import EncodedFor
from squash.search.spending import Spent
from squash.storage import MemoryStore

DIMENSION = 16


class Letters:
    """Encodes a text as its letters' places in the alphabet; each call is an invocation.

    Texts longer than ten letters are truncated if they begin with "t", and else chunked.
    """

    def __init__(self):
        self.asked = []
        self.error = None
        self.vectors = None

    def encode(self, pin, inputs, *, purpose, dimension, deadline_ms=None, told=None):
        self.asked.append((pin, inputs, purpose, dimension, deadline_ms))
        if self.error is not None:
            raise self.error
        vectors = np.zeros((len(inputs), dimension), np.float32)
        for row, item in zip(vectors, inputs.items, strict=True):
            text = item if isinstance(item, str) else item.decode()
            row[0] = 1
            row[1] = len(text)
            row[2 : 2 + min(len(text), dimension - 2)] = [
                ord(c) % 31 for c in text[: dimension - 2]
            ]
        if told is not None:
            told(len(inputs))
        long = [place for place, item in enumerate(inputs.items) if len(item) > 10]
        truncated = tuple(place for place in long if inputs.items[place][0] in {"t", ord("t")})
        chunked = tuple(place for place in long if place not in truncated)
        tokens = sum(map(len, inputs.items))
        spent = Spent(invocations=1, invocations_cold=1, gb_seconds=2.0)
        given = vectors if self.vectors is None else self.vectors
        return EncodedFor(Encoded(given, tokens, truncated, chunked), spent)


def open_on(store, **more):
    settings = Settings(billed=True)
    return Database(store, settings=settings, clock=FakeClock(), ids=CountedIds(), **more)


def tiny(db, folders, **more):
    """An index with the first encoder."""
    return db.create_index("x", encoder=digest_of(folders, "tiny"), **more)


def digest_of(folders, name):
    return EncoderRegistry(MemoryStore(), check=lambda folder: None).add(folders / name).digest
