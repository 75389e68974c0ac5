"""The envelopes in which functions call one another: small JSON around one container.

A request is ``{"v": 1, "kind", "body", "deadline_ms"}``, the body in base64; of an allocator, with
``place``, its place in the tree as ``[F, L, id, level]``, and ``allow_partial``; where it must make
no call twice because it is late, ``"may_hedge": false``. An answer is
``{"v": 1, "body", "spent"}``, to which the function's handler adds ``cold``, ``duration_ms`` and
``memory_mb``; an error that Squash knows comes back as ``{"v": 1, "error": {...}}``, since one that
is raised in a function looks to its caller like a crash.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias

from squash import errors
from squash.errors import (
    HTTP_STATUS,
    CommitUnknownError,
    DataError,
    InternalError,
    InvalidArgumentError,
    PartialAnswerError,
    SquashError,
    ThrottledError,
    TooLargeError,
    UnavailableError,
)
from squash.limits import ANSWER_BODY_BYTES_MAX, INTEGER_MAGNITUDE_MAX
from squash.planning.tree import NO_TREE, Node, Place, Tree
from squash.search.spending import Spent
from squash.values import dataclass

VERSION: Final = 1
Kind: TypeAlias = Literal["allocate", "process", "encode"]

_ERRORS: Final = {kind.__name__: kind for kind in HTTP_STATUS}
_PLACES: Final = ("index", "key", "field", "object_key")
_MB_PER_GB: Final = 1024.0
_MALFORMED: Final = (
    ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip


class RefusedEventError(InvalidArgumentError):
    """An event is of another version: another release's functions send it one another."""


class RefusedMessageError(DataError):
    """What functions tell one another is damaged, or another release's: nothing stored is."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a function is asked: a container, until when, in which place of a tree, and how."""

    kind: Kind
    body: bytes
    deadline_ms: int
    place: Place = NO_TREE
    allow_partial: bool = False
    may_hedge: bool = True


@dataclass(frozen=True, slots=True)
class Answered:
    """What a function answered, and what it spent: itself, and by calls of its own."""

    body: bytes
    spent: Spent = field(default_factory=Spent)


def pack_request(request: Request) -> bytes:
    """Return the payload of a call."""
    body = base64.b64encode(request.body).decode("ascii")
    # No character of base64 needs escaping: megabytes need not go through the JSON writer.
    head: dict[str, Any] = {
        "v": VERSION,
        "kind": request.kind,
        "deadline_ms": request.deadline_ms,
        "allow_partial": request.allow_partial,
    }
    if not request.may_hedge:
        head["may_hedge"] = False
    tree, node = request.place.tree, request.place.node
    if tree is not None:
        head["place"] = [tree.branching_factor, tree.depth, node.id, node.level]
    return f'{json.dumps(head)[:-1]}, "body": "{body}"}}'.encode("ascii")


def open_request(event: Mapping[str, Any], kind: Kind) -> Request:
    """Read the event that a function was invoked with.

    Raises
    ------
    InvalidArgumentError
        If it is not one, or not of this kind; `RefusedEventError` if it is of another version.

    """
    try:
        version, found, body = event["v"], event["kind"], event["body"]
        deadline_ms = event["deadline_ms"]
        timely = type(deadline_ms) is int and abs(deadline_ms) <= INTEGER_MAGNITUDE_MAX
        if version != VERSION or found != kind or not timely:
            raise ValueError(
                f"v {version!r:.40}, kind {found!r:.40}, deadline_ms {deadline_ms!r:.40}"
            )
        return Request(
            kind,
            base64.b64decode(body, validate=True),
            deadline_ms,
            _place(event.get("place")),
            event.get("allow_partial") is True,
            event.get("may_hedge") is not False,
        )
    except (*_MALFORMED, binascii.Error) as error:
        other = isinstance(event, Mapping) and event.get("v", VERSION) != VERSION
        raise (RefusedEventError if other else InvalidArgumentError)(
            f"this function takes events of version {VERSION} and kind {kind!r} ({error!s:.200}): "
            "deploy all functions from one release"
        ) from error


def _place(value: Any) -> Place:
    if value is None:
        return NO_TREE
    if not isinstance(value, list) or any(type(number) is not int for number in value):
        raise ValueError(f"place {value!r:.80}")
    factor, depth, node, level = value
    return Place(Tree(factor, depth), Node(node, level))


def answer_event(answered: Answered) -> dict[str, Any]:
    """Return the answer of a function, without what its handler adds.

    Raises
    ------
    TooLargeError
        If it is more than a call can carry back.

    """
    if len(answered.body) > ANSWER_BODY_BYTES_MAX:
        raise TooLargeError(
            f"an answer of {len(answered.body)} bytes is more than the {ANSWER_BODY_BYTES_MAX} "
            "that a call carries: lower top_k, leave metadata or vectors out of include, or send "
            "fewer queries at once"
        )
    return {
        "v": VERSION,
        "body": base64.b64encode(answered.body).decode("ascii"),
        "spent": answered.spent.to_json(),
    }


def error_event(error: SquashError, spent: Spent | None = None) -> dict[str, Any]:
    """Return what a function answers where it met an error that Squash knows."""
    kind = type(error).__name__ if type(error).__name__ in _ERRORS else InternalError.__name__
    if isinstance(error, RefusedEventError | RefusedMessageError):
        # Nobody's request is wrong, nor what is stored: while functions are deployed some are of
        # another release, and soon none is.
        kind = UnavailableError.__name__
    said: dict[str, Any] = {"type": kind, "message": str(error)}
    said |= {name: value for name in _PLACES if (value := getattr(error, name)) is not None}
    if isinstance(error, ThrottledError):
        said["retry_after_ms"] = error.retry_after_ms
    if isinstance(error, CommitUnknownError):
        said["commit_id"] = error.commit_id
    if isinstance(error, PartialAnswerError):
        said["missing"] = list(error.missing)
    return {"v": VERSION, "error": said, "spent": (spent or Spent()).to_json()}


def open_answer(payload: bytes) -> tuple[Answered | SquashError, Spent]:
    """Read a function's answer.

    Returns
    -------
    The answer, or the error in it; and what that call spent in all, its own invocation included.

    Raises
    ------
    InternalError
        If it is no answer of a function of this release.

    """
    try:
        event = json.loads(payload)
        if event["v"] != VERSION:
            raise ValueError(f"v is {event['v']!r:.40}")
        spent = Spent.from_json(event["spent"]) if "spent" in event else Spent()
        spent.invocations += 1
        spent.invocations_cold += bool(event.get("cold", False))
        gb = float(event.get("memory_mb", 0)) / _MB_PER_GB
        spent.gb_seconds += gb * float(event.get("duration_ms", 0.0)) / 1000.0
        if "error" in event:
            return read_error(event["error"]), spent
        return Answered(base64.b64decode(event["body"], validate=True), spent), spent
    except (*_MALFORMED, binascii.Error) as error:
        raise InternalError(
            f"a function answered what no function of this release does ({error!r:.200}): deploy "
            "all functions from one release"
        ) from error


def read_error(said: Mapping[str, Any]) -> SquashError:
    """Read the member `error` of what `error_event` gave."""
    message = str(said["message"])
    where = {name: str(said[name]) for name in _PLACES if name in said}
    match _ERRORS.get(str(said["type"])):
        case errors.ThrottledError:
            error: SquashError = ThrottledError(
                message, retry_after_ms=int(said["retry_after_ms"]), index=where.get("index")
            )
        case errors.CommitUnknownError:
            error = CommitUnknownError(
                message, commit_id=str(said["commit_id"]), index=where.get("index")
            )
        case errors.PartialAnswerError:
            error = PartialAnswerError(
                message, missing=tuple(map(str, said["missing"])), index=where.get("index")
            )
        case None:
            error = InternalError(f"{said['type']}: {message}")
        case kind:
            error = kind(message, **where)
    return error
