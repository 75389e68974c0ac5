"""Signing keys: what the secrets of access keys are derived from, and where they lie.

A request's signature can only be checked with the secret that made it, so that a hash of it is not
enough. What is stored of a key is still a hash alone: its secret is computed anew from its id and
from a signing key of 256 random bits, which lies elsewhere than the data.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from collections.abc import Sequence
from dataclasses import field
from typing import Final

from squash.api.environment import KeyPlace, PlaceKind
from squash.clock import Clock
from squash.errors import DataError, UnavailableError
from squash.limits import SIGNING_KEY_ABSENT_KEPT_MS_MAX, SIGNING_KEY_BYTES
from squash.storage import ObjectStore
from squash.values import dataclass

FORMAT: Final = "squash-signing-key"
VERSION: Final = 1
# No index can have this name, since names do not begin with "_".
FOLDER: Final = "_signing/"
_ID_LABEL: Final = b"squash signing key id v1\0"
_SECRET_LABEL: Final = b"squash access key v1\0"
_ID_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What the secrets of access keys are derived from; its id is derived from it too."""

    data: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Its name, 16 hexadecimal digits, which tell nothing of it."""
        return hashlib.sha256(_ID_LABEL + self.data).hexdigest()[:_ID_DIGITS]

    def secret_of(self, key_id: str) -> str:
        """Return the secret of the access key with this id, 43 characters."""
        digest = hmac.digest(self.data, _SECRET_LABEL + key_id.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class SigningKeys:
    """The signing keys of a deployment, read when one is first needed. Threads may share it.

    Parameters
    ----------
    places:
        Where they lie.
    store:
        The one that holds the indexes.
    clock:
        Tells when to look again for one that was not there.

    """

    def __init__(self, places: Sequence[KeyPlace], store: ObjectStore, clock: Clock) -> None:
        self.places = tuple(places)
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._found: dict[str, SigningKey] = {}
        self._looked_ms: int | None = None

    def find(self, signing_key_id: str) -> SigningKey | None:
        """Return the one of this id; None if it lies at none of the places.

        Raises
        ------
        UnavailableError, ThrottledError, InternalError
            If a place cannot be read.
        DataError
            If what lies there is no signing key.

        """
        with self._lock:
            found = self._found.get(signing_key_id)
            if found is not None or self._looked_lately():
                return found
            for place in self.places:
                key = load_signing_key(place, self._store)
                if key is not None:
                    self._found[key.id] = key
            self._looked_ms = self._clock.now_ms()
            return self._found.get(signing_key_id)

    def _looked_lately(self) -> bool:
        if self._looked_ms is None:
            return False
        return 0 <= self._clock.now_ms() - self._looked_ms < SIGNING_KEY_ABSENT_KEPT_MS_MAX


def load_signing_key(place: KeyPlace, store: ObjectStore) -> SigningKey | None:
    """Read what lies at a place; None if nothing does.

    Raises
    ------
    UnavailableError, ThrottledError, InternalError
        If the place cannot be read.
    DataError
        If it is no signing key, or of a newer release.

    """
    if place.kind is PlaceKind.STORE:
        data = store.get(FOLDER + place.name)
        return None if data is None else _from_text(bytes(data), place)
    # Only here: who needs no parameter waits for no client.
    from squash.api.parameters import read_parameter  # noqa: PLC0415

    text = read_parameter(place.name, region=place.region)
    return None if text is None else _from_text(text.encode(), place)


def ensure_signing_key(
    place: KeyPlace, store: ObjectStore, *, data: bytes | None = None
) -> SigningKey:
    """Return what lies at a place, made now if nothing does.

    Parameters
    ----------
    place, store:
        Where; the store holds the indexes.
    data:
        What to make it of; without it, of 32 random bytes.

    Raises
    ------
    UnavailableError, ThrottledError, InternalError, DataError
        As `load_signing_key`.

    """
    found = load_signing_key(place, store)
    if found is not None:
        return found
    made = SigningKey(data or secrets.token_bytes(SIGNING_KEY_BYTES))
    if place.kind is PlaceKind.STORE:
        first = store.put_if_absent(FOLDER + place.name, _to_text(made).encode())
    else:
        from squash.api.parameters import create_parameter  # noqa: PLC0415

        first = create_parameter(place.name, _to_text(made), region=place.region)
    # Of two that make it at once one is first, and both take what that one made.
    found = made if first else load_signing_key(place, store)
    if found is None:
        raise UnavailableError(f"{place} cannot be read yet, though it was just made: repeat this")
    return found


def _to_text(key: SigningKey) -> str:
    return json.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "id": key.id,
            "key": base64.b64encode(key.data).decode(),
        }
    )


def _from_text(text: bytes, place: KeyPlace) -> SigningKey:
    # Nothing of what is there may get into a message: it may be nearly a signing key.
    try:
        content = json.loads(text)
        known = (content["format"], content["version"]) == (FORMAT, VERSION)
        key = SigningKey(base64.b64decode(content["key"], validate=True)) if known else None
        stated = content["id"]
    except (ValueError, KeyError, TypeError):
        known, key, stated = True, None, ""
    if not known:
        raise DataError(f"{place} is of another format than this release reads: take a newer one")
    if key is None or len(key.data) != SIGNING_KEY_BYTES or stated != key.id:
        raise DataError(
            f"what lies at {place} is no signing key, or is not as it was made: put back what was "
            "there, or name another place and make the access keys anew"
        )
    return key
