"""Makes the model and the description of an encoder from what a folder holds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from squash.encoders.contract import (
    CONFIG_FILE,
    PARITY_FILE,
    EncoderConfig,
    FileRef,
    ImagePart,
    OverLong,
    Pooling,
    TextPart,
    write_config,
)
from squash.encoders.export import bert, effnet, quantise, static
from squash.encoders.export.folder import TOKENIZER_FILE, Found, Kind, shapes_of, tensors_of
from squash.encoders.export.settings import Settings
from squash.encoders.export.torch_file import read_torch_file
from squash.encoders.lazily import load
from squash.encoders.onnx_session import TOKEN_OUTPUTS, VECTOR_OUTPUTS
from squash.errors import InvalidArgumentError, TooLargeError
from squash.limits import ENCODER_FILE_BYTES_MAX
from squash.model import Metric
from squash.values import dataclass

MODEL_FILE: Final = "model.onnx"
IMAGE_FILE: Final = "image.onnx"
# Operations that round what they are given by the largest value in the whole run.
_ROUNDS_RUNS: Final = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "QAttention"})
_TOKENS_DEFAULT: Final = 512
_LICENCE: Final = re.compile(r"^license:\s*([\w.+-]+)\s*$", re.MULTILINE)
_README_HEAD: Final = 4_096


@dataclass(frozen=True, slots=True)
class Built:
    """An encoder, not yet in a folder.

    Parameters
    ----------
    config:
        Its description, without files.
    model:
        The bytes of its model.
    tokenizer:
        Those of its tokenizer; None for images.
    rounds_runs:
        Whether its model rounds by what is in a run.
    foreign:
        Whether its model was built elsewhere.

    """

    config: EncoderConfig
    model: bytes
    tokenizer: bytes | None
    rounds_runs: bool = False
    foreign: bool = False

    @property
    def model_file(self) -> str:
        """The name of the model's file."""
        return IMAGE_FILE if self.tokenizer is None else MODEL_FILE


def build(folder: Path, found: Found, settings: Settings, *, name: str, source: str) -> Built:
    """Build the model that a folder holds, unrounded where its weights are.

    Raises
    ------
    InvalidArgumentError
        If the model cannot be built; the message says why.
    TooLargeError
        If it does not fit in one file.
    DataError
        If a file is damaged.

    """
    settings = settings.over(found.settings)
    config = EncoderConfig(
        name=name,
        revision=settings.revision or _revision(found.weights),
        dimension=1,
        metric=settings.metric or Metric.COSINE,
        licence=settings.licence or _licence(folder),
        files={},
        normalise=settings.normalise is not False,
        truncate_dimensions=settings.truncate_dimensions or (),
        source=source,
    )
    if found.kind is Kind.EFFICIENTNET:
        weights = read_torch_file(found.weights.read_bytes())
        return _image(config, effnet.build_efficientnet(weights))
    tokenizer = (folder / TOKENIZER_FILE).read_bytes()
    if found.kind is Kind.ONNX:
        return _ready(config, found, settings, tokenizer)
    _check_size(found.weights)
    if found.kind is Kind.STATIC:
        tokenizer, unknown = _static_tokenizer(tokenizer)
        model = static.build_static(tensors_of(found.weights), unknown=unknown)
    else:
        shape = bert.read_shape(found.config)
        if (settings.tokens_max or 0) > shape.tokens_max:
            raise InvalidArgumentError(
                f"tokens_max {settings.tokens_max} is more than the model's {shape.tokens_max} "
                "positions",
                field="tokens_max",
            )
        model = bert.build_bert(tensors_of(found.weights), shape)
    dimension = int(model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value)
    config = replace(config, dimension=dimension, text=_text(settings, batch=True))
    return Built(config, serialised(model), tokenizer)


def rounded(built: Built, quantize: str) -> Built:
    """Return the encoder with weights of eight bits: `quantize` is ``w8`` or ``int8``.

    Raises
    ------
    InvalidArgumentError
        If its model cannot be rounded so.

    """
    text = built.config.text
    if text is None:
        raise InvalidArgumentError(
            "a model of images is not rounded here, since convolutions have no form in eight bits "
            "that is fast everywhere: export it with quantize 'none'",
            field="quantize",
        )
    if built.rounds_runs:
        raise InvalidArgumentError(
            "the model is quantised already: export it with quantize 'none'", field="quantize"
        )
    model = onnx.load_from_string(built.model)
    if quantize == "w8":
        return replace(built, model=serialised(quantise.eight_bit_weights(model)))
    model = quantise.dynamic_int8(model)
    return replace(one_by_one(built), model=serialised(model), rounds_runs=True)


def serialised(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a model; the same model gives the same bytes.

    Raises
    ------
    TooLargeError
        If it does not fit in one file.

    """
    if model.ByteSize() > ENCODER_FILE_BYTES_MAX:
        raise _too_large(model.ByteSize())
    return bytes(model.SerializeToString(deterministic=True))


def one_by_one(built: Built) -> Built:
    """Return the encoder with a run of the model for each text."""
    text = built.config.text
    if text is None:
        return built
    return replace(built, config=replace(built.config, text=replace(text, batch=False)))


def write_folder(folder: Path, built: Built, *, parity: bytes | None = None) -> EncoderConfig:
    """Write an encoder's files, `encoder.json` last; return what that says."""
    files = {built.model_file: built.model}
    if built.tokenizer is not None:
        files[TOKENIZER_FILE] = built.tokenizer
    if parity is not None:
        files[PARITY_FILE] = parity
    refs = {
        name: FileRef(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    }
    config = replace(built.config, files=refs)
    data = write_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / CONFIG_FILE).write_bytes(data)
    return config


def _text(settings: Settings, *, batch: bool) -> TextPart:
    return TextPart(
        model=MODEL_FILE,
        tokenizer=TOKENIZER_FILE,
        pooling=settings.pooling or Pooling.MEAN,
        tokens_max=settings.tokens_max or _TOKENS_DEFAULT,
        over_long=settings.over_long or OverLong.TRUNCATE,
        query_prefix=settings.query_prefix or "",
        document_prefix=settings.document_prefix or "",
        batch=batch,
    )


def _image(config: EncoderConfig, model: onnx.ModelProto) -> Built:
    part = ImagePart(model=IMAGE_FILE, size=effnet.SIZE, resize=effnet.RESIZE)
    config = replace(config, dimension=effnet.DIMENSION, image=part)
    return Built(config, serialised(model), None)


def _ready(config: EncoderConfig, found: Found, settings: Settings, tokenizer: bytes) -> Built:
    """Take a model that is ONNX already; weights that lie in other files join it."""
    data = found.weights.read_bytes()
    damaged = load("google.protobuf.message", extra="export").DecodeError
    try:
        model = onnx.load(found.weights)
    except (damaged, ValueError, OSError, onnx.checker.ValidationError) as error:
        raise InvalidArgumentError(f"{found.weights} is no ONNX model ({error})") from error
    bare = onnx.load_from_string(data)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in bare.graph.initializer):
        data = serialised(model)
    elif len(data) > ENCODER_FILE_BYTES_MAX:
        raise _too_large(len(data))
    pooled, dimension = _output(model, found)
    if pooled and settings.pooling is None:
        settings = replace(settings, pooling=Pooling.NONE)
    rounds = any(node.op_type in _ROUNDS_RUNS for node in model.graph.node)
    config = replace(config, dimension=dimension, text=_text(settings, batch=not rounds))
    return Built(config, data, tokenizer, rounds_runs=rounds, foreign=True)


def _output(model: onnx.ModelProto, found: Found) -> tuple[bool, int]:
    """Tell whether a ready model pools, and the dimension of its vectors."""
    outputs = {one.name: one.type.tensor_type.shape.dim for one in model.graph.output}
    # BERT's `pooler_output` is no vector of a text, though it has the shape of one.
    names = [name for name in VECTOR_OUTPUTS if name in outputs and name != "pooler_output"]
    names += [name for name in TOKEN_OUTPUTS if name in outputs]
    names += list(outputs) if len(outputs) == 1 else []
    for name in names:
        dims = outputs[name]
        last = dims[-1].dim_value if dims else 0
        dimension = last or found.config.get("hidden_size")
        if len(dims) in {2, 3} and type(dimension) is int and dimension > 0:
            return len(dims) == 2, dimension  # noqa: PLR2004
    raise InvalidArgumentError(
        f"{found.weights.name}: none of its outputs ({', '.join(outputs)}) is float "
        f"[texts, tokens, dimension] or [texts, dimension] under one of the names "
        f"{', '.join((*TOKEN_OUTPUTS, *VECTOR_OUTPUTS))}"
    )


def _static_tokenizer(data: bytes) -> tuple[bytes, int | None]:
    """Return a tokenizer whose special tokens a table can have, and the unknown token.

    A table knows nothing of beginnings and ends. The unknown token, which is not counted, stands
    before every text, so that one without any tokens has a vector too.
    """
    try:
        content: dict[str, Any] = json.loads(data)
        model: Mapping[str, Any] = content["model"]
        vocabulary, word = model["vocab"], model.get("unk_token")
        if isinstance(vocabulary, list):  # Unigram's, which names the unknown one by its place
            unknown = model.get("unk_id")
            word = vocabulary[unknown][0] if unknown is not None else None
        else:
            unknown = vocabulary.get(word)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidArgumentError(f"{TOKENIZER_FILE} is no tokenizer ({error})") from error
    content |= {"post_processor": None, "truncation": None, "padding": None}
    if isinstance(word, str) and type(unknown) is int:
        content["post_processor"] = _led_by(word, unknown)
    plain = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return plain, unknown if type(unknown) is int else None


def _led_by(word: str, token: int) -> dict[str, Any]:
    """Return the part of a tokenizer that puts a token before every text."""
    lead: dict[str, Any] = {"SpecialToken": {"id": word, "type_id": 0}}
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    return {
        "type": "TemplateProcessing",
        "single": [lead, texts[0]],
        "pair": [lead, *texts],
        "special_tokens": {word: {"id": word, "ids": [token], "tokens": [word]}},
    }


def _check_size(weights: Path) -> None:
    values = sum(int(np.prod(shape)) for shape in shapes_of(weights).values())
    if values * 4 > ENCODER_FILE_BYTES_MAX:
        raise _too_large(values * 4)


def _too_large(size: int) -> TooLargeError:
    return TooLargeError(
        f"the model has {size:,} bytes, and ONNX takes at most ENCODER_FILE_BYTES_MAX, "
        f"{ENCODER_FILE_BYTES_MAX:,}, in one file: take a smaller model"
    )


def _revision(weights: Path) -> str:
    with weights.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}"


def _licence(folder: Path) -> str:
    """Return what the head of the model's card says."""
    card = folder / "README.md"
    if not card.is_file():
        return "unknown"
    with card.open(encoding="utf-8", errors="replace") as file:
        said = _LICENCE.search(file.read(_README_HEAD))
    return said[1] if said else "unknown"
