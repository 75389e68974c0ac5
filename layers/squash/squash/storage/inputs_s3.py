"""Files to build from in S3 buckets, which may be other people's. Loads botocore."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

from squash.clock import Clock
from squash.container import Buffer
from squash.errors import (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    SquashError,
)
from squash.storage.inputs import InputInfo, changed, is_data, no_files, no_input, vanished
from squash.storage.s3_bucket import S3Bucket, S3RefusedError
from squash.storage.s3_errors import error_code, translate
from squash.storage.threads import Threads

_FORBIDDEN: Final = frozenset({"AccessDenied", "AllAccessDisabled", "403"})
_ABSENT: Final = frozenset({"NoSuchKey", "404", "NotFound"})


class S3Inputs(S3Bucket):
    """The objects of a bucket, as ``s3://bucket/key``, the key as it is, with nothing escaped.

    A bucket in another region is refused: all of it would cross regions, at some cents a GB.

    Parameters
    ----------
    bucket:
        The bucket's name.
    endpoint_url, region, clock:
        As of `S3Store`; `region` is the one that the bucket must be in.

    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint_url: str | None = None,
        region: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(bucket, endpoint_url=endpoint_url, region=region, clock=clock)
        self._root = f"s3://{bucket}/"
        self._checked = False
        self._check_lock = threading.Lock()
        self._threads = Threads("squash-inputs")

    def files(self, url: str) -> Iterator[InputInfo]:
        """Yield what `url` names; see `InputStore`."""
        key = self._key(url)
        self._check_region(url)
        if key and not key.endswith("/"):
            yield self._one(url, key)
            return
        found = 0
        for page in self._pages(url, key):
            for entry in page.get("Contents", ()):
                name = entry["Key"][len(key) :]
                # A name that ends with "/" is a folder that somebody made in the console.
                if is_data(name) and not name.endswith("/"):
                    found += 1
                    yield InputInfo(self._root + entry["Key"], entry["ETag"], entry["Size"])
        if not found:
            raise no_files(url)

    def read(self, info: InputInfo, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """Return parts of a file, read side by side; see `InputStore`."""
        self._key(info.url)
        self._check_region(info.url)
        if len(ranges) < 2:  # noqa: PLR2004
            return [self._range(info, one) for one in ranges]
        return list(self._threads.pool().map(lambda one: self._range(info, one), ranges))

    def _one(self, url: str, key: str) -> InputInfo:
        try:
            found = self._ask("head_object", key, Key=key)
        except S3RefusedError as error:
            if error_code(error) in _ABSENT:
                raise no_files(url) from error
            raise self._refused(error, url) from error
        return InputInfo(url, found["ETag"], found["ContentLength"])

    def _pages(self, url: str, key: str) -> Iterator[dict[str, Any]]:
        try:
            yield from self._listed(key)
        except PermissionDeniedError as error:
            raise self._forbidden(url) from error

    def _range(self, info: InputInfo, start_stop: tuple[int, int]) -> bytes:
        start, stop = start_stop
        if start >= stop:
            return b""
        try:
            data = self._get(
                self._key(info.url), Range=f"bytes={start}-{stop - 1}", IfMatch=info.etag
            )
        except S3RefusedError as error:
            code = error_code(error)
            if code in {"PreconditionFailed", "412", "InvalidRange"}:
                raise changed(info.url) from error
            if code in _ABSENT:
                raise vanished(info.url) from error
            raise self._refused(error, info.url) from error
        # A server that does not know ranges sends the whole object.
        data = data if len(data) <= stop - start else data[start:stop]
        if len(data) < stop - start:
            raise changed(info.url)
        return data

    def _check_region(self, url: str) -> None:
        """Refuse a bucket of another region, before the client is sent there by itself."""
        with self._check_lock:
            if self._checked:
                return
            try:
                there = self.region()
            except S3RefusedError as error:
                raise NotFoundError(
                    f"{url}: there is no bucket {self._bucket!r}: correct the location",
                    object_key=url,
                ) from error
            here = self._client.meta.region_name
            if there and here not in {there, "aws-global"}:
                raise InvalidArgumentError(
                    f"{url}: the bucket {self._bucket!r} is in {there}, and the build runs in "
                    f"{here}: what crosses regions is charged by the GB. Copy the files to a "
                    f"bucket in {here}, or build in {there}",
                    object_key=url,
                )
            self._checked = True

    def _refused(self, error: S3RefusedError, url: str) -> SquashError:
        code = error_code(error)
        if code == "InvalidObjectState":
            return InvalidArgumentError(
                f"{url} is in an archive: restore it first (aws s3api restore-object), or leave "
                "it out",
                object_key=url,
            )
        if code in _FORBIDDEN:
            return self._forbidden(url)
        return translate(error, self._bucket, self._key(url))

    def _forbidden(self, url: str) -> PermissionDeniedError:
        return PermissionDeniedError(
            f"{url}: S3 does not allow to read it. Name the bucket in the stack's parameter "
            f"BuildInputs, or allow s3:ListBucket on {self._bucket} and s3:GetObject on its "
            "objects to who runs the build; the bucket's own policy, and its KMS key's, must allow "
            "it too",
            object_key=url,
        )

    def _key(self, url: str) -> str:
        if not url.startswith(self._root):
            raise no_input(url)
        return url[len(self._root) :]
