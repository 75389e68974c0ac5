"""Settings that change: numbered versions, of which the newest holds.

There is no mutable object. Whoever changes settings puts the next number, if nobody has; of two at
once one finds it taken, reads on and decides again: no change is lost. So what stands in a version
was decided on all that stood before it.

**Reading.** Numbers have no gap at their end: a version is removed only `SETTINGS_KEPT_MS` after
the one that follows it was put, by the store's clock. Who knew the newest at most
`SETTINGS_TRUSTED_MS` ago asks for the next number alone, one GET; else the newest is found with one
LIST and one GET.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from itertools import pairwise
from typing import Any, Final

from squash.clock import Clock, IdSource
from squash.container import Buffer
from squash.errors import (
    ChecksumError,
    DataError,
    SquashError,
    ThrottledError,
    TooLargeError,
    UnavailableError,
    UnsupportedFormatError,
)
from squash.index.references import MALFORMED
from squash.index.sealed import document_checksum
from squash.limits import (
    ID_PATTERN,
    SETTINGS_ATTEMPTS_MAX,
    SETTINGS_BYTES_MAX,
    SETTINGS_KEPT_MS,
    SETTINGS_TRUSTED_MS,
    SETTINGS_VERSIONS_MAX,
)
from squash.storage import ObjectStore
from squash.values import dataclass

FORMAT: Final = "squash-settings"
VERSION: Final = 1
_NUMBER: Final = re.compile(r"[0-9]{20}")
_WRITE: Final = re.compile(ID_PATTERN)
_STEPS_MAX: Final = 8  # to the newest from a version that is known; further on it is listed
_WAIT_S_MAX: Final = 0.2
_RETRY_AFTER_MS: Final = 1000

Content = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """The newest settings, as they were when they were read."""

    number: int = 0
    """0: none were ever written, or all were removed."""
    content: Content = field(default_factory=dict)
    checked_ms: int = 0
    """When it was the newest, by the clock of whoever read it."""
    stored: Mapping[int, int] = field(default_factory=dict)
    """The numbers listed with it and when each was stored; empty if nothing was listed."""
    removable: Sequence[int] = ()
    """Of these, the ones that nobody needs."""


class SettingsLog:
    """The settings kept below one prefix.

    Parameters
    ----------
    store, prefix:
        Where; the prefix ends with "/".
    clock, ids:
        Time, and what tells one's own write from another's.
    kind:
        Stands in every version as its format.

    """

    def __init__(
        self,
        store: ObjectStore,
        prefix: str,
        *,
        clock: Clock,
        ids: IdSource,
        kind: str = FORMAT,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._clock = clock
        self._ids = ids
        self._kind = kind

    @property
    def prefix(self) -> str:
        """Below what they are kept."""
        return self._prefix

    def key(self, number: int) -> str:
        """Return the key of a version."""
        return f"{self._prefix}{number:020d}"

    def read(self, known: Version | None = None) -> Version:
        """Return the newest settings; empty if none were ever written.

        Parameters
        ----------
        known:
            What was the newest some time ago: then one GET tells that it still is.

        Raises
        ------
        DataError, UnsupportedFormatError
            If they are damaged, or of a newer release.
        UnavailableError
            From the store.

        """
        now_ms = self._clock.now_ms()
        if known is None or not known.number:
            return self._newest()
        if not 0 <= now_ms - known.checked_ms <= SETTINGS_TRUSTED_MS:
            return self._newest()
        for _ in range(_STEPS_MAX):
            key = self.key(known.number + 1)
            data = self._store.get(key)
            if data is None:
                return Version(known.number, known.content, now_ms)
            known = Version(known.number + 1, _from_bytes(data, key, self._kind)[0])
        return self._newest()

    def change(self, change: Callable[[Content], Content]) -> Version:
        """Write what `change` makes of the newest settings; it may be asked several times.

        It makes something that is not empty; what it raises ends the call.

        Raises
        ------
        ThrottledError
            If others were first, again and again, or they were changed too often of late.
        TooLargeError
            If there is too much of them.
        DataError, UnsupportedFormatError
            If they are damaged, or of a newer release.
        UnavailableError
            From the store; the change may have been written, and can be repeated.

        """
        for attempt in range(SETTINGS_ATTEMPTS_MAX):
            version = self._with_room(self._newest())
            changed = change(version.content)
            if version.number and changed == version.content:
                return version
            written = self.write_next(version, changed)
            if written is not None:
                return written
            self._clock.sleep(min(_WAIT_S_MAX, 0.005 * 2**attempt) * self._ids.jitter())
        raise contended("these settings")

    def write_next(self, version: Version, content: Content) -> Version | None:
        """Write what follows a version that was read; None, and nothing is written, if another did.

        Raises
        ------
        ThrottledError, TooLargeError, UnavailableError
            As `change`.

        """
        if _is_full(version):
            raise ThrottledError(
                f"these settings were changed {len(version.stored):,} times within "
                f"{SETTINGS_KEPT_MS // 60_000} minutes: wait before they are changed again",
                retry_after_ms=SETTINGS_KEPT_MS // SETTINGS_VERSIONS_MAX,
                limit="SETTINGS_VERSIONS_MAX",
            )
        key, mine, now_ms = self.key(version.number + 1), self._ids.new_id(), self._clock.now_ms()
        data = _to_bytes(content, self._kind, mine)
        try:
            written = self._store.put_if_absent(key, data)
        except UnavailableError:
            # The answer may be what was lost; what lies there tells.
            there = self._writer(key)
            if there is None:
                raise
            written = there == mine
        else:
            # A store that tried twice by itself may have met its own first try.
            written = written or self._writer(key) == mine
        if not written:
            return None
        if version.removable:
            # It is written, whatever becomes of those; the next change removes them.
            with suppress(SquashError):
                self._store.delete([self.key(one) for one in version.removable])
        return Version(version.number + 1, content, now_ms)

    def _newest(self) -> Version:
        for _ in range(SETTINGS_ATTEMPTS_MAX):
            now_ms = self._clock.now_ms()
            found: dict[int, int] = {}
            for info in self._store.list(self._prefix):
                name = info.key.removeprefix(self._prefix)
                if _NUMBER.fullmatch(name):
                    found[int(name)] = info.modified_ms
            if not found:
                return Version(checked_ms=now_ms)
            number = max(found)
            key = self.key(number)
            data = self._store.get(key)
            if data is not None:
                content, _ = _from_bytes(data, key, self._kind)
                return Version(number, content, now_ms, found, _removable(found, found[number]))
        raise contended("these settings")

    def _with_room(self, version: Version) -> Version:
        """Look again at what can be removed, if nothing could be written otherwise."""
        if not _is_full(version):
            return version
        # Nothing was written of late that would tell the time by the store's clock.
        probe = f"{self._prefix}now/{self._ids.new_id()}"
        self._store.put(probe, b"")
        now_ms = max((info.modified_ms for info in self._store.list(probe)), default=0)
        self._store.delete([probe])
        return replace(version, removable=_removable(version.stored, now_ms))

    def _writer(self, key: str) -> str | None:
        data = self._store.get(key)
        return None if data is None else _from_bytes(data, key, self._kind)[1]


def contended(what: str) -> ThrottledError:
    """Make the error for a change that others were before, again and again."""
    return ThrottledError(
        f"others change {what} at this moment: wait, then repeat", retry_after_ms=_RETRY_AFTER_MS
    )


def check_settings(data: Buffer, key: str, kind: str = FORMAT) -> None:
    """Refuse what is no version of settings.

    Raises
    ------
    DataError, UnsupportedFormatError
        If it is damaged, or of a newer release.

    """
    _from_bytes(data, key, kind)


def _is_full(version: Version) -> bool:
    return len(version.stored) - len(version.removable) >= SETTINGS_VERSIONS_MAX


def _removable(found: Mapping[int, int], now_ms: int) -> tuple[int, ...]:
    """Return which versions no reader can still go by; the store's time is `now_ms` or later."""
    return tuple(
        one
        for one, following in pairwise(sorted(found))
        if found[following] < now_ms - SETTINGS_KEPT_MS
    )


def _to_bytes(content: Content, kind: str, write: str) -> bytes:
    document: dict[str, Any] = {
        "format": kind,
        "version": VERSION,
        "features": [],
        "write": write,
        "content": dict(content),
    }
    document["crc32"] = document_checksum(document)
    data = (json.dumps(document, indent=2) + "\n").encode()
    if len(data) > SETTINGS_BYTES_MAX:
        raise TooLargeError(
            f"these settings take {len(data):,} bytes; they have at most {SETTINGS_BYTES_MAX:,}: "
            "keep less in them"
        )
    return data


def _from_bytes(data: Buffer, key: str, kind: str) -> tuple[Content, str]:
    """Return the content and who wrote it."""
    try:
        if len(data) > SETTINGS_BYTES_MAX:
            raise ValueError(f"it has {len(data):,} bytes")
        document = json.loads(bytes(data))
        _refuse_newer(document, key, kind)
        if document["crc32"] != document_checksum(document):
            raise ChecksumError(
                f"{key} is not as it was written: its checksum differs. It never changes once it "
                "is there: restore it from a copy.",
                object_key=key,
            )
        content, write = document["content"], document["write"]
        if not isinstance(content, dict) or not content:
            raise TypeError("its content is no object, or an empty one")
        if not _WRITE.fullmatch(write):
            raise ValueError("its write is not 32 hexadecimal digits")
    except MALFORMED as error:
        raise DataError(
            f"{key} holds no settings ({error!r:.200}): restore it from a copy", object_key=key
        ) from error
    return content, write


def _refuse_newer(document: Mapping[str, Any], key: str, kind: str) -> None:
    features = document["features"]
    found, version = document["format"], document["version"]
    if (found, version, features) != (kind, VERSION, []):
        raise UnsupportedFormatError(
            f"{key} is a {found!r:.80} of version {version!r:.80} with the features "
            f"{features!r:.80}; this release reads {kind!r} of version {VERSION} with "
            "none. Install a newer release of squash-search.",
            object_key=key,
        )
