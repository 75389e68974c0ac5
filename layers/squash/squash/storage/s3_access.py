"""Where S3 is asked, and as whom: what the environment says, without loading botocore for it.

A function's environment says it all. Where profiles, files of configuration, other partitions or
endpoints of other kinds have a say, botocore, which knows them all, is asked instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from squash.errors import InvalidArgumentError
from squash.values import dataclass

CONNECT_S: Final = 5
READ_S: Final = 30
SILENT_S: Final = 10
"""For how long a read may bring nothing: one that hangs is repeated before its function ends."""
TRIES: Final = 4
"""How often a request is made: for connections that break, time-outs, and answers of 5xx."""
USER_AGENT: Final = "squash-search"

_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_REGIONS: Final = ("AWS_DEFAULT_REGION", "AWS_REGION")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
# What makes a difference that only botocore knows.
_SETTINGS: Final = (
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)  # fmt: skip
_FILES: Final = {
    "AWS_CONFIG_FILE": "~/.aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
}
# Regions of the partition "aws": all others have other host names.
_USUAL_REGION: Final = re.compile(r"(?:af|ap|ca|eu|il|me|mx|sa|us)-[a-z]{4,}-[0-9]")
# A bucket's name that can stand before S3's in one that its certificate covers.
_HOST_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_OWN_HOST: Final = re.compile(r"s3[.-].+\.(?:amazonaws\.com|amazonaws\.com\.cn|api\.aws)")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key of AWS's, as it is now."""

    access_key_id: str
    secret_access_key: str
    token: str | None


@dataclass(frozen=True, slots=True)
class S3Access:
    """Where S3 is asked, and as whom.

    Parameters
    ----------
    endpoint_url:
        S3's, without the bucket.
    region:
        For which requests are signed.
    credentials:
        Those that do not change, or what returns those of now; that is called from any thread, and
        may raise.
    ca_bundle:
        A file of certificates that are trusted besides the system's.

    """

    endpoint_url: str
    region: str
    credentials: Credentials | Callable[[], Credentials]
    ca_bundle: str | None = None

    def bucket_url(self, bucket: str) -> tuple[str, bool]:
        """Return where a bucket's keys are, and whether its name is in that host's name.

        Only AWS's own hosts are taken to have a name for each bucket.
        """
        parts = urlsplit(self.endpoint_url)
        if _OWN_HOST.fullmatch(parts.netloc) and _HOST_NAME.fullmatch(bucket):
            return f"{parts.scheme}://{bucket}.{parts.netloc}", True
        return self.endpoint_url.rstrip("/"), False

    def moved(self, region: str) -> S3Access:
        """Return the same for another region; an endpoint that is nobody's but its own stays."""
        parts = urlsplit(self.endpoint_url)
        found = _OWN_HOST.fullmatch(parts.netloc)
        there = parts.netloc.replace(f".{self.region}.", f".{region}.") if found else parts.netloc
        return replace(self, endpoint_url=parts._replace(netloc=there).geturl(), region=region)


def access_of_environment(
    environment: Mapping[str, str], *, endpoint_url: str | None, region: str | None
) -> S3Access | None:
    """Return what an environment says; None where more than it has a say.

    Parameters
    ----------
    environment:
        Variables of the process, of which those are read that AWS's own clients read.
    endpoint_url, region:
        What the caller wants, which goes before.

    """
    key, secret = (environment.get(name) for name in _KEYS)
    region = region or _first(environment, _REGIONS)
    if not (key and secret and region) or _first(environment, _SETTINGS):
        return None
    if any(_exists(environment.get(name) or usual) for name, usual in _FILES.items()):
        return None
    endpoint_url = endpoint_url or _first(environment, _ENDPOINTS)
    if endpoint_url is None:
        if not _USUAL_REGION.fullmatch(region):
            return None
        endpoint_url = f"https://s3.{region}.amazonaws.com"
    return S3Access(
        endpoint_url,
        region,
        Credentials(key, secret, environment.get("AWS_SESSION_TOKEN") or None),
        environment.get("AWS_CA_BUNDLE") or None,
    )


def check_endpoint(endpoint_url: str | None) -> None:
    """Refuse an endpoint that is no URL of HTTP.

    Raises
    ------
    InvalidArgumentError
        If it is none.

    """
    if endpoint_url is None:
        return
    try:
        parts = urlsplit(endpoint_url)
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise InvalidArgumentError(
            f"{endpoint_url!r} is no endpoint of S3: write it as http://host:port or https://host"
        )


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := environment.get(name))), None)


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, RuntimeError):  # a home that nobody knows, or may not be looked into
        return False
