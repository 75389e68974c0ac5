"""API keys: made, kept, listed, revoked.

A key is `sqk_<id>_<secret>`. Only the SHA-256 of the secret is stored. That is enough, without salt
or a slow hash: these guard secrets that can be guessed, and one of 256 random bits cannot.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from squash.api.routes import Scope
from squash.attributes import parse_filter
from squash.clock import Clock
from squash.container import Buffer
from squash.errors import (
    ChecksumError,
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    UnsupportedFormatError,
)
from squash.index.sealed import document_checksum
from squash.limits import (
    BUCKET_NAME_PATTERN,
    FILTER_CLAUSES_MAX,
    FILTER_DEPTH_MAX,
    INDEX_NAME_CHARACTERS_MAX,
    KEY_DESCRIPTION_BYTES_MAX,
    KEY_ID_BYTES,
    KEY_INDEXES_MAX,
    KEY_SECRET_BYTES,
)
from squash.model import Filter
from squash.storage import ObjectStore
from squash.values import dataclass

if TYPE_CHECKING:
    from squash.api.signing_keys import SigningKey

FORMAT: Final = "squash-key"
VERSION: Final = 1
# Of keys that releases before vector buckets could not have made, and do not read.
VERSION_OF_BUCKETS: Final = 2
_VERSIONS: Final = (VERSION, VERSION_OF_BUCKETS)
# No index can have this name, since names do not begin with "_".
FOLDER: Final = "_keys/"
PREFIX: Final = "sqk"
ACCESS_KEY_PREFIX: Final = "SQKA"
_ACCESS_KEY_ID: Final = re.compile(rf"{ACCESS_KEY_PREFIX}([0-9A-F]{{{2 * KEY_ID_BYTES}}})")
_TOKEN: Final = re.compile(rf"{PREFIX}_([0-9a-f]{{{2 * KEY_ID_BYTES}}})_([A-Za-z0-9_-]{{43}})")
_ID: Final = re.compile(rf"[0-9a-f]{{{2 * KEY_ID_BYTES}}}")
# In a vector bucket, whose name is always whole: all indexes, one, or a name's beginning.
_IN_BUCKET: Final = (
    rf"{BUCKET_NAME_PATTERN}/(?:\*|[a-z0-9][a-z0-9.-]{{0,62}}\*|{BUCKET_NAME_PATTERN})"
)
_PATTERN: Final = re.compile(
    rf"[a-z0-9][a-z0-9_-]{{0,{INDEX_NAME_CHARACTERS_MAX - 1}}}\*?|\*|{_IN_BUCKET}"
)
_SIGNING_KEY_ID: Final = re.compile("[0-9a-f]{16}")
# Half of what a filter may be is left for the query's own.
_ROW_FILTER_CLAUSES_MAX: Final = FILTER_CLAUSES_MAX // 2
_ROW_FILTER_DEPTH_MAX: Final = FILTER_DEPTH_MAX - 1

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored of a key."""

    id: str
    secret_sha256: str
    scopes: frozenset[Scope]
    indexes: tuple[str, ...]
    """Names, or beginnings of names followed by "*"; in vector buckets as bucket/name."""
    row_filter: Filter | None
    description: str
    created_ms: int
    expires_ms: int | None
    signing_key: str | None = None
    """The id of the signing key that the secret is derived from; None if it was drawn."""

    @property
    def access_key_id(self) -> str | None:
        """What AWS clients call it; None if they cannot sign with it."""
        return None if self.signing_key is None else ACCESS_KEY_PREFIX + self.id.upper()

    def expired(self, now_ms: int) -> bool:
        """Tell if its time is over."""
        return self.expires_ms is not None and now_ms >= self.expires_ms


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: the only time that its token is known.

    Where `record` has an access key's id, `secret` is the secret access key.
    """

    token: str
    record: KeyRecord
    secret: str


def create_key(
    store: ObjectStore,
    *,
    scopes: Sequence[str],
    indexes: Sequence[str],
    clock: Clock,
    row_filter: Filter | None = None,
    description: str = "",
    lifetime_ms: int | None = None,
    signing_key: SigningKey | None = None,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> NewKey:
    """Make a key and store what has to be known of it.

    Parameters
    ----------
    store:
        The one that holds the indexes.
    scopes:
        Of "read", "write", "admin"; none includes another.
    indexes:
        Names, or beginnings of names followed by "*"; in vector buckets as bucket/name.
    clock:
        Tells when it is made.
    row_filter:
        Is and-ed into everything that the key reads; only for keys that only read.
    description:
        For people.
    lifetime_ms:
        After which it no longer works; None for never.
    signing_key:
        What the secret is derived from, so that AWS clients can sign with it; None to draw it.
    random_bytes:
        Makes the id, and the secret where it is drawn.

    Raises
    ------
    InvalidArgumentError, FilterError
        If an argument is out of its range.

    """
    allowed = _check_scopes(scopes)
    patterns = _check_indexes(indexes)
    _check_row_filter(row_filter, allowed)
    if len(description.encode(errors="replace")) > KEY_DESCRIPTION_BYTES_MAX:
        raise InvalidArgumentError(
            f"the description has more than {KEY_DESCRIPTION_BYTES_MAX} bytes: shorten it",
            field="description",
        )
    if lifetime_ms is not None and lifetime_ms <= 0:
        raise InvalidArgumentError("a key lives for some time, or for ever", field="expires")
    now = clock.now_ms()
    if signing_key is None:
        secret = base64.urlsafe_b64encode(random_bytes(KEY_SECRET_BYTES)).decode().rstrip("=")
        key_id = random_bytes(KEY_ID_BYTES).hex()
    else:
        key_id = random_bytes(KEY_ID_BYTES).hex()
        secret = signing_key.secret_of(key_id)
    record = KeyRecord(
        id=key_id,
        secret_sha256=hash_secret(secret),
        scopes=allowed,
        indexes=patterns,
        row_filter=row_filter,
        description=description,
        created_ms=now,
        expires_ms=None if lifetime_ms is None else now + lifetime_ms,
        signing_key=None if signing_key is None else signing_key.id,
    )
    if not store.put_if_absent(_key(record.id), _to_bytes(record)):
        stored = load_key(store, record.id)
        if stored is None or stored.secret_sha256 != record.secret_sha256:
            raise ConflictError("a key of this id is there already: make another one")
    return NewKey(f"{PREFIX}_{record.id}_{secret}", record, secret)


def load_key(store: ObjectStore, key_id: str) -> KeyRecord | None:
    """Read what is stored of a key; None if there is none.

    Raises
    ------
    DataError
        If it is damaged, or of a newer release.

    """
    data = store.get(_key(key_id))
    return None if data is None else _from_bytes(data, key_id)


def list_keys(store: ObjectStore) -> list[KeyRecord]:
    """Return what is stored of every key, the oldest first.

    Raises
    ------
    DataError
        If one is damaged, or of a newer release.

    """
    found = (load_key(store, key_id) for key_id in _ids(store))
    records = [record for record in found if record is not None]
    return sorted(records, key=lambda record: (record.created_ms, record.id))


def revoke_key(store: ObjectStore, key_id: str) -> None:
    """Remove a key: functions that know it forget it within `KEY_KEPT_MS_MAX`.

    Raises
    ------
    NotFoundError
        If there is none of this id.

    """
    if not _ID.fullmatch(key_id) or store.get(_key(key_id)) is None:
        raise NotFoundError(f"there is no key {key_id!r}: see `squash keys list`")
    store.delete([_key(key_id)])


def parse_token(token: str) -> tuple[str, str] | None:
    """Return a token's id and secret; None if it is not even made like one."""
    found = _TOKEN.fullmatch(token)
    return None if found is None else (found.group(1), found.group(2))


def parse_access_key_id(access_key_id: str) -> str | None:
    """Return the id of the key that AWS clients call so; None if it is not even made like one."""
    found = _ACCESS_KEY_ID.fullmatch(access_key_id)
    return None if found is None else found.group(1).lower()


def hash_secret(secret: str) -> str:
    """Return the form in which a secret is stored, 64 hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _ids(store: ObjectStore) -> Iterator[str]:
    for info in store.list(FOLDER):
        name = info.key.removeprefix(FOLDER)
        if _ID.fullmatch(name):
            yield name


def _key(key_id: str) -> str:
    return f"{FOLDER}{key_id}"


def _check_scopes(scopes: Sequence[str]) -> frozenset[Scope]:
    unknown = sorted(set(scopes) - set(Scope))
    if unknown or not scopes:
        raise InvalidArgumentError(
            f"scopes are of {', '.join(Scope)}, at least one; {unknown[0]!r} is none"
            if unknown
            else f"a key has at least one scope of {', '.join(Scope)}",
            field="scopes",
        )
    return frozenset(Scope(scope) for scope in scopes)


def _check_indexes(indexes: Sequence[str]) -> tuple[str, ...]:
    bad = [one for one in indexes if not _PATTERN.fullmatch(one)]
    if bad or not 1 <= len(indexes) <= KEY_INDEXES_MAX:
        raise InvalidArgumentError(
            f"a key is for 1 to {KEY_INDEXES_MAX} indexes: their names, or beginnings of names "
            'followed by "*", and in a vector bucket the same after its name and "/"'
            f"{f'; {bad[0]!r} is neither' if bad else ''}",
            field="indexes",
        )
    return tuple(dict.fromkeys(indexes))


def _check_row_filter(row_filter: Filter | None, scopes: frozenset[Scope]) -> None:
    if row_filter is None:
        return
    if scopes != {Scope.READ}:
        raise InvalidArgumentError(
            "a key with a row filter can only read: what it wrote or deleted could lie outside of "
            "its rows. Give it the scope read alone",
            field="scopes",
        )
    if parse_filter(row_filter) is None:
        raise InvalidArgumentError(
            "an empty row filter would let every row pass: leave it out if that is meant",
            field="row_filter",
        )
    depth, clauses = _measure(row_filter)
    if depth > _ROW_FILTER_DEPTH_MAX or clauses > _ROW_FILTER_CLAUSES_MAX:
        raise InvalidArgumentError(
            f"a row filter nests at most {_ROW_FILTER_DEPTH_MAX} deep and has at most "
            f"{_ROW_FILTER_CLAUSES_MAX} comparisons, so that queries can add their own",
            field="row_filter",
        )


def _measure(filter_: Any) -> tuple[int, int]:
    """Return how deep a filter nests and, at least, how many comparisons it has."""
    if not isinstance(filter_, (Mapping, list, tuple)):
        return 0, 1
    parts = filter_.values() if isinstance(filter_, Mapping) else filter_
    measured = [_measure(part) for part in parts]
    deep = isinstance(filter_, Mapping)
    return (
        max((depth for depth, _ in measured), default=0) + deep,
        sum(clauses for _, clauses in measured),
    )


def _to_bytes(record: KeyRecord) -> bytes:
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": _version_of(record),
        "id": record.id,
        "secret_sha256": record.secret_sha256,
        "scopes": sorted(record.scopes),
        "indexes": list(record.indexes),
        "row_filter": record.row_filter,
        "description": record.description,
        "created_ms": record.created_ms,
        "expires_ms": record.expires_ms,
    }
    if record.signing_key is not None:
        content["signing_key"] = record.signing_key
    content["crc32"] = document_checksum(content)
    return (json.dumps(content, indent=2) + "\n").encode()


def _from_bytes(data: Buffer, key_id: str) -> KeyRecord:
    where = _key(key_id)
    try:
        content = json.loads(bytes(data))
        if content["format"] != FORMAT or content["version"] not in _VERSIONS:
            raise UnsupportedFormatError(
                f"{where} is of another format than this release reads: install a newer one",
                object_key=where,
            )
        if content["crc32"] != document_checksum(content):
            raise ChecksumError(
                f"{where} is not as it was written: revoke the key and make another",
                object_key=where,
            )
        if content["id"] != key_id or not re.fullmatch("[0-9a-f]{64}", content["secret_sha256"]):
            raise ValueError("its id or its secret is not what it must be")  # noqa: TRY301
        scopes = _check_scopes(content["scopes"])
        _check_row_filter(content["row_filter"], scopes)
        record = KeyRecord(
            id=content["id"],
            secret_sha256=content["secret_sha256"],
            scopes=scopes,
            indexes=_check_indexes(content["indexes"]),
            row_filter=content["row_filter"],
            description=str(content["description"]),
            created_ms=int(content["created_ms"]),
            expires_ms=None if content["expires_ms"] is None else int(content["expires_ms"]),
            signing_key=_checked_signing_key(content.get("signing_key")),
        )
        if content["version"] != _version_of(record):
            raise ValueError("its version is not that of what it says")  # noqa: TRY301
    except (ValueError, KeyError, TypeError, AttributeError, InvalidArgumentError) as error:
        raise DataError(
            f"{where} does not describe a key ({error}): revoke the key and make another",
            object_key=where,
        ) from error
    return record


def _version_of(record: KeyRecord) -> int:
    """Return the oldest version that can say this: older releases go on reading what they can."""
    of_buckets = record.signing_key is not None or any("/" in one for one in record.indexes)
    return VERSION_OF_BUCKETS if of_buckets else VERSION


def _checked_signing_key(found: Any) -> str | None:
    if found is not None and not _SIGNING_KEY_ID.fullmatch(found):
        raise ValueError("its signing key is not named as one")
    return None if found is None else str(found)
