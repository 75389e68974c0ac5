"""The encoders of a store: added whole, listed, fetched, removed.

An encoder lies under ``_encoders/<name>/<digest>/``, a file each; no index can have that name. It
is there from the moment its `encoder.json` is, which is written last and removed first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from squash.encoders.contract import CONFIG_FILE, EncoderConfig, digest_of, read_config
from squash.errors import (
    ChecksumError,
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    TooLargeError,
    UnsupportedFormatError,
)
from squash.index import catalogue
from squash.limits import ENCODERS_MAX
from squash.reports import Progress
from squash.runtime.encoder_files import pieces, read_checked, whole_folder
from squash.runtime.encoder_names import encoder_label, is_digest, read_reference
from squash.storage import ObjectStore

FOLDER: Final = "_encoders/"

Report = Callable[[Progress], None]
CheckFolder = Callable[[Path], Any]


class EncoderInfo(NamedTuple):
    """An encoder of a store: what its `encoder.json` says, and the digest of that."""

    config: EncoderConfig
    digest: str

    @property
    def label(self) -> str:
        """``name@digest``, as answers name it."""
        return encoder_label(self.config.name, self.digest)

    @property
    def bytes(self) -> int:
        """Of its files, without `encoder.json`."""
        return sum(file.bytes for file in self.config.files.values())


# `EncoderRegistry.list` hides the type's name from what follows it in the class.
_Encoders: TypeAlias = list[EncoderInfo]


class EncoderRegistry:
    """The encoders of a store.

    Parameters
    ----------
    store:
        That of a database, at its root.
    check:
        Tries out the encoder in a folder before it is added, and raises if it is none; without
        one, `squash.encoders.check.check_folder`.

    """

    def __init__(self, store: ObjectStore, check: CheckFolder | None = None) -> None:
        self._store = store
        self._check = check or _check_folder

    def add(self, folder: str | Path, progress: Report | None = None) -> EncoderInfo:
        """Add the encoder in a folder, once it has been tried out; it shows when all of it is here.

        To add it again does no harm: it finishes what was broken off, and mends damaged files.

        Parameters
        ----------
        folder:
            With `encoder.json` and the files that it lists.
        progress:
            Told how many bytes are stored.

        Raises
        ------
        InvalidArgumentError
            If the folder holds no encoder that works.
        ChecksumError
            If a file is not what `encoder.json` says.
        TooLargeError
            If the store has `ENCODERS_MAX` encoders.

        """
        folder = Path(folder)
        self._check(folder)
        try:
            data = (folder / CONFIG_FILE).read_bytes()
        except OSError as error:
            raise InvalidArgumentError(
                f"{folder / CONFIG_FILE} cannot be read: {error}", field="folder"
            ) from error
        info = EncoderInfo(read_config(data), digest_of(data))
        self._check_room(info)
        done = 0
        for name, file in info.config.files.items():
            self._store.put(_key(info, name), read_checked(folder / name, file))
            done += file.bytes
            if progress is not None:
                progress(Progress("encoder", done, info.bytes, "bytes"))
        key = _key(info, CONFIG_FILE)
        if not self._store.put_if_absent(key, data) and bytes(self._store.get(key) or b"") != data:
            self._store.put(key, data)  # It was damaged: its place says what it must be.
        return info

    def list(self) -> _Encoders:
        """Return all encoders, by name and digest.

        Raises
        ------
        DataError, UnsupportedFormatError
            If one is damaged, or was made for a newer release.

        """
        found = (self._read(name, digest) for name, digest in self._places(None))
        return [one[0] for one in found if one is not None]

    def resolve(self, reference: str) -> EncoderInfo:
        """Find the encoder that is asked for.

        Parameters
        ----------
        reference:
            ``name``, or ``name@<first 8 or more digits of the digest>``, or a whole digest.

        Raises
        ------
        NotFoundError
            If there is none.
        InvalidArgumentError
            If there are several; the message lists them.
        DataError, UnsupportedFormatError
            If it is damaged, or was made for a newer release.

        """
        return self._find(reference)[0]

    def _find(self, reference: str) -> tuple[EncoderInfo, bytes]:
        """Return the encoder that is asked for, and its `encoder.json`."""
        wanted = read_reference(reference)
        if wanted.name is not None and is_digest(wanted.digest):
            # As an index pins it: a cold start need not look what else there is.
            places = [(wanted.name, wanted.digest)]
        else:
            places = [
                (name, digest)
                for name, digest in self._places(wanted.name)
                if digest.startswith(wanted.digest) and self._has(name, digest)
            ]
        _refuse_several(reference, places)
        found = self._read(*places[0]) if places else None
        if found is None:
            raise self._none_such(reference)
        return found

    def remove(self, reference: str, *, force: bool = False) -> None:
        """Remove an encoder, or what a broken-off addition of one left.

        Vectors stay searchable without their encoder; texts need it. An index that is created at
        the very moment may pin it still: add the encoder again then.

        Parameters
        ----------
        reference:
            As in `resolve`.
        force:
            Remove it although indexes pin it.

        Raises
        ------
        NotFoundError, InvalidArgumentError
            As `resolve`.
        ConflictError
            If indexes pin it; the message names them.

        """
        wanted = read_reference(reference)
        places = [
            (name, digest)
            for name, digest in self._places(wanted.name)
            if digest.startswith(wanted.digest)
        ]
        if not places:
            raise self._none_such(reference)
        whole = [place for place in places if self._has(*place)]
        _refuse_several(reference, whole or places)
        name, digest = (whole or places)[0]
        if not force:
            self._refuse_pinned(name, digest)
        prefix = _prefix(name, digest)
        # In this order it is gone at once, and no reader finds half of it.
        self._store.delete([prefix + CONFIG_FILE])
        self._store.delete(info.key for info in self._store.list(prefix))

    def pinned_by(self, digest: str) -> tuple[str, ...]:
        """Return the names of the indexes that pin an encoder, by its digest."""
        configs = catalogue.list_configs(self._store)
        return tuple(
            config.name
            for config in configs
            if config.encoder is not None and config.encoder.digest == digest
        )

    def fetch(
        self, reference: str, into: str | Path, progress: Report | None = None
    ) -> EncoderInfo:
        """Write an encoder's files into a new folder: whole and verified, or not at all.

        Parameters
        ----------
        reference:
            As in `resolve`.
        into:
            The folder to make.
        progress:
            Told how many bytes are there.

        Raises
        ------
        NotFoundError, InvalidArgumentError
            As `resolve`; or if the folder is there already.
        ChecksumError, DataError
            If the store's files are damaged.
        UnavailableError
            If the folder cannot be written.

        """
        info, data = self._find(reference)
        with whole_folder(Path(into)) as folder:
            self._fetch_files(info, folder, progress)
            (folder / CONFIG_FILE).write_bytes(data)
        return info

    def _fetch_files(self, info: EncoderInfo, folder: Path, progress: Report | None) -> None:
        done = 0
        for name, file in info.config.files.items():
            with (folder / name).open("xb") as written:
                for piece in pieces(self._store, _key(info, name), file):
                    written.write(piece)
                    done += len(piece)
                    if progress is not None:
                        progress(Progress("encoder", done, info.bytes, "bytes"))

    def _check_room(self, info: EncoderInfo) -> None:
        others = [place for place in self._places(None) if place != (info.config.name, info.digest)]
        if len(others) >= ENCODERS_MAX:
            raise TooLargeError(
                f"the store has {len(others)} encoders; at most {ENCODERS_MAX} are kept: remove "
                "one that no index needs"
            )

    def _refuse_pinned(self, name: str, digest: str) -> None:
        indexes = self.pinned_by(digest)
        if indexes:
            raise ConflictError(
                f"encoder {encoder_label(name, digest)} is that of {_listed(indexes)}, which could "
                "not take texts without it: drop these first, or remove it by force"
            )

    def _places(self, name: str | None) -> Iterator[tuple[str, str]]:
        """Yield name and digest of all that lies there, whole or not."""
        names = self._store.list_folders(FOLDER) if name is None else [name]
        for one in names:
            for digest in self._store.list_folders(f"{FOLDER}{one}/"):
                if is_digest(digest):
                    yield one, digest

    def _has(self, name: str, digest: str) -> bool:
        return self._store.get(_prefix(name, digest) + CONFIG_FILE) is not None

    def _read(self, name: str, digest: str) -> tuple[EncoderInfo, bytes] | None:
        """Read an `encoder.json`, held against its digest; None if there is none."""
        key = _prefix(name, digest) + CONFIG_FILE
        found = self._store.get(key)
        if found is None:
            return None
        data = bytes(found)
        if digest_of(data) != digest:
            raise ChecksumError(
                f"{key} is not as it was added: its SHA-256 is not its digest. Add the encoder "
                "again from its folder; that mends it.",
                object_key=key,
            )
        try:
            config = read_config(data)
        except UnsupportedFormatError:
            raise
        except InvalidArgumentError as error:
            raise DataError(f"{key} describes no encoder ({error})", object_key=key) from error
        if config.name != name:
            raise DataError(
                f"{key} describes the encoder {config.name!r}: it was moved", object_key=key
            )
        return EncoderInfo(config, digest), data

    def _none_such(self, reference: str) -> NotFoundError:
        there = [encoder_label(*place) for place in self._places(None) if self._has(*place)]
        hint = f"there are {_listed(there)}" if there else "add it with `squash encoder add`"
        return NotFoundError(f"there is no encoder {reference!r} in this store: {hint}")


def _check_folder(folder: Path) -> None:
    # Loaded here, since it brings the libraries that run models.
    from squash.encoders.check import check_folder  # noqa: PLC0415

    report = check_folder(folder)
    if not report.batch_agrees:
        raise InvalidArgumentError(
            f"the encoder in {folder} makes another vector of a text alone than of the same among "
            "others: set text.batch to false in its encoder.json, or export it anew",
            field="folder",
        )
    if report.parity is not None and not report.parity.passed:
        raise InvalidArgumentError(
            f"the encoder in {folder} is farther from its reference than its parity.json allows: "
            "export it anew; `squash encoder check` says how far",
            field="folder",
        )


def _prefix(name: str, digest: str) -> str:
    return f"{FOLDER}{name}/{digest}/"


def _key(info: EncoderInfo, file: str) -> str:
    return _prefix(info.config.name, info.digest) + file


def _refuse_several(reference: str, places: Sequence[tuple[str, str]]) -> None:
    if len(places) > 1:
        labels = [encoder_label(*place) for place in places]
        raise InvalidArgumentError(
            f"{reference!r} can be any of {_listed(labels)}: say which", field="encoder"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
