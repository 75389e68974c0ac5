"""Encryption at rest: all that a deployment stores has one, which can be named, not chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from squash.api.s3vectors.problems import invalid
from squash.api.s3vectors.resources import Place

_MEMBER: Final = "encryptionConfiguration"
_OWN: Final = {"sseType": "AES256"}
_KMS: Final = "aws:kms"


def encryption_of(place: Place) -> Mapping[str, str]:
    """Return the configuration of whatever the deployment stores."""
    return {"sseType": _KMS, "kmsKeyArn": place.kms_key} if place.kms_key else _OWN


def check_encryption(members: Mapping[str, Any], place: Place) -> None:
    """Refuse a configuration that is not the deployment's; none at all is the deployment's.

    Raises
    ------
    ServiceError
        With what to do.

    """
    given = members.get(_MEMBER)
    if not given:
        return
    if (given.get("sseType") == _KMS) != ("kmsKeyArn" in given):
        raise _refused("kmsKeyArn is given if and only if sseType is aws:kms")
    if given == encryption_of(place):
        return
    if place.kms_key:
        raise _refused(
            f"All that is stored here is encrypted with aws:kms and the key {place.kms_key}: give "
            f"these, or leave {_MEMBER} out"
        )
    raise _refused(
        f"All that is stored here is encrypted with AES256: give this, or leave {_MEMBER} out. For "
        "a KMS key, deploy with it (the parameter KmsKeyArn)"
    )


def _refused(message: str) -> Exception:
    return invalid(message, fields=[(f"/{_MEMBER}", message)])
