"""Who is asking, by the signature of a request: with access keys of `squash keys create`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from squash.api.access import Caller, Gate, KeyGate, KeyRecords, OpenGate, caller_of
from squash.api.credentials import KeyRecord, hash_secret, parse_access_key_id
from squash.api.environment import KeyPlace
from squash.api.requests import HttpRequest
from squash.api.s3vectors.problems import ServiceError
from squash.api.s3vectors.signing import is_signed_with, mismatch, read_signature, unrecognized
from squash.api.signing_keys import SigningKeys
from squash.api.telemetry import LOGGER
from squash.clock import Clock
from squash.storage import ObjectStore

_LOG = logging.getLogger(LOGGER)
# Checked with when there is no such key, so that this takes as long as when there is.
_NOBODYS_SECRET: Final = "A" * 43


class SigningGate:
    """Knows callers by the access key that a request is signed with.

    Parameters
    ----------
    records:
        What is stored of keys.
    signing_keys:
        What their secrets are derived from.
    clock:
        Tells which signatures are too old, and when keys expire.

    """

    def __init__(self, records: KeyRecords, signing_keys: SigningKeys, clock: Clock) -> None:
        self._records = records
        self._signing_keys = signing_keys
        self._clock = clock

    def admit(self, request: HttpRequest) -> Caller:
        """Return the caller whose secret the request is signed with.

        Raises
        ------
        ServiceError
            If it is signed by nobody known, not with the secret, too long ago, or not at all.

        """
        now_ms = self._clock.now_ms()
        signature = read_signature(request, now_ms)
        key_id = parse_access_key_id(signature.access_key_id)
        record = self._records.find(key_id) if key_id else None
        secret = None if record is None else self._secret_of(record)
        same = is_signed_with(secret or _NOBODYS_SECRET, signature, request)
        if record is None or secret is None or record.expired(now_ms):
            raise unrecognized()
        if not same:
            raise mismatch()
        return caller_of(record)

    def _secret_of(self, record: KeyRecord) -> str | None:
        """Derive a key's secret; None if it was made to sign nothing, or it cannot be derived."""
        if record.signing_key is None:
            return None
        signing_key = self._signing_keys.find(record.signing_key)
        secret = None if signing_key is None else signing_key.secret_of(record.id)
        if secret is not None and hash_secret(secret) == record.secret_sha256:
            return secret
        _LOG.error(
            "key %s signs with signing key %s, which is not at %s: name in SQUASH_SIGNING_KEY the "
            "place that `squash keys create` had, or revoke the key and make another",
            record.id,
            record.signing_key,
            ", ".join(map(str, self._signing_keys.places)),
        )
        return None


class OpenSigningGate:
    """Lets everybody do everything, signed or not: for a laptop, and for no page in its browser.

    A page from anywhere may have a browser post to this machine. The other interface is guarded by
    its content type, which pages may not send; this API has none that it insists on.

    Parameters
    ----------
    gate:
        The other interface's, which says who anybody is.

    """

    def __init__(self, gate: OpenGate) -> None:
        self._gate = gate

    def admit(self, request: HttpRequest) -> Caller:
        """Return anybody.

        Raises
        ------
        ServiceError
            If a page asks.

        """
        if "origin" in request.headers:
            raise ServiceError(
                "AccessDeniedException", "Web pages are not answered where nobody need sign."
            )
        return self._gate.admit(request)


def gate_beside(
    gate: Gate, places: Sequence[KeyPlace], *, store: ObjectStore, clock: Clock
) -> Gate:
    """Return what tells who asks this API, beside the gate of the other.

    Where that lets everybody in, so does this, signed or not. Else signatures are checked with
    keys of ours: also where the other trusts the gateway's IAM, which cannot check signatures for
    this service.
    """
    if isinstance(gate, OpenGate):
        return OpenSigningGate(gate)
    records = gate.records if isinstance(gate, KeyGate) else KeyRecords(store, clock)
    return SigningGate(records, SigningKeys(places, store, clock), clock)
