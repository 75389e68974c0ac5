"""What is written in a bucket. Loads botocore, which has S3's conditions, and deletes by them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from squash.container import Buffer
from squash.errors import UnavailableError
from squash.storage.s3_bucket import ATTEMPTS_MAX, FIRST_WAIT_S, S3Bucket, S3RefusedError
from squash.storage.s3_errors import error_code, translate

_KEYS_PER_DELETE: Final = 1000


class S3Writes(S3Bucket):
    """Writes in a bucket, by whole keys, as `S3Store` does. Threads may share it."""

    def put(self, full: str, data: Buffer) -> None:
        """Store an object."""
        self._request("put_object", full, Key=full, Body=_body(data))

    def put_if_absent(self, full: str, data: Buffer) -> bool:
        """Store an object unless there is one."""
        for attempt in range(ATTEMPTS_MAX):
            try:
                self._ask("put_object", full, Key=full, Body=_body(data), IfNoneMatch="*")
            except S3RefusedError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if status == 412:  # noqa: PLR2004
                    return False
                # 409: another conditional put of this key is under way, and its outcome is open.
                if status != 409:  # noqa: PLR2004
                    raise translate(error, self._bucket, full) from error
                self._clock.sleep(FIRST_WAIT_S * 2**attempt)
            else:
                return True
        raise _under_way(self._bucket, full)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects, a thousand a request."""
        remaining = iter(keys)
        while batch := list(islice(remaining, _KEYS_PER_DELETE)):
            objects = [{"Key": full} for full in batch]
            answer = self._request(
                "delete_objects", batch[0], Delete={"Objects": objects, "Quiet": True}
            )
            for failure in answer.get("Errors", ()):
                error = S3RefusedError({"Error": failure}, "DeleteObjects")
                raise translate(error, self._bucket, failure.get("Key", "")) from error

    def delete_if_same(self, full: str, data: Buffer) -> None:
        """Remove an object that has these bytes; see `S3Store`."""
        condition = True
        for attempt in range(ATTEMPTS_MAX):
            try:
                found, tag = self._get_tagged(full)
                if found != bytes(data):
                    return
                matches = {"IfMatch": tag} if condition else {}
                self._ask("delete_object", full, Key=full, **matches)
            except S3RefusedError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                # Somebody was first, or it was this: an answer that is lost is asked for again.
                if status == 412 or error_code(error) == "NoSuchKey":  # noqa: PLR2004
                    return
                # 501: such conditions are not known there. 409: as of a conditional put.
                if status == 501 and condition:  # noqa: PLR2004
                    condition = False
                elif status == 409:  # noqa: PLR2004
                    self._clock.sleep(FIRST_WAIT_S * 2**attempt)
                else:
                    raise translate(error, self._bucket, full) from error
            else:
                return
        raise _under_way(self._bucket, full)


def _body(data: Buffer) -> bytes | bytearray:
    return bytes(data) if isinstance(data, memoryview) else data


def _under_way(bucket: str, full: str) -> UnavailableError:
    return UnavailableError(
        f"s3://{bucket}/{full}: S3 answered {ATTEMPTS_MAX} times that another write of this "
        "object is under way. Repeat in a moment.",
        object_key=full,
    )
