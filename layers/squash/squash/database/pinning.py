"""How an index fits the encoder that it is created for."""

from __future__ import annotations

from squash.errors import InvalidArgumentError
from squash.model import EncoderPin, Metric
from squash.runtime.encoders import EncoderInfo


def pinned(
    info: EncoderInfo, *, dimension: int | None, metric: Metric | None, text_key: str | None
) -> tuple[EncoderPin, int, Metric]:
    """Return the pin of an encoder, and an index's dimension and metric.

    Parameters
    ----------
    info:
        The encoder.
    dimension, metric:
        What was asked for; None for the encoder's own.
    text_key:
        Where records keep their text; None if they don't, as without texts they cannot.

    Raises
    ------
    InvalidArgumentError
        If the encoder's vectors cannot be cut to this dimension, or compared by this metric.

    """
    config = info.config
    sizes = (config.dimension, *config.truncate_dimensions)
    if dimension is not None and dimension not in sizes:
        listed = " or ".join(map(str, sizes))
        raise InvalidArgumentError(
            f"encoder {info.label} makes vectors of {listed} dimensions, not {dimension}: take "
            f"{'one of these' if len(sizes) > 1 else 'that'}, or leave the dimension out",
            field="dimension",
        )
    # Of vectors of length one all three give the same order.
    if metric is not None and metric is not config.metric and not config.normalise:
        raise InvalidArgumentError(
            f"encoder {info.label} makes vectors to be compared by {config.metric}, not by "
            f"{metric}: leave the metric out",
            field="metric",
        )
    pin = EncoderPin(config.name, info.digest, text_key if config.text else None)
    return pin, dimension or config.dimension, metric or config.metric
