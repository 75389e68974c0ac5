"""Objects in an S3 bucket. Loaded only for s3://; what writes is loaded by the first write."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from squash.clock import Clock, SystemClock
from squash.container import Buffer
from squash.storage.protocol import (
    ObjectInfo,
    check_folder_prefix,
    check_key,
    check_prefix,
    missing,
    too_short,
)
from squash.storage.ranges import plan_reads
from squash.storage.s3_access import S3Access, access_of_environment, check_endpoint
from squash.storage.s3_errors import WRONG_PLACE, error_code, translate
from squash.storage.s3_reads import S3ReadError, S3Reads
from squash.storage.threads import Threads

if TYPE_CHECKING:
    from squash.storage.s3_writes import S3Writes

_T = TypeVar("_T")


class S3Store:
    """An `ObjectStore` in a bucket, below a prefix.

    A process that is forked off one that has read from any bucket is refused its reads.

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
    silent_s:
        As of `open_store`.

    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        clock: Clock | None = None,
        silent_s: int | None = None,
    ) -> None:
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        check_prefix(self._prefix)
        check_endpoint(endpoint_url)
        self._bucket, self._endpoint_url, self._region = bucket, endpoint_url, region
        self._clock = clock or SystemClock()
        self._silent_s = silent_s
        self._threads = Threads("squash-s3")
        self._lock = threading.Lock()
        self._writes: S3Writes | None = None
        self._process = os.getpid()
        access = access_of_environment(os.environ, endpoint_url=endpoint_url, region=region)
        if access is not None:
            self._region = access.region  # botocore looks at AWS_DEFAULT_REGION alone
        self._access = access or self.writes().access()
        self._reads = self._reads_by(self._access)

    def get(self, key: str) -> Buffer | None:
        """Return an object's bytes, or None."""
        check_key(key)
        full = self._prefix + key
        try:
            return self._there(lambda reads: reads.get(full))
        except S3ReadError as error:
            if error_code(error) == "NoSuchKey":
                return None
            raise translate(error, self._bucket, full) from error

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Return the bytes of each range, near ones read together, the reads in parallel."""
        check_key(key)
        plan = plan_reads(ranges)

        def read(start_stop: tuple[int, int]) -> bytes:
            return self._read_range(key, *start_stop)

        one = len(plan.reads) == 1
        return plan.assemble(list((map if one else self._threads.pool().map)(read, plan.reads)))

    def put(self, key: str, data: Buffer) -> None:
        """Store an object."""
        check_key(key)
        self.writes().put(self._prefix + key, data)

    def put_if_absent(self, key: str, data: Buffer) -> bool:
        """Store an object unless there is one."""
        check_key(key)
        return self.writes().put_if_absent(self._prefix + key, data)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, a thousand a request."""
        self.writes().delete(self._full(keys))

    def delete_if_same(self, key: str, data: Buffer) -> None:
        """Remove an object that has these bytes.

        A server that does not know S3's conditional DELETE removes what lies there by then.
        """
        check_key(key)
        self.writes().delete_if_same(self._prefix + key, data)

    def list(
        self, prefix: str, *, start_after: str = "", limit: int | None = None
    ) -> Iterator[ObjectInfo]:
        """Yield the objects under a prefix, a thousand a request."""
        check_prefix(prefix)
        return islice(self._listed(prefix, start_after), limit)

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Yield the names one level below a prefix."""
        check_folder_prefix(prefix)
        full = self._prefix + prefix
        try:
            found = self._there(lambda reads: reads.folders(full))
        except S3ReadError as error:
            raise translate(error, self._bucket, full) from error
        # S3's order counts the "/" at the end, by which "a-b/" comes before "a/".
        return iter(sorted(folder[len(full) :] for folder in found))

    def writes(self) -> S3Writes:
        """Return what writes, made by the first who asks: loading botocore takes its time."""
        if self._process != os.getpid():
            # Of one connection in two processes, the one would get what the other was answered.
            self._writes, self._lock, self._process = None, threading.Lock(), os.getpid()
        with self._lock:
            if self._writes is None:
                from squash.storage.s3_writes import S3Writes  # noqa: PLC0415

                self._writes = S3Writes(
                    self._bucket,
                    endpoint_url=self._endpoint_url,
                    region=self._region,
                    clock=self._clock,
                    place=self._prefix,
                    silent_s=self._silent_s,
                )
            return self._writes

    def _listed(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        full = self._prefix + prefix
        after = self._prefix + start_after if start_after else ""
        cut = len(self._prefix)
        try:
            for info in self._there(lambda reads: _begun(reads.list(full, after))):
                yield ObjectInfo(info.key[cut:], info.bytes, info.modified_ms)
        except S3ReadError as error:
            raise translate(error, self._bucket, full) from error

    def _full(self, keys: Iterable[str]) -> Iterator[str]:
        for key in keys:
            check_key(key)
            yield self._prefix + key

    def _read_range(self, key: str, start: int, stop: int) -> bytes:
        full = self._prefix + key
        try:
            data = self._there(lambda reads: reads.get_range(full, start, stop))
        except S3ReadError as error:
            if error_code(error) == "NoSuchKey":
                raise missing(key) from error
            if error_code(error) == "InvalidRange":
                raise too_short(key, stop=stop) from error
            raise translate(error, self._bucket, full) from error
        if len(data) < stop - start:
            raise too_short(key, stop=stop, length=start + len(data))
        return data

    def _there(self, ask: Callable[[S3Reads], _T]) -> _T:
        """Ask where the bucket is; if that is in another region than was thought, ask there.

        Raises
        ------
        S3ReadError
            If S3 refuses, or does not answer.

        """
        reads = self._reads
        try:
            return ask(reads)
        except S3ReadError as error:
            if error_code(error) not in WRONG_PLACE:
                raise
            found = self._moved(reads)
            if found is reads:
                raise
        return ask(found)

    def _moved(self, reads: S3Reads) -> S3Reads:
        """Return what reads in the bucket's own region; the same, if nobody knows of another."""
        region = self.writes().region_or_none()
        with self._lock:
            if self._reads is reads and region not in {None, self._access.region}:
                self._access = self._access.moved(str(region))
                self._reads = self._reads_by(self._access)
            return self._reads

    def _reads_by(self, access: S3Access) -> S3Reads:
        try:
            return S3Reads(self._bucket, access, self._clock)
        except S3ReadError as error:
            raise translate(error, self._bucket, self._prefix) from error


def _begun(found: Iterator[_T]) -> Iterator[_T]:
    """Ask for the first page now, so that who looks for the bucket hears if it is elsewhere."""
    return chain(list(islice(found, 1)), found)
