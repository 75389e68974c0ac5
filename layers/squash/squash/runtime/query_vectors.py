"""The vectors of queries asked before: the same question again need not be encoded again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from squash.arrays import F32
from squash.encoders.encoded import Encoded
from squash.errors import InvalidArgumentError, TooLargeError
from squash.limits import QUERY_VECTORS_BYTES_MAX
from squash.model import EncoderPin, Inputs, Purpose
from squash.runtime.encoding import EncodedFor, Encoding, Told, check_encoded
from squash.search.spending import Spent

# Of an entry, beside its vector: the key's digests, the tuple, the array's head, the table's slot.
_ENTRY_BYTES: Final = 512
_HASH_BYTES: Final = 32

_Key: TypeAlias = tuple[str, int, str, bytes]


class _Kept(NamedTuple):
    vector: F32
    truncated: bool
    chunked: bool


class QueryVectors:
    """An `Encoding` that remembers the vectors of queries; least recently used out first.

    A query that is remembered spends nothing, and no tokens. Documents pass through.

    Parameters
    ----------
    encoding:
        Encodes what is not remembered.
    bytes_max:
        How much is remembered.

    """

    def __init__(self, encoding: Encoding, bytes_max: int = QUERY_VECTORS_BYTES_MAX) -> None:
        self._encoding = encoding
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """How much is remembered."""
        return self._bytes

    def encode(
        self,
        pin: EncoderPin,
        inputs: Inputs,
        *,
        purpose: Purpose,
        dimension: int,
        deadline_ms: int | None = None,
        told: Told | None = None,
    ) -> EncodedFor:
        """Encode inputs, in their order; see `Encoding.encode`."""

        def encode(asked: Inputs) -> EncodedFor:
            return self._encoding.encode(
                pin,
                asked,
                purpose=purpose,
                dimension=dimension,
                deadline_ms=deadline_ms,
                told=told,
            )

        if purpose is not Purpose.QUERY:
            return encode(inputs)
        keys = [_key(pin, dimension, inputs, item) for item in inputs.items]
        known = self._recall(keys)
        # One of each that is new, by its first place.
        new = {key: place for place, key in reversed(list(enumerate(keys))) if key not in known}
        places = sorted(new.values())
        tokens, spent = 0, Spent()
        if places:
            try:
                found = encode(Inputs(inputs.modality, _taken(inputs, places)))
            except (InvalidArgumentError, TooLargeError):
                if len(places) < len(inputs):
                    encode(inputs)  # It fails the same, and names the input by its place here.
                raise
            check_encoded(found.encoded, pin, inputs=len(places), dimension=dimension)
            tokens, spent = found.encoded.tokens, found.spent
            known |= self._remember([keys[place] for place in places], found.encoded)
        kept = [known[key] for key in keys]
        vectors = np.empty((len(keys), dimension), np.float32)
        for place, one in enumerate(kept):
            vectors[place] = one.vector
        encoded = Encoded(
            vectors,
            tokens,
            tuple(place for place, one in enumerate(kept) if one.truncated),
            tuple(place for place, one in enumerate(kept) if one.chunked),
        )
        return EncodedFor(encoded, spent)

    def _recall(self, keys: list[_Key]) -> dict[_Key, _Kept]:
        known = {}
        with self._lock:
            for key in keys:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    known[key] = self._kept[key]
        return known

    def _remember(self, keys: list[_Key], encoded: Encoded) -> dict[_Key, _Kept]:
        truncated, chunked = frozenset(encoded.truncated), frozenset(encoded.chunked)
        # Each its own copy: a view would hold all vectors of the call in memory.
        made = {
            key: _Kept(encoded.vectors[i].copy(), i in truncated, i in chunked)
            for i, key in enumerate(keys)
        }
        with self._lock:
            for key, one in made.items():
                if key not in self._kept:
                    self._bytes += _size(one)
                self._kept[key] = one
                self._kept.move_to_end(key)
            while self._bytes > self._bytes_max:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        return made


def _key(pin: EncoderPin, dimension: int, inputs: Inputs, item: str | bytes) -> _Key:
    data = item.encode("utf-8", "surrogatepass") if isinstance(item, str) else item
    digest = hashlib.blake2b(data, digest_size=_HASH_BYTES).digest()
    return pin.digest, dimension, inputs.modality.value, digest


def _taken(inputs: Inputs, places: list[int]) -> list[str] | list[bytes]:
    items: list[str] = [inputs.items[place] for place in places]  # type: ignore[misc]
    return items


def _size(kept: _Kept) -> int:
    return kept.vector.nbytes + _ENTRY_BYTES
