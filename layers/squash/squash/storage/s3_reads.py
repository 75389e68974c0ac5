"""What is read of a bucket, by obstore: it loads in a tenth of the time that botocore takes."""

from __future__ import annotations

import _thread
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Objects

from squash.clock import Clock
from squash.errors import InvalidArgumentError
from squash.storage.protocol import ObjectInfo
from squash.storage.s3_access import (
    CONNECT_S,
    SILENT_S,
    TRIES,
    USER_AGENT,
    Credentials,
    S3Access,
)

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Credential

_RETRY: Final[RetryConfig] = {
    "max_retries": TRIES - 1,
    "backoff": {
        "init_backoff": timedelta(milliseconds=50),
        "max_backoff": timedelta(seconds=20),
        "base": 2,
    },
    "retry_timeout": timedelta(minutes=3),
}
# All that is read of an object, a body that broke off and was asked for again included.
_WHOLE_S: Final = 900
# botocore makes new keys ten minutes before those that it has end, at the latest.
_CREDENTIALS_LAST: Final = timedelta(minutes=9)
_KEYS_PER_PAGE: Final = 1000
_STATUS: Final = re.compile(r"status code: ([0-9]{3})")
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,100})</Code>")
_REDIRECTED: Final = "redirect without LOCATION"
_UNANSWERED: Final = "NoAnswer"
_MESSAGE_MAX: Final = 400
# An interrupt that missed the wait it should have ended is heard after this.
_TURN_S: Final = 0.2
_T = TypeVar("_T")


class S3ReadError(Exception):
    """A read that S3 refused, or did not answer; has what `error_code` looks for.

    obstore tells a refusal apart by its text alone: the status, and the XML that came with it.
    """

    def __init__(self, error: BaseException) -> None:
        # What follows the answer are the fields of its own structures.
        text = str(error).partition("\n\nDebug source")[0]
        super().__init__(text.partition("\n")[0][:_MESSAGE_MAX])
        status, code = _STATUS.search(text), _CODE.search(text)
        self.response: dict[str, Any] = {
            "Error": {"Code": code[1] if code else _code_of(error, text, status and status[1])},
            "ResponseMetadata": {"HTTPStatusCode": int(status[1]) if status else 0},
        }


class S3Reads:
    """Reads of a bucket, by whole keys. Threads may share it.

    Parameters
    ----------
    bucket, access:
        Which, where and as whom.
    clock:
        Tells until when credentials are taken to last.

    Raises
    ------
    InvalidArgumentError
        If the certificates to trust cannot be read.

    """

    def __init__(self, bucket: str, access: S3Access, clock: Clock) -> None:
        url, in_host = access.bucket_url(bucket)
        options: ClientConfig = {
            "allow_http": True,  # what an endpoint's URL says is what is done
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "read_timeout": timedelta(seconds=SILENT_S),
            "timeout": timedelta(seconds=_WHOLE_S),
            "user_agent": USER_AGENT,
        }
        if access.ca_bundle is not None:
            options["root_certificate"] = _certificates(access.ca_bundle)
        fixed = access.credentials
        who: dict[str, Any]
        if isinstance(fixed, Credentials):
            who = {
                "access_key_id": fixed.access_key_id,
                "secret_access_key": fixed.secret_access_key,
            }
            if fixed.token is not None:
                who["session_token"] = fixed.token
        else:
            who = {"credential_provider": _provider(fixed, clock)}
        try:
            self._objects = Objects(
                bucket,
                endpoint=url,
                region=access.region,
                virtual_hosted_style_request=in_host,
                client_options=options,
                retry_config=_RETRY,
                **who,
            )
        except (BaseError, ValueError) as error:
            raise S3ReadError(error) from error

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises
        ------
        S3ReadError
            If S3 refuses, or does not answer.

        """
        # Copied: where the body begins in memory is as it comes, and kernels want it aligned.
        return _asked(lambda: obstore.get(self._objects, key).bytes().to_bytes())

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop) of an object, fewer where it ends before; see `get`."""
        return _asked(
            lambda: obstore.get_range(self._objects, key, start=start, end=stop).to_bytes()
        )

    def list(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Yield what begins with `prefix` and comes after `start_after`, in order; see `get`."""
        folder, slash, _ = prefix.rpartition("/")
        # S3 is asked for folders. In the last one, names that come before are passed over by where
        # to begin, save those that share all but the last character.
        offset = max(start_after, prefix[:-1] if not prefix.endswith("/") else "")
        pages = obstore.list(
            self._objects,
            folder + slash if folder else None,
            offset=offset or None,
            chunk_size=_KEYS_PER_PAGE,
        )
        while True:
            page = _asked(lambda: next(pages, None))
            if page is None:
                return
            for entry in page:
                key = entry["path"]
                if key.startswith(prefix):
                    modified_ms = int(entry["last_modified"].timestamp() * 1000)
                    yield ObjectInfo(key, entry["size"], modified_ms)
                elif key > prefix:
                    return

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the folders one level below `prefix`, whole, without the "/" at their end."""
        found = _asked(lambda: obstore.list_with_delimiter(self._objects, prefix or None))
        return iter(found["common_prefixes"])


@cache
def _reading_process() -> int:
    """Return the process that was the first to read: obstore's threads are in it alone."""
    return os.getpid()


def _asked(ask: Callable[[], _T]) -> _T:
    if _reading_process() != os.getpid():
        # It would wait for them for ever.
        raise InvalidArgumentError(
            "this process was forked off one that had read from S3, and cannot do so itself: start "
            'processes anew, as multiprocessing does by "spawn" or "forkserver", or fork before '
            "anything is read"
        )
    try:
        return _interruptible(ask)
    except (BaseError, OSError, ValueError) as error:
        raise S3ReadError(error) from error


def _interruptible(ask: Callable[[], _T]) -> _T:
    """Ask so that Ctrl-C ends the wait: signals reach Python's main thread, and not native code."""
    if threading.current_thread() is not threading.main_thread():
        return ask()
    answer: Future[_T] = Future()
    asking = threading.Lock()
    asking.acquire()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            answer.set_exception(error)
        finally:
            asking.release()

    # A lock is waited for here and nothing else, as `Thread.start` and a future's own wait are
    # conditions', which an interrupt leaves broken. By turns, as a signal that comes just before
    # the wait begins does not end it.
    _thread.start_new_thread(run, ())
    while not asking.acquire(timeout=_TURN_S):
        continue
    return answer.result()


def _code_of(error: BaseException, text: str, status: str | None) -> str:
    """Return S3's word for what came without one, by status or by what obstore says of it."""
    if _REDIRECTED in text:
        return "PermanentRedirect"
    if status is not None:
        return status
    kind = type(error).__name__
    return "NoCredentialsError" if kind == "UnauthenticatedError" else _UNANSWERED


def _provider(credentials: Callable[[], Credentials], clock: Clock) -> Callable[[], S3Credential]:
    def provide() -> S3Credential:
        expires = datetime.fromtimestamp(clock.now_ms() / 1000, UTC) + _CREDENTIALS_LAST
        now = credentials()
        return {
            "access_key_id": now.access_key_id,
            "secret_access_key": now.secret_access_key,
            "token": now.token,
            "expires_at": expires,
        }

    return provide


def _certificates(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgumentError(
            f"the certificates to trust, {path}, cannot be read ({error}): correct AWS_CA_BUNDLE, "
            "or what the AWS configuration calls ca_bundle"
        ) from error
