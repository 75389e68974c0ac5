"""Reads a folder in Hugging Face style: which kind of model it holds, and how it is to be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from squash.arrays import AnyArray
from squash.encoders.contract import Pooling
from squash.encoders.export import bert, static
from squash.encoders.export.settings import Settings
from squash.errors import DataError, InvalidArgumentError
from squash.limits import ENCODER_TOKENS_MAX
from squash.model import Metric
from squash.values import dataclass

WEIGHTS_FILE: Final = "model.safetensors"
TOKENIZER_FILE: Final = "tokenizer.json"
_ONNX_FILES: Final = ("model.onnx", "onnx/model.onnx")
_POOLINGS: Final = {
    "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_cls_token": Pooling.CLS,
    "pooling_mode_lasttoken": Pooling.LAST,
}
_METRICS: Final = {
    "cosine": Metric.COSINE,
    "dot": Metric.DOT,
    "dot_product": Metric.DOT,
    "euclidean": Metric.EUCLIDEAN,
}
# Tokenizers say numbers such as 10^30 where nobody has set a length.
_UNSET_LENGTH: Final = 1_000_000
_STATIC_TOKENS_MAX: Final = 512
_FLOATS: Final = ("F32", "F16", "F64")


class Kind(StrEnum):
    """What a folder holds."""

    BERT = "bert"
    ONNX = "onnx"
    STATIC = "static"
    EFFICIENTNET = "efficientnet-lite0"


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in a folder.

    Parameters
    ----------
    kind, weights:
        The model's, and its file.
    config:
        `config.json`; empty if there is none.
    settings:
        What its files say.

    """

    kind: Kind
    weights: Path
    config: Mapping[str, Any]
    settings: Settings


def read_folder(folder: Path) -> Found:
    """Find out what a folder holds.

    Raises
    ------
    InvalidArgumentError
        If it holds no model of a kind that is known here, or uses it in a way that is not.
    DataError
        If a file is damaged.

    """
    images = sorted(folder.glob("efficientnet-lite0*.pth"))
    if images:
        return Found(Kind.EFFICIENTNET, images[0], {}, Settings())
    if not (folder / TOKENIZER_FILE).is_file():
        raise InvalidArgumentError(
            f"{folder} holds no {TOKENIZER_FILE}: save the tokenizer in its fast form "
            "(AutoTokenizer.from_pretrained(...).save_pretrained(...)) and put that file there"
        )
    config = _json(folder / "config.json")
    weights = folder / WEIGHTS_FILE
    ready = next((folder / name for name in _ONNX_FILES if (folder / name).is_file()), None)
    if weights.is_file() and static.knows(shapes_of(weights)):
        settings = Settings(pooling=Pooling.NONE, tokens_max=_STATIC_TOKENS_MAX)
        return Found(Kind.STATIC, weights, config, _settings(folder, config).over(settings))
    if weights.is_file() and (bert.knows(config) or ready is None):
        shape = bert.read_shape(config)
        settings = _settings(folder, config)
        told = min(settings.tokens_max or shape.tokens_max, shape.tokens_max)
        return Found(Kind.BERT, weights, config, Settings(tokens_max=told).over(settings))
    if ready is not None:
        return Found(Kind.ONNX, ready, config, _settings(folder, config))
    raise InvalidArgumentError(
        f"{folder} holds neither {WEIGHTS_FILE} nor {' nor '.join(_ONNX_FILES)}. Weights in "
        "another form, or in several files, are not read: save them again as one safetensors file "
        "(save_pretrained(..., safe_serialization=True, max_shard_size='100GB'))"
    )


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a safetensors file, by name.

    Raises
    ------
    DataError
        If the file is cut short or damaged.

    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} is damaged or cut short ({error})", object_key=str(path)
        ) from error


def tensors_of(path: Path) -> dict[str, AnyArray]:
    """Return the floats of a safetensors file by name; tensors of other dtypes are left out.

    Raises
    ------
    InvalidArgumentError
        If floats are of a dtype that NumPy does not have.
    DataError
        If the file is cut short or damaged.

    """
    found: dict[str, AnyArray] = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dict
                dtype = file.get_slice(name).get_dtype()
                if dtype in _FLOATS:
                    found[name] = file.get_tensor(name)
                elif dtype.startswith(("BF", "F")):
                    raise InvalidArgumentError(
                        f"{path}: {name!r} is of dtype {dtype}; save the model in float32 or "
                        "float16"
                    )
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} is damaged or cut short ({error})", object_key=str(path)
        ) from error
    return found


def _json(path: Path) -> dict[str, Any]:
    """Read a file that may be missing: that says nothing."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{path} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise InvalidArgumentError(f"{path} does not hold an object")
    return content


def _settings(folder: Path, config: Mapping[str, Any]) -> Settings:
    modules = _modules(folder)
    sentence = _json(folder / "config_sentence_transformers.json")
    prompts = sentence.get("prompts")
    prompts = prompts if isinstance(prompts, dict) else {}
    metric = _METRICS.get(str(sentence.get("similarity_fn_name")))
    # Sentence models that are compared by cosine need no module that normalises.
    normalise = None if not modules or metric in {None, Metric.COSINE} else "Normalize" in modules
    return Settings(
        pooling=_pooling(folder),
        tokens_max=_tokens_max(folder, config),
        query_prefix=_words(prompts.get("query")),
        document_prefix=_words(prompts.get("document") or prompts.get("passage")),
        metric=metric,
        normalise=normalise,
    )


def _modules(folder: Path) -> set[str]:
    """Return the kinds of module that a sentence model is made of; refuse what is not built."""
    path = folder / "modules.json"
    if not path.is_file():
        return set()
    try:
        kinds = {str(one["type"]).rpartition(".")[2] for one in json.loads(path.read_bytes())}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidArgumentError(f"{path} does not list modules ({error})") from error
    unknown = sorted(kinds - {"Transformer", "Pooling", "Normalize", "StaticEmbedding"})
    if unknown:
        raise InvalidArgumentError(
            f"{path}: the module {unknown[0]!r:.80} is not built here; export the whole model to "
            "ONNX with its own tools and name the folder that holds model.onnx and tokenizer.json"
        )
    return kinds


def _pooling(folder: Path) -> Pooling | None:
    config = _json(folder / "1_Pooling" / "config.json")
    chosen = [
        name for name, on in config.items() if name.startswith("pooling_mode_") and on is True
    ]
    if not chosen:
        return None
    if len(chosen) > 1 or chosen[0] not in _POOLINGS:
        raise InvalidArgumentError(
            f"1_Pooling/config.json: {', '.join(chosen)} is not done here, only one of "
            f"{', '.join(_POOLINGS)}"
        )
    return _POOLINGS[chosen[0]]


def _tokens_max(folder: Path, config: Mapping[str, Any]) -> int | None:
    """Return the first length that is said: the sentence model's, the tokenizer's, positions."""
    said = (
        _json(folder / "sentence_bert_config.json").get("max_seq_length"),
        _json(folder / "tokenizer_config.json").get("model_max_length"),
        config.get("max_position_embeddings"),
    )
    for value in said:
        if type(value) is int and 0 < value < _UNSET_LENGTH:
            return min(value, ENCODER_TOKENS_MAX)
    return None


def _words(value: Any) -> str | None:
    return value if isinstance(value, str) else None
