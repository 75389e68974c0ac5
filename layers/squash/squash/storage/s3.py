"""Objects in an S3 bucket. Loaded only for s3://, for importing botocore takes its time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final, TypeAlias

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.session import Session

from squash.clock import Clock, SystemClock
from squash.container import Buffer
from squash.errors import UnavailableError
from squash.storage.protocol import (
    ObjectInfo,
    check_folder_prefix,
    check_key,
    check_prefix,
    missing,
    too_short,
)
from squash.storage.ranges import plan_reads
from squash.storage.s3_errors import error_code, translate

_THREADS: Final = 16
_KEYS_PER_DELETE: Final = 1000
_ATTEMPTS_MAX: Final = 5
_FIRST_WAIT_S: Final = 0.05
_BODY_ERRORS: Final = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
_CONFIG: Final = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 4},
    max_pool_connections=2 * _THREADS,
    user_agent_extra="squash-search",
)
# A bucket's own host name needs DNS that local S3 servers rarely have.
_LOCAL_CONFIG: Final = _CONFIG.merge(Config(s3={"addressing_style": "path"}))


S3RefusedError: TypeAlias = ClientError
"""What a bucket answers with when it refuses; `error_code` tells why."""


class S3Bucket:
    """What is done in a bucket by whole keys: calls, reads that outlast a broken stream, pages.

    Parameters
    ----------
    bucket, endpoint_url, region, clock:
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
    ) -> None:
        self._bucket = bucket
        self._clock = clock or SystemClock()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_lock = threading.Lock()
        try:
            self._client: Any = Session().create_client(
                "s3",
                endpoint_url=endpoint_url,
                region_name=region,
                config=_LOCAL_CONFIG if endpoint_url else _CONFIG,
            )
        except (BotoCoreError, ValueError) as error:
            raise translate(error, bucket, place) from error

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
                if attempt == _ATTEMPTS_MAX:
                    raise translate(error, self._bucket, full) from error
                self._clock.sleep(_FIRST_WAIT_S * 2**attempt)
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

    def _threads(self) -> ThreadPoolExecutor:
        with self._pool_lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="squash-s3")
            return self._pool


class S3Store(S3Bucket):
    """An `ObjectStore` in a bucket, below a prefix.

    Parameters
    ----------
    bucket, prefix:
        Where; a prefix that is not empty gets a "/" at its end if it has none.
    endpoint_url:
        Another S3 than AWS's; without it, what the environment and the AWS configuration say.
    region:
        The bucket's region; without it, what the environment and the AWS configuration say.
    clock:
        Waits between attempts.

    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        check_prefix(self._prefix)
        super().__init__(
            bucket, endpoint_url=endpoint_url, region=region, clock=clock, place=self._prefix
        )

    def get(self, key: str) -> Buffer | None:
        """Return an object's bytes, or None."""
        check_key(key)
        try:
            return self._read(key)
        except ClientError as error:
            if error_code(error) == "NoSuchKey":
                return None
            raise translate(error, self._bucket, self._prefix + key) from error

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Return the bytes of each range, near ones read together, the reads in parallel."""
        check_key(key)
        plan = plan_reads(ranges)

        def read(start_stop: tuple[int, int]) -> bytes:
            return self._read_range(key, *start_stop)

        reads = plan.reads
        return plan.assemble(
            [read(r) for r in reads] if len(reads) < 2 else list(self._threads().map(read, reads))  # noqa: PLR2004
        )

    def put(self, key: str, data: Buffer) -> None:
        """Store an object."""
        check_key(key)
        self._call("put_object", key, Key=self._prefix + key, Body=_body(data))

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Store an object unless there is one."""
        check_key(key)
        full = self._prefix + key
        for attempt in range(_ATTEMPTS_MAX):
            try:
                self._client.put_object(
                    Bucket=self._bucket, Key=full, Body=_body(data), IfNoneMatch="*"
                )
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if status == 412:  # noqa: PLR2004
                    return False
                # 409: another conditional put of this key is under way, and its outcome is open.
                if status != 409:  # noqa: PLR2004
                    raise translate(error, self._bucket, full) from error
                self._clock.sleep(_FIRST_WAIT_S * 2**attempt)
            except BotoCoreError as error:
                raise translate(error, self._bucket, full) from error
            else:
                return True
        raise _under_way(self._bucket, full, key)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, a thousand a request."""
        remaining = iter(keys)
        while batch := list(islice(remaining, _KEYS_PER_DELETE)):
            for key in batch:
                check_key(key)
            objects = [{"Key": self._prefix + key} for key in batch]
            answer = self._call(
                "delete_objects", batch[0], Delete={"Objects": objects, "Quiet": True}
            )
            for failure in answer.get("Errors", ()):
                error = ClientError({"Error": failure}, "DeleteObjects")
                raise translate(error, self._bucket, failure.get("Key", "")) from error

    def delete_if_same(self, key: str, data: Buffer) -> None:
        """Remove an object that has these bytes.

        A server that does not know S3's conditional DELETE removes what lies there by then.
        """
        check_key(key)
        full = self._prefix + key
        condition = True
        for attempt in range(_ATTEMPTS_MAX):
            try:
                found, tag = self._get_tagged(full)
                if found != bytes(data):
                    return
                matches = {"IfMatch": tag} if condition else {}
                self._ask("delete_object", full, Key=full, **matches)
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                # Somebody was first, or it was this: an answer that is lost is asked for again.
                if status == 412 or error_code(error) == "NoSuchKey":  # noqa: PLR2004
                    return
                # 501: such conditions are not known there. 409: as of a conditional put.
                if status == 501 and condition:  # noqa: PLR2004
                    condition = False
                elif status == 409:  # noqa: PLR2004
                    self._clock.sleep(_FIRST_WAIT_S * 2**attempt)
                else:
                    raise translate(error, self._bucket, full) from error
            else:
                return
        raise _under_way(self._bucket, full, key)

    def list(
        self, prefix: str, *, start_after: str = "", limit: int | None = None
    ) -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix, a thousand a request."""
        check_prefix(prefix)
        found = (
            ObjectInfo(
                entry["Key"][len(self._prefix) :],
                entry["Size"],
                int(entry["LastModified"].timestamp() * 1000),
            )
            for page in self._pages(prefix, start_after=start_after, limit=limit)
            for entry in page.get("Contents", ())
        )
        return islice(found, limit)

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Yield the names one level below a prefix."""
        check_folder_prefix(prefix)
        cut = len(self._prefix) + len(prefix)
        # S3's order counts the "/" at the end, by which "a-b/" comes before "a/".
        return iter(
            sorted(
                entry["Prefix"][cut:-1]
                for page in self._pages(prefix, Delimiter="/")
                for entry in page.get("CommonPrefixes", ())
            )
        )

    def _pages(
        self, prefix: str, *, start_after: str = "", limit: int | None = None, **more: str
    ) -> Iterator[dict[str, Any]]:
        if limit is not None and limit <= 0:
            return
        arguments: dict[str, Any] = dict(more)
        if start_after:
            arguments["StartAfter"] = self._prefix + start_after
        if limit is not None:
            arguments["MaxKeys"] = min(limit, 1000)
        yield from self._listed(self._prefix + prefix, **arguments)

    def _read_range(self, key: str, start: int, stop: int) -> bytes:
        try:
            data = self._read(key, Range=f"bytes={start}-{stop - 1}")
        except ClientError as error:
            if error_code(error) == "NoSuchKey":
                raise missing(key) from error
            if error_code(error) == "InvalidRange":
                raise too_short(key, stop=stop) from error
            raise translate(error, self._bucket, self._prefix + key) from error
        if len(data) < stop - start:
            raise too_short(key, stop=stop, length=start + len(data))
        # A server that does not know ranges sends the whole object.
        return data if len(data) == stop - start else data[start:stop]

    def _read(self, key: str, **more: str) -> bytes:
        return self._get(self._prefix + key, **more)

    def _call(self, operation: str, key: str, **arguments: Any) -> dict[str, Any]:
        return self._request(operation, self._prefix + key, **arguments)


def _body(data: Buffer) -> bytes | bytearray:
    return bytes(data) if isinstance(data, memoryview) else data


def _under_way(bucket: str, full: str, key: str) -> UnavailableError:
    return UnavailableError(
        f"s3://{bucket}/{full}: S3 answered {_ATTEMPTS_MAX} times that another write of this "
        "object is under way. Repeat in a moment.",
        object_key=key,
    )
