"""Encoding in this process: encoders found in folders or fetched once, a few kept open."""

from __future__ import annotations

import errno
import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping
from os import pathsep
from pathlib import Path
from typing import Final, Protocol

from squash.clock import Clock
from squash.encoders.contract import CONFIG_FILE, digest_of
from squash.encoders.encoded import Encoded
from squash.errors import ChecksumError, DataError, InvalidArgumentError, UnavailableError
from squash.limits import ENCODERS_OPEN_MAX
from squash.model import EncoderPin, Inputs, Purpose
from squash.runtime.encoder_names import encoder_label, is_digest
from squash.runtime.encoders import EncoderRegistry
from squash.runtime.encoding import EncodedFor, Told
from squash.runtime.settings import FUNCTION_VARIABLE
from squash.values import dataclass

FOLDERS_VARIABLE: Final = "SQUASH_ENCODERS"
CACHE_VARIABLE: Final = "SQUASH_ENCODER_CACHE"
_LAMBDA_CACHE: Final = "/tmp/squash-encoders"  # noqa: S108 - a container's own
_HOME_CACHE: Final = ".cache/squash/encoders"


class OpenEncoder(Protocol):
    """An encoder that is ready; safe to use from many threads."""

    def encode(
        self,
        inputs: Inputs,
        *,
        purpose: Purpose,
        dimension: int | None = None,
        told: Told | None = None,
    ) -> Encoded:
        """Encode inputs; `told` is called between runs of the model."""
        ...


class OpenFolder(Protocol):
    """Opens the encoder in a folder."""

    def __call__(self, folder: Path, *, checked: bool) -> OpenEncoder:
        """Open it; `checked` if its files have just been held against `encoder.json`."""
        ...


@dataclass(frozen=True, slots=True)
class EncoderFolders:
    """Where encoders lie for a process, each in a folder named by its digest.

    Parameters
    ----------
    search:
        Folders that are looked into first, such as a layer's; they are never written to.
    cache:
        Where fetched encoders are kept.
    own:
        Whether nobody else uses the cache: then what was fetched makes room for what is, where the
        disk is full.

    """

    search: tuple[Path, ...]
    cache: Path
    own: bool = False


def encoder_folders(environment: Mapping[str, str]) -> EncoderFolders:
    """Read where encoders lie: SQUASH_ENCODERS and SQUASH_ENCODER_CACHE.

    The first lists folders as PATH does. Without the second, fetched encoders are kept in Lambda
    below /tmp, and else in ~/.cache/squash/encoders.

    Raises
    ------
    InvalidArgumentError
        If SQUASH_ENCODER_CACHE is not given and there is no home.

    """
    listed = environment.get(FOLDERS_VARIABLE, "").split(pathsep)
    search = tuple(Path(folder) for folder in listed if folder)
    cache = environment.get(CACHE_VARIABLE)
    if cache:
        return EncoderFolders(search, Path(cache))
    if environment.get(FUNCTION_VARIABLE):
        return EncoderFolders(search, Path(_LAMBDA_CACHE), own=True)
    try:
        return EncoderFolders(search, Path.home() / _HOME_CACHE)
    except RuntimeError as error:
        raise InvalidArgumentError(
            f"there is no home folder to keep encoders in ({error}): set {CACHE_VARIABLE}"
        ) from error


class LocalEncoding:
    """Encodes in this process; an `Encoding`. Safe to use from many threads.

    Parameters
    ----------
    registry:
        The store's encoders, for those that no folder has.
    folders:
        Where they lie.
    clock:
        For deadlines.
    threads:
        How many a run of a model may use.
    open_folder:
        Opens the encoder in a folder; without one, `squash.encoders.encoder.open_encoder`.

    """

    def __init__(
        self,
        registry: EncoderRegistry,
        folders: EncoderFolders,
        *,
        clock: Clock,
        threads: int = 1,
        open_folder: OpenFolder | None = None,
    ) -> None:
        self._registry = registry
        self._folders = folders
        self._clock = clock
        self._threads = threads
        self._open_folder = open_folder or self._open_onnx
        self._lock = threading.Lock()
        self._open: OrderedDict[str, OpenEncoder] = OrderedDict()
        self._opening: dict[str, threading.Lock] = {}

    def encode(
        self,
        pin: EncoderPin,
        inputs: Inputs,
        *,
        purpose: Purpose,
        dimension: int,
        deadline_ms: int | None = None,
        told: Told | None = None,
    ) -> EncodedFor:
        """Encode inputs, in their order; see `Encoding.encode`.

        What is late is given up between runs of the model. An encoder that is being fetched is
        fetched to its end, since it serves whoever comes next.
        """

        def tell(done: int) -> None:
            if told is not None:
                told(done)
            if done < len(inputs):
                self._check_time(pin, deadline_ms, done, len(inputs))

        encoder = self.opened(pin)
        self._check_time(pin, deadline_ms, 0, len(inputs))
        found = encoder.encode(inputs, purpose=purpose, dimension=dimension, told=tell)
        return EncodedFor(found)

    def opened(self, pin: EncoderPin) -> OpenEncoder:
        """Return an encoder, open; of several threads that ask for one, the first opens it.

        Raises
        ------
        NotFoundError
            If no folder has it, nor the store.
        InvalidArgumentError
            If its digest is none, or what runs it is not installed.
        DataError
            If its files are damaged.
        UnavailableError
            If it could not be fetched.

        """
        if not is_digest(pin.digest):
            # Folders are read, written and removed by it: it must not lead to another.
            raise InvalidArgumentError(
                f"{pin.digest!r:.80} is no encoder's digest: that has 64 of 0-9 and a-f",
                field="encoder",
            )
        with self._lock:
            found = self._known(pin.digest)
            if found is not None:
                return found
            opening = self._opening.setdefault(pin.digest, threading.Lock())
        with opening:
            with self._lock:
                found = self._known(pin.digest)
            if found is not None:
                return found
            try:
                encoder = self._find(pin)
                with self._lock:
                    self._open[pin.digest] = encoder
                    while len(self._open) > ENCODERS_OPEN_MAX:
                        # Who is using it holds it still; then it is closed.
                        self._open.popitem(last=False)
            finally:
                with self._lock:
                    self._opening.pop(pin.digest, None)
        return encoder

    def _known(self, digest: str) -> OpenEncoder | None:
        found = self._open.get(digest)
        if found is not None:
            self._open.move_to_end(digest)
        return found

    def _find(self, pin: EncoderPin) -> OpenEncoder:
        for parent in self._folders.search:
            folder = parent / pin.digest
            if (folder / CONFIG_FILE).is_file():
                _check_digest(pin, folder)
                return self._open_folder(folder, checked=False)
        folder = self._folders.cache / pin.digest
        if folder.is_dir():
            try:
                _check_digest(pin, folder)
                return self._open_folder(folder, checked=False)
            except DataError:
                # The copy is damaged, not what it was made of: it is fetched anew.
                shutil.rmtree(folder, ignore_errors=True)
        # What was just fetched was checked on its way.
        return self._open_folder(folder, checked=self._fetch(pin, folder))

    def _fetch(self, pin: EncoderPin, folder: Path) -> bool:
        """Have an encoder in the cache; say whether it was this call that fetched it."""
        reference = f"{pin.name}@{pin.digest}"
        try:
            try:
                self._registry.fetch(reference, folder)
            except UnavailableError as error:
                if not (self._folders.own and _is_full(error) and self._clear()):
                    raise
                self._registry.fetch(reference, folder)
        except InvalidArgumentError:
            # Another process that shares the cache was first.
            if not (folder / CONFIG_FILE).is_file():
                raise
            return False
        return True

    def _clear(self) -> bool:
        """Remove all encoders of the cache; say whether there were any.

        Those that are open need their files no more; they are fetched again when they are opened
        again.
        """
        kept = [
            path
            for path in self._folders.cache.iterdir()
            if is_digest(path.name) and path.is_dir() and not path.is_symlink()
        ]
        for path in kept:
            shutil.rmtree(path, ignore_errors=True)
        return bool(kept)

    def _open_onnx(self, folder: Path, *, checked: bool) -> OpenEncoder:
        # Loaded here, since it brings the libraries that run models.
        from squash.encoders.encoder import open_encoder  # noqa: PLC0415

        return open_encoder(folder, threads=self._threads, checked=checked)

    def _check_time(self, pin: EncoderPin, deadline_ms: int | None, done: int, total: int) -> None:
        if deadline_ms is not None and self._clock.now_ms() >= deadline_ms:
            raise UnavailableError(
                f"the time was over when encoder {encoder_label(pin.name, pin.digest)} had done "
                f"{done} of {total} inputs: give a longer timeout_ms, or repeat the call"
            )


def _is_full(error: UnavailableError) -> bool:
    """Tell whether what could not be written had no room."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}


def _check_digest(pin: EncoderPin, folder: Path) -> None:
    """Refuse a folder whose `encoder.json` is not that of the encoder it is named by."""
    path = folder / CONFIG_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): remove its folder") from error
    if digest_of(data) != pin.digest:
        raise ChecksumError(
            f"{path} is not that of encoder {encoder_label(pin.name, pin.digest)}: its SHA-256 is "
            "another. Remove its folder: the encoder is fetched again"
        )
