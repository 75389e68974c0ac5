"""Encoders made of models, put into a store, and tried."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squash.cli.encoder_words import info_document
from squash.cli.importers.inputs import checked_text
from squash.cli.importers.jsonl import numbered_lines
from squash.cli.output import Output, Table
from squash.cli.problems import UsageError
from squash.cli.statuses import FAILED, SUCCEEDED
from squash.encoders.contract import CONFIG_FILE, OverLong, Pooling
from squash.encoders.export.settings import Settings
from squash.errors import InvalidArgumentError
from squash.runtime.encoder_names import encoder_label

if TYPE_CHECKING:
    from squash.database import Database
    from squash.encoders.check import FolderReport
    from squash.encoders.export.export import ExportReport


def export(arguments: Namespace, database: Database, output: Output) -> int:
    """Make an encoder's folder of a model; none if what was rounded loses too much."""
    del database
    if _is_encoder(Path(arguments.source)):
        raise InvalidArgumentError(
            f"{arguments.source} is an encoder already: add it to the store, squash encoder add "
            f"{arguments.source}"
        )
    made = _exported(
        arguments,
        arguments.out,
        output,
        name=arguments.name,
        texts=None if arguments.texts is None else _texts(arguments.texts),
        force=arguments.force,
        settings=_settings(arguments),
    )
    label = encoder_label(made.config.name, made.digest)
    output.result(
        _export_document(made, arguments.out),
        *_judged(made),
        Table(("file", "bytes"), sorted(made.file_bytes.items())),
        f"Made {label} in {arguments.out}. The store takes it: squash encoder add {arguments.out}",
    )
    return SUCCEEDED


def _exported(arguments: Namespace, out: Path, output: Output, **told: Any) -> ExportReport:
    # Only here: it is an extra, and no other command waits for it.
    from squash.encoders.export.export import export_encoder  # noqa: PLC0415

    return export_encoder(
        arguments.source, out, quantize=arguments.quantize, report=output.note, **told
    )


def _settings(arguments: Namespace) -> Settings:
    said = vars(arguments)
    given: dict[str, Any] = {one.name: said.get(one.name) for one in fields(Settings)}
    for name, kind in (("pooling", Pooling), ("over_long", OverLong)):
        given[name] = None if given[name] is None else kind(given[name])
    return Settings(**given)


def _texts(path: Path) -> list[str]:
    """Read the texts of a file, one a line; empty lines are passed over."""
    with path.open("rb") as file:
        lines = [
            _text(line, place=f"{path.name} line {number:,}")
            for number, line in numbered_lines(file, name=path.name)
            if not line.isspace()
        ]
    if not lines:
        raise InvalidArgumentError(f"{path.name} holds no text to judge by")
    return lines


def _text(line: bytes, *, place: str) -> str:
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{place}: not text in UTF-8: {error}") from error
    return checked_text(text, place=place)


def _export_document(made: ExportReport, folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "name": made.config.name,
        "digest": made.digest,
        "quantize": made.quantize,
        "reference_bytes": made.reference_bytes,
        "file_bytes": dict(made.file_bytes),
        "judgement": None if made.judgement is None else asdict(made.judgement),
        "bounds": None if made.bounds is None else asdict(made.bounds),
        "losses": list(made.losses),
        "parity_cosine_min": made.parity_cosine_min,
    }


def _judged(made: ExportReport) -> list[Table | str]:
    """Return what rounding has lost, beside the most that it may."""
    told, bounds = made.judgement, made.bounds
    if told is None or bounds is None:
        return ["Nothing was rounded, and so nothing is lost."]
    rows = [
        ("cosine to the original, mean", told.cosine_mean, "at least", bounds.cosine_mean),
        ("cosine to the original, least", told.cosine_min, "at least", bounds.cosine_min),
        ("drift of a pair's similarity, mean", told.drift_mean, "at most", bounds.drift_mean),
        ("drift of a pair's similarity, most", told.drift_max, "at most", bounds.drift_max),
        ("share of the ten nearest that stay", told.recall, "at least", bounds.recall),
    ]
    table = Table(
        (f"{made.quantize}, by {told.texts:,} texts", "found", "", "bound"),
        [(title, f"{found:.4f}", word, f"{bound:g}") for title, found, word, bound in rows],
    )
    forced = [f"It was forced: {'; '.join(made.losses)}."] if made.losses else []
    return [table, *forced]


def add(arguments: Namespace, database: Database, output: Output) -> int:
    """Put an encoder into the store, from its folder or of a known model."""
    with _folder_of(arguments, output) as folder, output.progress() as report:
        info = database.encoders.add(folder, report)
    output.result(
        info_document(info),
        f"Added {info.label}: dimension {info.config.dimension}, metric "
        f"{info.config.metric}. Indexes take it: "
        f"squash create INDEX --encoder {info.config.name}",
    )
    return SUCCEEDED


@contextmanager
def _folder_of(arguments: Namespace, output: Output) -> Iterator[Path]:
    """Give the folder of what is to be added; that of a known model is made, and goes again."""
    folder = Path(arguments.source)
    if _is_encoder(folder):
        if arguments.quantize is not None:
            raise UsageError(
                f"--quantize goes with a model that is exported first, and {folder} is a folder "
                "with an encoder"
            )
        yield folder
        return
    if folder.is_dir():
        raise InvalidArgumentError(
            f"{folder} is a folder without {CONFIG_FILE}: if a model is in it, make an encoder of "
            f"it first, squash encoder export {folder} OUT"
        )
    with tempfile.TemporaryDirectory(prefix="squash-encoder-") as scratch:
        made = Path(scratch) / "encoder"
        _exported(arguments, made, output)
        yield made


def _is_encoder(folder: Path) -> bool:
    return (folder / CONFIG_FILE).is_file()


def check(arguments: Namespace, database: Database, output: Output) -> int:
    """Try an encoder of a folder or of the store, and compare it with its reference."""
    # Only here: no other command waits for what runs models.
    from squash.encoders.check import check_folder  # noqa: PLC0415

    folder = Path(arguments.source)
    if folder.is_dir():
        found = check_folder(folder)
    else:
        with tempfile.TemporaryDirectory(prefix="squash-encoder-") as scratch:
            fetched = Path(scratch) / "encoder"
            with output.progress() as report:
                database.encoders.fetch(arguments.source, fetched, report)
            found = check_folder(fetched)
    label = encoder_label(found.config.name, found.digest)
    verdict = f"{label} is as it says." if found.passed else f"{label} is not as it says."
    output.result(_check_document(found), Table(("", label), _check_rows(found)), verdict)
    return SUCCEEDED if found.passed else FAILED


def _check_document(found: FolderReport) -> dict[str, Any]:
    return {
        "name": found.config.name,
        "digest": found.digest,
        "passed": found.passed,
        "tried": found.tried,
        "batch_agrees": found.batch_agrees,
        "batch_cosine_min": found.batch_cosine_min,
        "parity": None
        if found.parity is None
        else asdict(found.parity) | {"passed": found.parity.passed},
    }


def _check_rows(found: FolderReport) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [
        ("inputs tried", found.tried),
        ("alone as among others", found.batch_agrees),
        ("least cosine of these", _cosine(found.batch_cosine_min)),
    ]
    parity = found.parity
    if parity is None:
        return [*rows, ("reference", "none comes with it")]
    return [
        *rows,
        ("inputs with a reference", parity.inputs),
        ("cosine to it, mean", _cosine(parity.cosine_mean)),
        ("cosine to it, least", _cosine(parity.cosine_min)),
        ("required", _cosine(parity.required)),
    ]


def _cosine(value: float) -> str:
    """Return a cosine with the digits in which those near one differ."""
    return f"{value:.7f}"
