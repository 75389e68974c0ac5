"""Folders as models come in, so small that tests make them in milliseconds."""

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WIDTH, INNER, LAYERS, HEADS, POSITIONS = 32, 64, 2, 4, 64
EPS = 1e-12
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def vocabulary() -> list[str]:
    """Return some 300 pieces of words: every letter, and pairs of letters."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    pairs = [f"{one}{two}" for one in "aeioustrnlmdc" for two in "aeioustrnlmdc"]
    return [*_SPECIAL, *letters, *(f"##{letter}" for letter in letters), *pairs]


def config(**changes: Any) -> dict[str, Any]:
    """Return a `config.json`; a change to None takes the member away."""
    content = {
        "model_type": "bert",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "vocab_size": len(vocabulary()),
        "max_position_embeddings": POSITIONS,
        "layer_norm_eps": EPS,
        "hidden_act": "gelu",
        "pad_token_id": 1,
    } | changes
    return {name: value for name, value in content.items() if value is not None}


def bert_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Return random weights that fit `config()`."""
    rng = np.random.default_rng(seed)

    def some(*shape: int, middle: float = 0.0) -> np.ndarray:
        return (middle + rng.standard_normal(shape) * 0.2).astype(np.float32)

    found = {
        "embeddings.word_embeddings.weight": some(len(vocabulary()), WIDTH),
        "embeddings.position_embeddings.weight": some(POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": some(2, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        parts = {f"attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
        parts |= {"attention.output.dense": (WIDTH, WIDTH), "intermediate.dense": (INNER, WIDTH)}
        parts["output.dense"] = (WIDTH, INNER)
        for name, shape in parts.items():
            found[f"{layer}.{name}.weight"] = some(*shape)
            found[f"{layer}.{name}.bias"] = some(shape[0])
    for name in norms:
        found |= {f"{name}.weight": some(WIDTH, middle=1), f"{name}.bias": some(WIDTH)}
    return found


def tokenizer() -> Tokenizer:
    """Return a tokenizer that splits words into `vocabulary()`."""
    words = {word: token for token, word in enumerate(vocabulary())}
    made = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))  # noqa: S106
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_truncation(8)
    made.enable_padding(length=8)
    return made


def bert_folder(
    folder: Path, *, weights: dict[str, np.ndarray] | None = None, **changes: Any
) -> Path:
    """Write a BERT in Hugging Face style; `changes` go into its `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config(**changes))
    save_file(weights or bert_weights(), folder / "model.safetensors")
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def static_folder(folder: Path, *, name: str = "embeddings", seed: int = 0) -> Path:
    """Write a table of token vectors."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((len(vocabulary()), WIDTH)).astype(np.float32)
    save_file({name: table}, folder / "model.safetensors")
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def write_json(path: Path, content: Any) -> None:
    """Write JSON, making the folder that it goes into."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def run_tokens(model: onnx.ModelProto, rows: Any, mask: Any = None) -> np.ndarray:
    """Run a model of texts on rows of tokens of one length; return its first output."""
    ids = np.array(rows, dtype=np.int64)
    mask = np.ones_like(ids) if mask is None else np.array(mask, dtype=np.int64)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """Return the weights of a folder."""
    return load_file(folder / "model.safetensors")
