"""Splitting payloads: what one call can carry, there and back."""

from __future__ import annotations

from collections.abc import Sequence

from squash.errors import TooLargeError
from squash.limits import ANSWER_BODY_BYTES_MAX, REQUEST_BODY_BYTES_MAX
from squash.values import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """Something that is sent whole: its bytes in the request, and at most in the answer."""

    request_bytes: int
    answer_bytes: int


def split_payload(
    parts: Sequence[Part],
    shared: Part,
    *,
    request_bytes_max: int = REQUEST_BODY_BYTES_MAX,
    answer_bytes_max: int = ANSWER_BODY_BYTES_MAX,
) -> list[range]:
    """Group parts into calls, each as full as its limits allow.

    Parameters
    ----------
    parts:
        In the order in which they are to be sent.
    shared:
        What every call carries besides.
    request_bytes_max, answer_bytes_max:
        What a call's body may hold, there and back.

    Returns
    -------
    Ranges of positions: none is empty, together they are all positions in their order.

    Raises
    ------
    TooLargeError
        If one part alone is more than a call can carry.

    """
    request_room = request_bytes_max - shared.request_bytes
    answer_room = answer_bytes_max - shared.answer_bytes
    groups: list[range] = []
    start = request = answer = 0
    for place, part in enumerate(parts):
        if part.request_bytes > request_room or part.answer_bytes > answer_room:
            raise _too_large(part, shared, (request_bytes_max, answer_bytes_max))
        request += part.request_bytes
        answer += part.answer_bytes
        if request > request_room or answer > answer_room:
            groups.append(range(start, place))
            start, request, answer = place, part.request_bytes, part.answer_bytes
    if parts:
        groups.append(range(start, len(parts)))
    return groups


def _too_large(part: Part, shared: Part, most: tuple[int, int]) -> TooLargeError:
    request_bytes = part.request_bytes + shared.request_bytes
    if request_bytes > most[0]:
        return TooLargeError(
            f"one query takes {request_bytes} bytes to send, with its filter, and a call holds "
            f"{most[0]}: shorten its filter"
        )
    return TooLargeError(
        f"one query's answer may take {part.answer_bytes + shared.answer_bytes} bytes, and a call "
        f"holds {most[1]}: lower top_k, or leave metadata or vectors out of include"
    )
