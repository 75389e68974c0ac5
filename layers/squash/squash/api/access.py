"""Who is asking, and what that allows: by API key, by IAM, or, on a laptop, anybody."""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict
from typing import Final, Protocol

from squash.api.credentials import KeyRecord, hash_secret, load_key, parse_token
from squash.api.problems import NoCredentialError, RefusedError
from squash.api.requests import HttpRequest
from squash.api.routes import Scope
from squash.clock import Clock
from squash.limits import KEY_ABSENT_KEPT_MS_MAX, KEY_KEPT_MS_MAX, KEYS_KEPT_MAX
from squash.model import Filter
from squash.storage import ObjectStore
from squash.values import dataclass

_ALL: Final = "*"
_EVERY_INDEX: Final = (_ALL,)
_EVERY_SCOPE: Final = frozenset(Scope)
# Compared with when there is no such key, so that this takes as long as when there is.
_NOBODYS_SECRET: Final = hash_secret("")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking."""

    name: str
    """For the log: a key's id, or who the gateway says it is."""
    scopes: frozenset[Scope] = _EVERY_SCOPE
    indexes: tuple[str, ...] = _EVERY_INDEX
    row_filter: Filter | None = None

    def sees(self, index: str) -> bool:
        """Tell if an index is among the caller's, whether there is one of this name or not."""
        return any(_covers(one, index) for one in self.indexes)

    def sees_bucket(self, bucket: str) -> bool:
        """Tell if an index in a vector bucket may be among the caller's."""
        return any(one == _ALL or one.startswith(f"{bucket}/") for one in self.indexes)

    def sees_all_of(self, bucket: str) -> bool:
        """Tell if every index in a vector bucket is among the caller's, as yet made or not."""
        return any(one in {_ALL, f"{bucket}/*"} for one in self.indexes)

    def check(self, scope: Scope, index: str) -> None:
        """Refuse what the caller is not allowed to.

        Raises
        ------
        RefusedError
            The same for an index that is there and for one that is not.

        """
        if scope not in self.scopes:
            raise RefusedError(
                f"this credential lacks the scope {scope.value}: use one that has it"
            )
        if index and not self.sees(index):
            raise RefusedError(
                "this credential is not for an index of this name: use one that is", index=index
            )

    def check_unrestricted(self, what: str) -> None:
        """Refuse what would tell something of rows that the caller may not see.

        Raises
        ------
        RefusedError
            If the credential has a row filter.

        """
        if self.row_filter is not None:
            raise RefusedError(
                f"this credential sees some rows only, and {what} tells of all: use one without a "
                "row filter"
            )


NOBODY: Final = Caller("", frozenset(), ())


def caller_of(record: KeyRecord) -> Caller:
    """Return who bears a key."""
    return Caller(record.id, record.scopes, record.indexes, record.row_filter)


class Gate(Protocol):
    """Tells who is asking."""

    def admit(self, request: HttpRequest) -> Caller:
        """Return the caller.

        Raises
        ------
        NoCredentialError
            If it is nobody known.

        """
        ...


class OpenGate:
    """Lets everybody do everything: for a laptop, and for no page in its browser.

    A page from anywhere may have a browser post to this machine, but not as JSON, for which the
    browser would ask here first. Of what needs no body that has to be asked for.
    """

    def admit(self, request: HttpRequest) -> Caller:
        """Return anybody.

        Raises
        ------
        RefusedError
            If a page asks, as any page can.

        """
        if "origin" in request.headers and request.method == "POST" and not request.says_json():
            raise RefusedError(
                "a web page from anywhere could ask this, and nobody need have a key here: a page "
                "of your own sends the header content-type: application/json"
            )
        return Caller("anybody")


class IamGate:
    """Trusts that the gateway has checked the caller, if the event carries what it found."""

    def admit(self, request: HttpRequest) -> Caller:
        """Return the caller that the gateway's IAM authorizer found."""
        found = request.authorizer.get("iam")
        name = (found.get("userId") or found.get("userArn")) if isinstance(found, dict) else None
        if not name or not isinstance(name, str):
            raise NoCredentialError(
                "the request is not signed: sign it with AWS credentials (Signature Version 4)",
                given=False,
            )
        return Caller(name)


class KeyGate:
    """Knows callers by API key.

    Parameters
    ----------
    store:
        Where keys are kept.
    clock:
        Tells when keys expire, and when what is known of them must be read again.

    """

    def __init__(self, store: ObjectStore, clock: Clock) -> None:
        self._clock = clock
        self.records = KeyRecords(store, clock)

    def admit(self, request: HttpRequest) -> Caller:
        """Return the caller whose key the request bears."""
        token = _token_of(request)
        parts = parse_token(token)
        record = self.records.find(parts[0]) if parts else None
        secret = parts[1] if parts else ""
        expected = record.secret_sha256 if record else _NOBODYS_SECRET
        same = hmac.compare_digest(hash_secret(secret), expected)
        if record is None or not same or record.expired(self._clock.now_ms()):
            raise NoCredentialError(
                "the API key is unknown, expired or revoked: ask its issuer for another", given=True
            )
        return caller_of(record)


class KeyRecords:
    """What is stored of keys, remembered for a while. Threads may share it.

    Parameters
    ----------
    store:
        Where keys are kept.
    clock:
        Tells when what is known of them must be read again.

    """

    def __init__(self, store: ObjectStore, clock: Clock) -> None:
        self._clock = clock
        self._store = store
        self._lock = threading.Lock()
        # Apart, so that asking for a thousand unknown ids drives out none that is known.
        self._known: OrderedDict[str, tuple[KeyRecord, int]] = OrderedDict()
        self._unknown: OrderedDict[str, int] = OrderedDict()

    def find(self, key_id: str) -> KeyRecord | None:
        """Return what is stored of a key; None if there is none.

        Raises
        ------
        DataError
            If it is damaged, or of a newer release.

        """
        now = self._clock.now_ms()
        with self._lock:
            known = self._known.get(key_id)
            if known is not None and 0 <= now - known[1] < KEY_KEPT_MS_MAX:
                self._known.move_to_end(key_id)
                return known[0]
            absent = self._unknown.get(key_id)
            if absent is not None and 0 <= now - absent < KEY_ABSENT_KEPT_MS_MAX:
                return None
        record = load_key(self._store, key_id)
        with self._lock:
            self._known.pop(key_id, None)
            self._unknown.pop(key_id, None)
            if record is not None:
                self._known[key_id] = (record, now)
            else:
                self._unknown[key_id] = now
            for kept in (self._known, self._unknown):
                while len(kept) > KEYS_KEPT_MAX:
                    kept.popitem(last=False)
        return record


def _covers(pattern: str, index: str) -> bool:
    """Tell if a pattern is for an index: what has no "/" reaches into no vector bucket."""
    if pattern == _ALL:
        return True
    if not pattern.endswith("*"):
        return index == pattern
    return index.startswith(pattern[:-1]) and ("/" in pattern or "/" not in index)


def _token_of(request: HttpRequest) -> str:
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    given = [token.strip()] if scheme.lower() == "bearer" else []
    given += [request.headers["x-api-key"].strip()] if "x-api-key" in request.headers else []
    if not given or not given[0]:
        raise NoCredentialError(
            "the request bears no API key: send it as Authorization: Bearer sqk_..., or as "
            "x-api-key",
            given=False,
        )
    if len(set(given)) > 1:
        raise NoCredentialError("the request bears two API keys: send one", given=True)
    return given[0]
