"""What S3's errors are in our words. Knows them by their names alone, whoever asked."""

from __future__ import annotations

from typing import Any, Final

from squash.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    SquashError,
    ThrottledError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)

_THROTTLED: Final = frozenset(
    {
        "SlowDown", "Throttling", "ThrottlingException", "ThrottledException",
        "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException",
        "TooManyRequestsException", "BandwidthLimitExceeded", "PriorRequestNotComplete", "429",
    }
)  # fmt: skip
_UNAVAILABLE: Final = frozenset(
    {
        "InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException",
        "OperationAborted", "ConditionalRequestConflict", "500", "502", "503", "504",
    }
)  # fmt: skip
# Of botocore, whatever service is to be asked: it has nothing to sign with.
NO_CREDENTIAL: Final = frozenset(
    {
        "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
        "TokenRetrievalError", "UnauthorizedSSOTokenError", "SSOTokenLoadError",
        "ProfileNotFound", "MetadataRetrievalError", "LoginRequired", "LoginRefreshRequired",
    }
)  # fmt: skip
_UNKNOWN_CREDENTIAL: Final = NO_CREDENTIAL | {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
    "TokenRefreshRequired", "ExpiredTokenException", "InvalidClientTokenId",
}  # fmt: skip
_FORBIDDEN: Final = frozenset(
    {"AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidObjectState", "403"}
)
WRONG_PLACE: Final = frozenset(
    {
        "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException", "NoRegionError", "InvalidRegionError", "301", "307",
    }
)  # fmt: skip
_RETRY_AFTER_MS: Final = 1000
_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429


def error_code(error: Exception) -> str:
    """Return S3's code for what happened; for what never reached S3, the exception's name."""
    response: dict[str, Any] = getattr(error, "response", {}) or {}
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return str(code) if code else type(error).__name__


def translate(error: Exception, bucket: str, key: str) -> SquashError:
    """Return the typed error for one of botocore's, or of a read.

    Parameters
    ----------
    error:
        What was raised.
    bucket, key:
        Where it happened; `key` whole, with the store's prefix.

    """
    code = error_code(error)
    response = getattr(error, "response", None)
    status = 0
    if isinstance(response, dict):
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    where = f"s3://{bucket}/{key}"
    if code in _THROTTLED or status == _TOO_MANY:
        return ThrottledError(
            f"{where}: S3 asks to slow down ({code}). Wait and repeat, with fewer requests at "
            "once.",
            retry_after_ms=_RETRY_AFTER_MS,
        )
    if code == "RequestTimeTooSkewed":
        return UnauthenticatedError(
            f"{where}: S3 refuses what this machine signs, since its clock is more than a quarter "
            f"of an hour from S3's ({code}). Set the clock, then repeat.",
            object_key=key,
        )
    if code in _UNKNOWN_CREDENTIAL or status == 401:  # noqa: PLR2004
        return UnauthenticatedError(
            f"{where}: no AWS credentials, or unknown or expired ones ({code}). Set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or sign in anew.",
            object_key=key,
        )
    if code == "NoSuchBucket":
        return NotFoundError(
            f"there is no bucket {bucket!r}. Create it (aws s3 mb s3://{bucket}), or correct the "
            "location.",
            object_key=key,
        )
    return _by_code(code, status, where, key=key, error=error)


def _by_code(code: str, status: int, where: str, *, key: str, error: Exception) -> SquashError:
    if code in _FORBIDDEN or status == 403:  # noqa: PLR2004
        return PermissionDeniedError(
            f"{where}: S3 does not allow this ({code}). Grant s3:GetObject, s3:PutObject, "
            "s3:DeleteObject on the objects and s3:ListBucket on the bucket: without the last, S3 "
            "answers so for objects that are only absent.",
            object_key=key,
        )
    if code in WRONG_PLACE or status in {301, 307}:
        return InvalidArgumentError(
            f"{where}: the bucket is in another region, or no region is set ({code}). Set "
            "AWS_REGION to the bucket's region.",
            object_key=key,
        )
    if code == "EntityTooLarge":
        return TooLargeError(f"{where}: S3 takes at most 5 GiB in one piece", object_key=key)
    # What is raised without an answer is a lost connection or a time-out, save what it
    # refuses to send in the first place.
    unsent = status == 0 and not isinstance(error, ValueError)
    if code in {"ParamValidationError", "InvalidBucketName", "InvalidEndpointURLError"}:
        unsent = False
    if code in _UNAVAILABLE or status >= _SERVER_ERROR or unsent:
        return UnavailableError(
            f"{where}: S3 did not answer as it should ({code}: {error}). Repeat; if that does not "
            "help, check the network and the endpoint.",
            object_key=key,
        )
    return InvalidArgumentError(
        f"{where}: S3 refuses this ({code}: {error}). Correct the location or the endpoint.",
        object_key=key,
    )
