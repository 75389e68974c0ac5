"""BERT in plain NumPy and float64, straight from its weights: what an export must equal."""

import math
from collections.abc import Mapping

import numpy as np

_STEPS = 1_000  # a unit
_GRID = np.array([math.erf(place / _STEPS) for place in range(-7 * _STEPS, 7 * _STEPS + 1)])


def _erf(x: np.ndarray) -> np.ndarray:
    """Return erf within 1e-13: from the nearest point of a table, by Taylor's first three terms."""
    x = np.clip(x, -6.9, 6.9)
    place = np.rint(x * _STEPS)
    near, left = place / _STEPS, x - place / _STEPS
    slope = 2 / math.sqrt(math.pi) * np.exp(-(near**2))
    steps = left - near * left**2 + (4 * near**2 - 2) * left**3 / 6
    return _GRID[place.astype(np.int64) + 7 * _STEPS] + slope * steps


def last_hidden_state(
    ids: list[int],
    weights: Mapping[str, np.ndarray],
    *,
    layers: int,
    heads: int,
    eps: float,
    first_position: int = 0,
) -> np.ndarray:
    """Return float64 [t, d], the vectors of one text's tokens."""
    w = {name: values.astype(np.float64, copy=False) for name, values in weights.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        middle = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((middle**2).mean(axis=-1, keepdims=True) + eps)
        return middle / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    places = first_position + np.arange(len(ids))
    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][places]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for number in range(layers):
        layer = f"encoder.layer.{number}"
        q, k, v = (
            linear(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value")
        )
        mixed = np.empty_like(x)
        for head in range(heads):
            part = slice(head * x.shape[1] // heads, (head + 1) * x.shape[1] // heads)
            scores = q[:, part] @ k[:, part].T / math.sqrt(x.shape[1] // heads)
            shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed[:, part] = shares / shares.sum(axis=-1, keepdims=True) @ v[:, part]
        attended = linear(mixed, f"{layer}.attention.output.dense") + x
        x = norm(attended, f"{layer}.attention.output.LayerNorm")
        inner = linear(x, f"{layer}.intermediate.dense")
        inner = inner * 0.5 * (1 + _erf(inner / math.sqrt(2)))
        x = norm(linear(inner, f"{layer}.output.dense") + x, f"{layer}.output.LayerNorm")
    return x


def mean_vector(hidden: np.ndarray) -> np.ndarray:
    """Return the mean of tokens, of length one."""
    mean = hidden.mean(axis=0)
    return mean / np.linalg.norm(mean)
