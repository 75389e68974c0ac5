"""Encoding by the encoder function: inputs divided into calls, and what they answer joined."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

import numpy as np

from squash.encoders.encoded import Encoded
from squash.encoders.inputs import check_image, check_text
from squash.errors import (
    PartialAnswerError,
    SquashError,
    UnavailableError,
)
from squash.limits import (
    ENCODE_CALL_TOKENS,
    ENCODE_CALLS_AT_ONCE_MAX,
    ENCODE_IMAGE_TOKENS,
    QUERY_TIMEOUT_MS,
)
from squash.model import EncoderPin, Inputs, Modality, Purpose
from squash.runtime.encode_messages import (
    REQUEST_INPUT_BYTES_MAX,
    answer_rows_max,
    input_bytes,
    read_encoded,
    write_request,
)
from squash.runtime.encoding import EncodedFor, Told
from squash.search.calls import Batch, Call, Caller, Calling, CallPolicy
from squash.values import dataclass

# A cold container fetches its model first: a second call beside it would only do so too.
POLICY: Final = CallPolicy(hedge_factor=4.0, hedge_floor_ms=4_000, hedge_blind_ms=12_000)

# Of text in most languages a token has three bytes or more; special tokens stand at both ends.
_BYTES_PER_TOKEN: Final = 3
_TOKENS_AROUND: Final = 2
_WORDS: Final = {Modality.TEXT: "texts", Modality.IMAGE: "images"}
_PLACE: Final = re.compile(r"(?P<word>texts|images)\[(?P<place>\d+)\]")


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call of the encoder function may hold.

    Parameters
    ----------
    tokens:
        By an estimate; an input of more is a call of its own.
    bytes:
        Of a request's inputs.
    calls_at_once:
        That one call of `RemoteEncoding.encode` has under way.

    """

    tokens: int = ENCODE_CALL_TOKENS
    bytes: int = REQUEST_INPUT_BYTES_MAX
    calls_at_once: int = ENCODE_CALLS_AT_ONCE_MAX


class RemoteEncoding:
    """Has the encoder function encode; an `Encoding`. Threads may share it.

    Parameters
    ----------
    calling:
        Makes the calls: one that failed again, one that was throttled after a while.
    limits:
        By what inputs are divided.

    """

    def __init__(self, calling: Calling, limits: CallLimits | None = None) -> None:
        self._calling = calling
        self._limits = limits or CallLimits()

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

        Without a deadline, it takes at most `QUERY_TIMEOUT_MS`.
        """
        data = [_bytes_of(inputs, i) for i in range(len(inputs))]
        if deadline_ms is None:
            deadline_ms = self._calling.clock.now_ms() + QUERY_TIMEOUT_MS
        caller = self._calling.caller(deadline_ms)
        waiting: deque[tuple[int, int, Batch]] = deque()
        joined = _Joined(dimension)
        for begin, end in divide(data, inputs.modality, dimension, self._limits):
            if len(waiting) == self._limits.calls_at_once:
                self._gather(caller, waiting, joined, told)
            body = write_request(
                pin, inputs.modality, data[begin:end], purpose=purpose, dimension=dimension
            )
            call = Call("encoder", body, f"{_WORDS[inputs.modality]}[{begin}:{end}]")
            waiting.append((begin, end, caller.launch([call])))
        while waiting:
            self._gather(caller, waiting, joined, told)
        return EncodedFor(joined.encoded(), caller.total())

    def _gather(
        self,
        caller: Caller,
        waiting: deque[tuple[int, int, Batch]],
        joined: _Joined,
        told: Told | None,
    ) -> None:
        """Take in the first of the calls under way."""
        begin, end, batch = waiting.popleft()
        try:
            (body,) = caller.gather(batch)
        except PartialAnswerError as error:
            raise UnavailableError(
                f"the encoder function failed twice, or did not answer in time ({_cause(error)}): "
                "repeat the call, or send fewer texts at once"
            ) from error
        except SquashError as error:
            _raise_moved(error, begin)
        if body is None:
            raise UnavailableError("the encoder function did not answer: repeat the call")
        joined.add(read_encoded(body, end - begin, joined.dimension), begin)
        if told is not None:
            told(end)


class _Joined:
    """Answers of several calls, in order, as that of one."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._parts: list[Encoded] = []
        self._truncated: list[int] = []
        self._chunked: list[int] = []

    def add(self, part: Encoded, begin: int) -> None:
        self._parts.append(part)
        self._truncated += (begin + place for place in part.truncated)
        self._chunked += (begin + place for place in part.chunked)

    def encoded(self) -> Encoded:
        """Return all; the vectors are the caller's own, aligned and writable."""
        vectors = np.zeros((0, self.dimension), dtype=np.float32)
        if self._parts:
            vectors = np.concatenate([part.vectors for part in self._parts]).astype(np.float32)
        return Encoded(
            vectors,
            sum(part.tokens for part in self._parts),
            tuple(self._truncated),
            tuple(self._chunked),
        )


def divide(
    data: Sequence[bytes], modality: Modality, dimension: int, limits: CallLimits
) -> Iterator[tuple[int, int]]:
    """Divide inputs into calls: by tokens as far as bytes tell them, and by what a call carries.

    Yields
    ------
    The first of each call, and the one after its last; every input is in one.

    """
    rows_max = answer_rows_max(dimension)
    begin, tokens, size = 0, 0, 0
    for i, one in enumerate(data):
        more, longer = _tokens_about(one, modality), input_bytes(one)
        full = tokens + more > limits.tokens or size + longer > limits.bytes
        if i > begin and (full or i - begin == rows_max):
            yield begin, i
            begin, tokens, size = i, 0, 0
        tokens, size = tokens + more, size + longer
    if begin < len(data):
        yield begin, len(data)


def _tokens_about(data: bytes, modality: Modality) -> int:
    if modality is Modality.IMAGE:
        return ENCODE_IMAGE_TOKENS
    return len(data) // _BYTES_PER_TOKEN + _TOKENS_AROUND


def _bytes_of(inputs: Inputs, i: int) -> bytes:
    """Return an input as it is sent, if it can be one."""
    place, one = f"{_WORDS[inputs.modality]}[{i}]", inputs.items[i]
    (check_text if inputs.modality is Modality.TEXT else check_image)(one, place)
    return one.encode() if isinstance(one, str) else one


def _raise_moved(error: SquashError, begin: int) -> NoReturn:
    """Raise what a call answered, its places being those of the whole."""

    def moved(found: re.Match[str]) -> str:
        return f"{found['word']}[{int(found['place']) + begin}]"

    if begin and error.field is not None and _PLACE.match(error.field):
        error.field = _PLACE.sub(moved, error.field, count=1)
        error.args = (_PLACE.sub(moved, str(error)), *error.args[1:])
    raise error


def _cause(error: PartialAnswerError) -> str:
    return str(error.__cause__ or error)
