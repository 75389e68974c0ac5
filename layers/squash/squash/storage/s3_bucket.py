"""What is asked of a bucket through botocore: all that changes it, and what others put there.

Loaded only by who writes or builds: importing botocore takes its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.session import Session

from squash.clock import Clock, SystemClock
from squash.errors import SquashError
from squash.storage.s3_access import (
    CONNECT_S,
    READ_S,
    TRIES,
    USER_AGENT,
    Credentials,
    S3Access,
)
from squash.storage.s3_errors import error_code, translate
from squash.storage.threads import READS_AT_ONCE

ATTEMPTS_MAX: Final = 5
FIRST_WAIT_S: Final = 0.05
_BODY_ERRORS: Final = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
_CONFIG: Final = Config(
    connect_timeout=CONNECT_S,
    read_timeout=READ_S,
    retries={"mode": "standard", "total_max_attempts": TRIES},
    max_pool_connections=2 * READS_AT_ONCE,
    user_agent_extra=USER_AGENT,
)
# A bucket's own host name needs DNS that local S3 servers rarely have.
_LOCAL_CONFIG: Final = _CONFIG.merge(Config(s3={"addressing_style": "path"}))
_REGION_HEADER: Final = "x-amz-bucket-region"
# What a client of no region goes by, and where it begins to ask.
_ANYWHERE: Final = "aws-global"
_FIRST_REGION: Final = "us-east-1"
_HOST_OF_NO_REGION: Final = "https://s3.amazonaws.com"


S3RefusedError: TypeAlias = ClientError
"""What a bucket answers with when it refuses; `error_code` tells why."""


class S3Bucket:
    """What is done in a bucket by whole keys: calls, reads that outlast a broken stream, pages.

    Parameters
    ----------
    bucket, endpoint_url, region, clock, silent_s:
        As of `S3Store`.
    place:
        What of the bucket is meant, for the message if no client can be made.

    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        clock: Clock | None = None,
        place: str = "",
        silent_s: int | None = None,
    ) -> None:
        self._bucket = bucket
        self._clock = clock or SystemClock()
        config = _LOCAL_CONFIG if endpoint_url else _CONFIG
        if silent_s is not None:
            config = config.merge(Config(read_timeout=silent_s))
        try:
            self._session = Session()
            self._client: Any = self._session.create_client(
                "s3",
                endpoint_url=endpoint_url,
                region_name=region,
                config=config,
            )
        except (BotoCoreError, ValueError) as error:
            raise translate(error, bucket, place) from error

    def access(self) -> S3Access:
        """Return where and as whom this asks, by all that the AWS configuration says."""
        region = self._client.meta.region_name
        region = _FIRST_REGION if region in {None, _ANYWHERE} else region
        # What a client says of itself may be a host of no region, or of one that is none: it asks
        # the region's own.
        url = self._client.meta.endpoint_url.replace(f".{_ANYWHERE}.", f".{region}.")
        if url == _HOST_OF_NO_REGION:
            url = f"https://s3.{region}.amazonaws.com"
        bundle = self._session.get_config_variable("ca_bundle")
        return S3Access(url, region, self._credentials, bundle)

    def region(self) -> str | None:
        """Return the region that the bucket is in, if S3 says so.

        Raises
        ------
        S3RefusedError
            If there is no such bucket; all else that keeps S3 from answering is translated.

        """
        try:
            answer = self._ask("head_bucket", "")
        except ClientError as error:
            if error_code(error) in {"404", "NoSuchBucket"}:
                raise
            # Who may read objects and not list them is refused this, and told the region.
            answer = dict(error.response)
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        there: str | None = headers.get(_REGION_HEADER)
        return there

    def region_or_none(self) -> str | None:
        """Return the region that the bucket is in, or None where that is not to be had."""
        try:
            return self.region()
        except (ClientError, SquashError):
            return None

    def _credentials(self) -> Credentials:
        found = self._session.get_credentials()
        if found is None:
            raise NoCredentialsError
        now = found.get_frozen_credentials()
        if now.access_key is None or now.secret_key is None:
            raise NoCredentialsError
        return Credentials(now.access_key, now.secret_key, now.token)

    def _ask(self, operation: str, full: str, **arguments: Any) -> dict[str, Any]:
        """Make a request, of which `full` is the key for messages.

        Raises
        ------
        S3RefusedError
            If S3 refuses; all else is translated.

        """
        method: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        try:
            return method(Bucket=self._bucket, **arguments)
        except BotoCoreError as error:
            raise translate(error, self._bucket, full) from error

    def _request(self, operation: str, full: str, **arguments: Any) -> dict[str, Any]:
        """Make a request; what S3 refuses is translated as well."""
        try:
            return self._ask(operation, full, **arguments)
        except ClientError as error:
            raise translate(error, self._bucket, full) from error

    def _get(self, full: str, **more: str) -> bytes:
        """Get and read to the end, as `_get_tagged`."""
        return self._get_tagged(full, **more)[0]

    def _get_tagged(self, full: str, **more: str) -> tuple[bytes, str]:
        """Get and read to the end, and the ETag; a stream that breaks is asked for again.

        Raises
        ------
        S3RefusedError
            If S3 refuses; all else is translated.

        """
        attempt = 0
        while True:
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=full, **more)
                with answer["Body"] as body:
                    data: bytes = body.read()
            except _BODY_ERRORS as error:
                attempt += 1
                if attempt == ATTEMPTS_MAX:
                    raise translate(error, self._bucket, full) from error
                self._clock.sleep(FIRST_WAIT_S * 2**attempt)
            except BotoCoreError as error:
                raise translate(error, self._bucket, full) from error
            else:
                return data, answer.get("ETag", "")

    def _listed(self, full: str, **more: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of what begins with `full`."""
        arguments: dict[str, Any] = {"Prefix": full, **more}
        while True:
            page = self._request("list_objects_v2", full, **arguments)
            yield page
            if not page.get("IsTruncated"):
                return
            arguments["ContinuationToken"] = page["NextContinuationToken"]
