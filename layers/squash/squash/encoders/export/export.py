"""Makes an encoder folder of a model: built, perhaps rounded, judged, and put in place whole."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from squash.encoders.contract import CONFIG_FILE, EncoderConfig, digest_of
from squash.encoders.export.settings import Settings
from squash.encoders.export.sources import KNOWN, Report, opened
from squash.encoders.lazily import load
from squash.errors import InvalidArgumentError
from squash.values import dataclass

if TYPE_CHECKING:
    from squash.encoders.encoder import OnnxEncoder
    from squash.encoders.export.building import Built
    from squash.encoders.export.judge import Bounds, Judgement
    from squash.encoders.parity import Parity

Quantize = Literal["none", "w8", "int8"]
QUANTIZE: Final = ("none", "w8", "int8")
CACHE: Final = Path("~/.cache/squash/packages")
# What is not rounded here is computed alike everywhere, up to the order of sums; a model that
# rounds its activations is not, since processors differ in how they multiply int8.
_PARITY_EXACT: Final = 1 - 1e-4
_PARITY_ROUNDED: Final = 0.95
_NAME_CHARACTERS_MAX: Final = 63
_PACKAGES: Final = ("onnx", "onnxruntime", "safetensors", "tokenizers")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported.

    Parameters
    ----------
    folder, config, digest:
        Where it is, what its `encoder.json` says, and the digest of that.
    quantize:
        What was done to its weights.
    reference_bytes:
        The bytes of the model before it was rounded; those of the others are in `config.files`.
    judgement, bounds:
        What rounding has lost, and the most that it may; None if nothing was rounded.
    losses:
        The bounds that are passed; only with `force`.
    parity_cosine_min:
        How near to the reference this encoder must be, anywhere, on the inputs of its parity file.

    """

    folder: Path
    config: EncoderConfig
    digest: str
    quantize: Quantize
    reference_bytes: int
    judgement: Judgement | None
    bounds: Bounds | None
    losses: tuple[str, ...]
    parity_cosine_min: float

    @property
    def file_bytes(self) -> Mapping[str, int]:
        """The bytes of each file that `encoder.json` names."""
        return {name: ref.bytes for name, ref in self.config.files.items()}


def _silent(_line: str) -> None:
    pass


def export_encoder(
    source: str,
    out: Path,
    *,
    name: str | None = None,
    quantize: Quantize | None = None,
    settings: Settings | None = None,
    texts: Sequence[str] | None = None,
    bounds: Bounds | None = None,
    force: bool = False,
    cache: Path | None = None,
    threads: int = 1,
    report: Report = _silent,
) -> ExportReport:
    """Export a model to an encoder folder.

    Parameters
    ----------
    source:
        A name that is known (`squash.encoders.export.sources.KNOWN`), or a folder: in Hugging Face
        style (`config.json`, `model.safetensors`, `tokenizer.json`); with a `model.onnx` and a
        `tokenizer.json`; or with a table of token vectors as its one tensor.
    out:
        The folder to make. It appears when it is whole. One that is there and empty is filled.
    name:
        The encoder's; by default the source's.
    quantize:
        ``w8`` rounds weights to eight bits, ``int8`` activations too, ``none`` nothing. By default
        ``w8`` for a text model with float weights, ``none`` for every other.
    settings:
        What is to be otherwise than the source says.
    texts:
        What a rounded model is judged by; by default texts that are built in.
    bounds:
        The most that rounding may lose; by default `judge.BOUNDS` of the kind of rounding.
    force:
        Whether a loss above the bounds is let through.
    cache:
        Where downloaded packages are kept; by default `CACHE`.
    threads:
        That models run with.
    report:
        Hears, a line at a time, what is being done.

    Raises
    ------
    InvalidArgumentError
        If there is something at `out`; if the source is no model that is known here; if a loss is
        above a bound; or if a package that this needs is not installed.
    TooLargeError
        If the model does not fit in one file.
    UnavailableError
        If a package cannot be downloaded.
    DataError
        If a file of the source is damaged, or not the one that is known.

    """
    if quantize is not None and quantize not in QUANTIZE:
        raise InvalidArgumentError(
            f"quantize is one of {', '.join(QUANTIZE)}, not {quantize!r:.40}", field="quantize"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidArgumentError(f"{out} is there already: name another folder, or delete it")
    for package in _PACKAGES:
        load(package, extra="export")
    # Only now: they need those packages, and importing them takes a second.
    from squash.encoders.export import building, folder, samples  # noqa: PLC0415

    settings = settings or Settings()
    cache = (cache or CACHE).expanduser()
    with opened(source, cache=cache, report=report) as (place, known):
        report(f"building {name or source}")
        built = building.build(
            place,
            folder.read_folder(place),
            settings.over(known),
            name=name or default_name(source),
            source=KNOWN[source].requirement if source in KNOWN else place.resolve().name,
        )
    if quantize is None:
        quantize = "none" if built.tokenizer is None or built.rounds_runs else "w8"
    # What is kept of a known model is of it as it is, not with other settings.
    reference = samples.known_reference(source) if settings == Settings() else None
    work = _Work(built, quantize, texts, bounds, force, threads, report, reference)
    # An empty folder may be where the caller stands, or a link: it stays, and is filled.
    there = out.exists()
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out if there else out.parent
    with tempfile.TemporaryDirectory(dir=beside, prefix=f".{out.name}-") as scratch:
        whole = Path(scratch) / "whole"
        done = work.write(Path(scratch), whole, out)
        if there:
            _fill(out, whole)
        else:
            whole.replace(out)
    return done


def _fill(out: Path, whole: Path) -> None:
    """Move an encoder's files into a folder; last the one by which it is an encoder."""
    for path in sorted(whole.iterdir(), key=lambda path: path.name == CONFIG_FILE):
        path.replace(out / path.name)


@dataclass(frozen=True, slots=True)
class _Work:
    """An export under way; see `export_encoder`."""

    built: Built
    quantize: Quantize
    texts: Sequence[str] | None
    bounds: Bounds | None
    force: bool
    threads: int
    report: Report
    known: Parity | None

    def write(self, scratch: Path, whole: Path, out: Path) -> ExportReport:
        """Write the encoder into `whole`, judged and tried; say that it is at `out`."""
        from squash.encoders.check import check_folder  # noqa: PLC0415 - see above
        from squash.encoders.encoder import open_encoder  # noqa: PLC0415
        from squash.encoders.export import building, judge, samples  # noqa: PLC0415
        from squash.encoders.parity import write_parity  # noqa: PLC0415

        made = self._reference(scratch / "reference")
        reference = encoder = open_encoder(scratch / "reference", threads=self.threads)
        judgement, bounds = None, None
        losses: tuple[str, ...] = ()
        nearness = _PARITY_ROUNDED if made.rounds_runs else _PARITY_EXACT
        if self.quantize != "none":
            self.report(f"rounding to {self.quantize}")
            made = building.rounded(made, self.quantize)
            building.write_folder(scratch / "rounded", made)
            encoder = open_encoder(scratch / "rounded", threads=self.threads)
            judgement = self._judge(reference, encoder)
            bounds = self.bounds or judge.BOUNDS[self.quantize]
            losses = judgement.losses(bounds)
            for line in judgement.lines(bounds) if losses else ():
                self.report(line)
            self._refuse(losses)
            nearness = bounds.cosine_min
        parity = samples.parity_of(reference, encoder, nearness, self.known)
        self.report("trying it")
        config = building.write_folder(whole, made, parity=write_parity(parity))
        if not check_folder(whole, threads=self.threads).passed:
            raise InvalidArgumentError(
                f"the encoder {config.name} does not do twice what it did once: its model depends "
                "on more than its input, and cannot be used"
            )
        return ExportReport(
            folder=out,
            config=config,
            digest=digest_of((whole / CONFIG_FILE).read_bytes()),
            quantize=self.quantize,
            reference_bytes=len(self.built.model),
            judgement=judgement,
            bounds=bounds,
            losses=losses,
            parity_cosine_min=parity.cosine_min,
        )

    def _reference(self, folder: Path) -> Built:
        """Write the encoder as it is before it is rounded; return it.

        If it was built elsewhere and its texts get in each other's way, each has its own run.
        """
        from squash.encoders.check import check_folder  # noqa: PLC0415 - see above
        from squash.encoders.export import building  # noqa: PLC0415

        building.write_folder(folder, self.built)
        if not self.built.foreign or check_folder(folder, threads=self.threads).batch_agrees:
            return self.built
        alone = building.one_by_one(self.built)
        building.write_folder(folder, alone)
        return alone

    def _judge(self, reference: OnnxEncoder, encoder: OnnxEncoder) -> Judgement:
        from squash.encoders.export.judge import judge  # noqa: PLC0415 - see above
        from squash.encoders.export.texts import varied_texts  # noqa: PLC0415

        texts = varied_texts() if self.texts is None else self.texts
        self.report(f"judging it by {len(texts)} texts")
        return judge(reference, encoder, texts)

    def _refuse(self, losses: Sequence[str]) -> None:
        if losses and not self.force:
            raise InvalidArgumentError(
                f"rounding to {self.quantize} loses too much: {'; '.join(losses)}. Export it with "
                "quantize 'none', or with force if that is good enough for you."
            )


def default_name(source: str) -> str:
    """Return what an encoder is called after: a known name, or its folder in allowed letters."""
    if source in KNOWN:
        return source
    plain = re.sub(r"[^a-z0-9]+", "-", Path(source).resolve().name.lower()).strip("-")
    return plain[:_NAME_CHARACTERS_MAX].strip("-") or "encoder"
