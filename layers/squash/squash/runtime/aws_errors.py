"""What AWS services say when they do not do as they were asked, in the library's errors.

S3, and Lambda that is waited for, have errors of their own: `squash.storage.s3_errors`,
`squash.runtime.invokers`.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from squash.errors import InternalError, SquashError, ThrottledError, UnavailableError

_RETRY_AFTER_MS: Final = 1_000
_SERVER_ERROR: Final = 500


def error_code(error: ClientError) -> str:
    """Return the service's name of an error; empty if it gave none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def refusal(
    error: ClientError, *, of: str, service: str, throttled: AbstractSet[str], advice: str
) -> SquashError:
    """Return the error that a refusal becomes.

    Parameters
    ----------
    error:
        What the client raised.
    of, service:
        What it is about, and the service's name, for the message.
    throttled:
        The codes by which this service asks to slow down.
    advice:
        What to do where it refuses for good.

    """
    code = error_code(error)
    if code in throttled:
        return ThrottledError(
            f"{of}: {service} asks to slow down ({code})", retry_after_ms=_RETRY_AFTER_MS
        )
    if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= _SERVER_ERROR:
        return UnavailableError(f"{of}: {service} failed ({code})")
    return InternalError(f"{of}: {service} refuses ({code}): {advice}")


def unanswered(error: BotoCoreError, *, of: str, service: str) -> UnavailableError:
    """Return the error that a call without an answer becomes."""
    return UnavailableError(f"{of}: {service} did not answer ({error})")
