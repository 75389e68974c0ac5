"""AWS Signature Version 4 of a request, as its Authorization header bears it. No I/O.

What is signed is rebuilt of what came, and never of what the request says of itself: the body is
hashed anew. Every part that bears meaning is in it: method, path, query, body, host, time, and each
x-amz-* header.

The region is the caller's choice. It separates what one secret may sign for several deployments of
a service; a secret of ours is one deployment's alone, and clients are set to regions of their own.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl, quote, unquote_plus

from squash.api.requests import HttpRequest
from squash.api.s3vectors.operations import SERVICE, TAGS
from squash.api.s3vectors.problems import ServiceError
from squash.limits import SIGNATURE_SKEW_S_MAX, SIGNED_HEADERS_MAX
from squash.values import dataclass

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_TERMINATOR: Final = "aws4_request"
_AMZ: Final = "x-amz-"
_DATE_HEADER: Final = "x-amz-date"
_BODY_HASH_HEADER: Final = "x-amz-content-sha256"
_TOKEN_HEADER: Final = "x-amz-security-token"  # noqa: S105 - a header's name
_PARAMETERS: Final = ("Credential", "SignedHeaders", "Signature")
_DAY: Final = re.compile(r"[0-9]{8}")
_REGION: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")
_HEADER: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,256}")
_TIME_FORMAT: Final = "%Y%m%dT%H%M%SZ"
_TIME: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_UNRESERVED: Final = "-_.~"
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS "
    "Secret Access Key and signing method. Consult the service documentation for details."
)
_SKEW: Final = timedelta(seconds=SIGNATURE_SKEW_S_MAX)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request says of its signature.

    `headers` are the names of those that are signed, in order; `time` is when it was signed, as
    ``20150830T123600Z``; `digits` the signature itself, 64 hexadecimal digits.
    """

    access_key_id: str
    region: str
    headers: tuple[str, ...]
    time: str
    digits: str

    @property
    def scope(self) -> str:
        """What the secret is narrowed to: day, region, service."""
        return f"{self.time[:8]}/{self.region}/{SERVICE}/{_TERMINATOR}"


def read_signature(request: HttpRequest, now_ms: int) -> Signature:
    """Read a request's signature, and refuse what no secret could make good.

    Parameters
    ----------
    request:
        As it came.
    now_ms:
        The time, in milliseconds since 1970-01-01 UTC.

    Raises
    ------
    ServiceError
        MissingAuthenticationTokenException if there is none, IncompleteSignatureException if it
        lacks a part or is of another kind, InvalidSignatureException if it is of another service,
        day or time, or leaves out what must be signed, UnrecognizedClientException if it comes with
        a session's token: no key of ours has one.

    """
    given = _authorization(request)
    if _TOKEN_HEADER in request.headers:
        raise unrecognized()
    key_id, day, region = _credential(given["Credential"])
    headers = _signed_headers(given["SignedHeaders"], request.headers)
    if not _SIGNATURE.fullmatch(given["Signature"]):
        raise _incomplete("Signature is not 64 hexadecimal digits.")
    time = _signed_at(request.headers)
    if day != time[:8]:
        raise _invalid(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from "
            f"HTTP: '{day}' != '{time[:8]}', from '{time}'."
        )
    _check_time(time, now_ms)
    return Signature(key_id, region, headers, time, given["Signature"])


def is_signed_with(secret: str, signature: Signature, request: HttpRequest) -> bool:
    """Tell if a request is signed with this secret, and is as it was signed.

    As much is done for a wrong secret as for the right one.
    """
    body_hash = hashlib.sha256(request.data()).hexdigest()
    stated = request.headers.get(_BODY_HASH_HEADER, body_hash).strip()
    values = {name: request.headers.get(name) for name in signature.headers}
    lines = "".join(f"{name}:{_tidied(value or '')}\n" for name, value in values.items())
    rest = (canonical_query(request.query), lines, ";".join(signature.headers), body_hash)
    key = signing_key(secret, *signature.scope.split("/"))
    whole = hmac.compare_digest(stated.encode(errors="replace"), body_hash.encode())
    same = False
    for path in canonical_paths(request.path):
        digits = sign(
            key, signature.time, signature.scope, "\n".join((request.method, path, *rest))
        )
        same |= hmac.compare_digest(digits, signature.digits)
    return same and whole and None not in values.values()


def signing_key(secret: str, day: str, region: str, service: str, terminator: str) -> bytes:
    """Return the key that a secret gives for one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, terminator):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def sign(key: bytes, time: str, scope: str, canonical: str) -> str:
    """Return the signature of a canonical request, 64 hexadecimal digits."""
    hashed = hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()
    return hmac.digest(key, f"{ALGORITHM}\n{time}\n{scope}\n{hashed}".encode(), "sha256").hex()


def canonical_paths(path: str) -> list[str]:
    """Return what may have been signed for a path: the encoded path, encoded once more.

    Gateways hand on a path decoded, while clients sign it encoded, each in its own way where it
    holds an ARN: all of it, or not the colons, or neither them nor the slashes. All of these decode
    to the same path, so that whichever was signed, it is this resource that was meant. A path with
    a percent sign has not been decoded, for no ARN has one: it is taken as it stands.
    """
    sent = [path]
    if path.startswith(TAGS) and "%" not in path:
        arn = path.removeprefix(TAGS)
        sent = [TAGS + _encoded(arn, kept) for kept in ("", ":", ":/")]
    return list(dict.fromkeys(_encoded(one, "/") for one in sent))


def canonical_query(query: str) -> str:
    """Return a query string as it is signed: decoded, encoded alike, sorted.

    A plus sign is a space, as it is to whoever reads the parameters.
    """
    if not query:
        return ""
    pairs = (part.partition("=") for part in query.split("&"))
    encoded = sorted((_recoded(name), _recoded(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def mismatch() -> ServiceError:
    """Make the error for a signature that another secret, or another request, would have."""
    return _invalid(_MISMATCH)


def unrecognized() -> ServiceError:
    """Make the error for an access key that is not known."""
    return ServiceError(
        "UnrecognizedClientException", "The security token included in the request is invalid."
    )


def _authorization(request: HttpRequest) -> dict[str, str]:
    """Return the parameters of the Authorization header; what it says is never quoted."""
    names = {name.lower() for name, _ in parse_qsl(request.query, keep_blank_values=True)}
    if names & {"x-amz-signature", "x-amz-algorithm", "x-amz-credential"}:
        raise _incomplete(
            "A signature in the query string is not accepted: sign by the Authorization header."
        )
    header = request.headers.get("authorization", "").strip()
    if not header:
        raise ServiceError("MissingAuthenticationTokenException", "Missing Authentication Token")
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': use {ALGORITHM}.")
    pairs = [part.strip().partition("=") for part in rest.split(",")]
    found = {name: value for name, _, value in pairs}
    missing = [name for name in _PARAMETERS if not found.get(name)]
    if missing:
        raise _incomplete(
            " ".join(f"Authorization header requires '{name}' parameter." for name in missing)
        )
    if len(pairs) != len(_PARAMETERS):
        raise _incomplete(f"Authorization header has other parameters than {_PARAMETERS}.")
    return found


def _credential(credential: str) -> tuple[str, str, str]:
    parts = credential.split("/")
    if len(parts) != 5:  # noqa: PLR2004 - key, day, region, service, terminator
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. "
            "keyid/date/region/service/term."
        )
    key_id, day, region, service, terminator = parts
    if service != SERVICE:
        raise _invalid(f"Credential should be scoped to correct service: '{SERVICE}'.")
    if terminator != _TERMINATOR:
        raise _invalid(f"Credential should be scoped with a valid terminator: '{_TERMINATOR}'.")
    if not _REGION.fullmatch(region):
        raise _invalid("Credential should be scoped to a valid region.")
    if not _DAY.fullmatch(day):
        raise _invalid("Date in Credential scope is not YYYYMMDD.")
    return key_id, day, region


def _signed_headers(text: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    names = tuple(text.split(";"))
    if list(names) != sorted(set(names)) or not all(map(_HEADER.fullmatch, names)):
        raise _incomplete("SignedHeaders must be names in lower case, each once, in order.")
    if len(names) > SIGNED_HEADERS_MAX:
        raise _incomplete(f"SignedHeaders names more than {SIGNED_HEADERS_MAX}.")
    if "host" not in names:
        raise _invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    dated = _DATE_HEADER if _DATE_HEADER in headers else "date"
    needed = [name for name in headers if name.startswith(_AMZ)] + [dated] * (dated in headers)
    for name in sorted(needed):
        if name not in names:
            raise _invalid(f"'{name[:64]}' must be a 'SignedHeader' in the AWS Authorization.")
    return names


def _signed_at(headers: Mapping[str, str]) -> str:
    value = headers.get(_DATE_HEADER, headers.get("date", "")).strip()
    try:
        if _TIME.fullmatch(value):
            datetime.fromisoformat(value)
            return value
        if _DATE_HEADER not in headers and value:
            found = parsedate_to_datetime(value)
            found = found.astimezone(UTC) if found.tzinfo else found
            return f"{found:{_TIME_FORMAT}}"
    except (ValueError, OverflowError):
        pass  # the latter of a year, or of a year in UTC, that there is not
    raise _incomplete(
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header, with "
        "a time such as 20150830T123600Z."
    )


def _check_time(time: str, now_ms: int) -> None:
    signed = datetime.fromisoformat(time)
    now = datetime.fromtimestamp(now_ms // 1000, UTC)
    minutes = SIGNATURE_SKEW_S_MAX // 60
    if signed < now - _SKEW:
        raise _invalid(
            f"Signature expired: {time} is now earlier than {(now - _SKEW):{_TIME_FORMAT}} "
            f"({now:{_TIME_FORMAT}} - {minutes} min.)"
        )
    if signed > now + _SKEW:
        raise _invalid(
            f"Signature not yet current: {time} is still later than {(now + _SKEW):{_TIME_FORMAT}} "
            f"({now:{_TIME_FORMAT}} + {minutes} min.)"
        )


def _tidied(value: str) -> str:
    return " ".join(value.split())


def _encoded(text: str, kept: str) -> str:
    # What is no text stays apart from what is: two paths never become one.
    return quote(text, safe=_UNRESERVED + kept, errors="surrogatepass")


def _recoded(text: str) -> str:
    decoded = unquote_plus(text, errors="surrogateescape")
    return quote(decoded, safe=_UNRESERVED, errors="surrogateescape")


def _incomplete(message: str) -> ServiceError:
    return ServiceError("IncompleteSignatureException", message)


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidSignatureException", message)
