"""Policies of vector buckets: who may or must not do what, in the part of IAM's language held here.

A policy is read whole or not at all: an element that would be passed over might be the one that
forbids. What is read here is Version, Id and Statement, and of a statement Sid, Effect, Principal,
Action and Resource. Nothing of this module reads or writes anything but its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, TypeVar

from squash import strict_json
from squash.api.credentials import parse_access_key_id
from squash.api.members import shown
from squash.api.s3vectors.operations import OPERATIONS, SERVICE
from squash.api.s3vectors.resources import Place
from squash.limits import (
    KIB,
    POLICIES_KEPT_MAX,
    POLICY_BYTES_MAX,
    POLICY_PATTERN_CHARACTERS_MAX,
    POLICY_STATEMENTS_MAX,
)
from squash.values import dataclass

VERSIONS: Final = ("2012-10-17", "2008-10-17")
# What a bucket's policy can't decide: it is asked before there is one, or of no bucket at all.
_UNDECIDED: Final = ("CreateVectorBucket", "ListVectorBuckets")
ACTIONS: Final = {name.lower(): name for name in OPERATIONS if name not in _UNDECIDED}
"""The actions that a policy can name, by their names in lower case."""

_USER: Final = re.compile(r"[A-Za-z0-9_+=,.@/-]{1,512}")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_RESOURCE: Final = re.compile(
    rf"arn:aws[a-z-]*:{SERVICE}:(?P<region>[a-z0-9*?-]+):(?P<account>[0-9*?]+):"
    r"(?P<name>[a-z0-9.*?/-]+)"
)
_NAME_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789.-"
_INSTEAD: Final[Mapping[str, str]] = {
    "NotPrincipal": "name those it is for in Principal",
    "NotAction": "name the actions in Action, with * and ? as needed",
    "NotResource": "name the bucket or its indexes in Resource, with * and ? as needed",
    "Condition": "leave it out, and allow or deny by Principal, Action and Resource alone",
    "Service": 'no service calls here: name keys under "AWS"',
    "Federated": 'nobody is federated here: name keys under "AWS"',
    "CanonicalUser": 'there are no canonical users here: name keys under "AWS"',
}
_EFFECTS: Final = ("Allow", "Deny")
_TOP: Final = frozenset({"Version", "Id", "Statement"})
_OF_STATEMENT: Final = frozenset({"Sid", "Effect", "Principal", "Action", "Resource"})

T = TypeVar("T")


class PolicyError(ValueError):
    """A policy that cannot be read; the message names the element and its place."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.place = place


class Verdict(StrEnum):
    """What a policy says of one action by one caller."""

    ALLOW = "allow"
    DENY = "deny"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; `users` is None where it is for all of the account."""

    allows: bool
    users: frozenset[str] | None
    actions: frozenset[str]
    resources: tuple[re.Pattern[str], ...]

    def covers(self, user: str, action: str, resource: str) -> bool:
        """Tell if it is about this."""
        return (
            action in self.actions
            and (self.users is None or user in self.users)
            and any(pattern.fullmatch(resource) for pattern in self.resources)
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, read."""

    statements: tuple[Statement, ...]

    def decide(self, *, user: str, action: str, resource: str) -> Verdict:
        """Say what it says of an action; one statement that denies outweighs all others.

        Parameters
        ----------
        user:
            The caller's name, as it stands after "user/" in its ARN.
        action:
            An operation's name.
        resource:
            The ARN of a vector bucket or an index.

        """
        found = {
            statement.allows
            for statement in self.statements
            if statement.covers(user, action, resource)
        }
        if False in found:
            return Verdict.DENY
        return Verdict.ALLOW if found else Verdict.SILENT


@lru_cache(maxsize=POLICIES_KEPT_MAX)
def parse_policy(text: str, place: Place) -> Policy:
    """Read a policy.

    Parameters
    ----------
    text:
        JSON.
    place:
        Whose account and partition principals must be of.

    Raises
    ------
    PolicyError
        If it is not wholly in the language that is held here.

    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise PolicyError("", "it holds half a character, which is no text") from error
    if size > POLICY_BYTES_MAX:
        raise PolicyError(
            "", f"it has {size} bytes, and may have {POLICY_BYTES_MAX // KIB} KiB: shorten it"
        )
    try:
        document = strict_json.loads(text)
    except strict_json.JsonError as error:
        raise PolicyError(error.place or "", f"it is not JSON: {error}") from error
    found = _object(document, "", allowed=_TOP, required=("Statement",))
    if "Version" in found and found["Version"] not in VERSIONS:
        raise PolicyError("Version", f"write {' or '.join(VERSIONS)}")
    if "Id" in found:
        _text(found["Id"], "Id")
    return Policy(_statements(found["Statement"], place))


def glob(pattern: str) -> re.Pattern[str]:
    """Return the expression that matches what a pattern does, in linear time a star.

    Parameters
    ----------
    pattern:
        "*" stands for any number of characters, "?" for one.

    """
    first, *rest = [
        "".join("." if one == "?" else re.escape(one) for one in part)
        for part in re.split(r"\*+", pattern)
    ]
    if not rest:
        return re.compile(first, re.DOTALL)
    # What a star took up to the first place where the next part fits is never tried again: only
    # the last star need reach further.
    middle = "".join(f"(?>.*?{part})" for part in rest[:-1])
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


def _statements(given: Any, place: Place) -> tuple[Statement, ...]:
    if isinstance(given, Mapping):
        return (_statement(given, "Statement", place),)
    if not isinstance(given, list) or not given:
        raise PolicyError("Statement", "write one statement, or a list of at least one")
    if len(given) > POLICY_STATEMENTS_MAX:
        raise PolicyError("Statement", f"write at most {POLICY_STATEMENTS_MAX} statements")
    made = tuple(_statement(one, f"Statement[{i}]", place) for i, one in enumerate(given))
    names: set[str] = set()
    for i, one in enumerate(given):
        name = one.get("Sid", "")
        if name and name in names:
            raise PolicyError(f"Statement[{i}].Sid", "another statement has it: each needs its own")
        names.add(name)
    return made


def _statement(given: Any, at: str, place: Place) -> Statement:
    found = _object(
        given,
        at,
        allowed=_OF_STATEMENT,
        required=("Effect", "Principal", "Action", "Resource"),
    )
    if "Sid" in found:
        _text(found["Sid"], f"{at}.Sid")
    if found["Effect"] not in _EFFECTS:
        raise PolicyError(f"{at}.Effect", "write Allow or Deny")
    return Statement(
        allows=found["Effect"] == "Allow",
        users=_users(found["Principal"], f"{at}.Principal", place),
        actions=frozenset().union(*_each(found["Action"], f"{at}.Action", _actions)),
        resources=tuple(_each(found["Resource"], f"{at}.Resource", _resource)),
    )


def _users(given: Any, at: str, place: Place) -> frozenset[str] | None:
    """Return the names of the callers meant, None for all of the account."""
    if given == "*":
        return None
    if not isinstance(given, Mapping) or not given:
        raise PolicyError(at, f'write "*" or {{"AWS": ...}} with {_principal(place)}')
    found = _object(given, at, allowed=frozenset({"AWS"}), required=("AWS",))
    users = _each(found["AWS"], f"{at}.AWS", lambda text, here: _user(text, here, place))
    return None if None in users else frozenset(user for user in users if user is not None)


def _principal(place: Place) -> str:
    """Say what names callers."""
    return (
        '"*" or an account\'s 12 digits for all keys, or '
        f"arn:{place.partition}:iam::ACCOUNT:user/KEY-ID for one"
    )


def _user(text: str, at: str, place: Place) -> str | None:
    if text == "*":
        return None
    account, name = text, "root"
    if _ACCOUNT.fullmatch(text) is None:
        # Not by one expression, so that what is wrong can be said.
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[:4] != ["arn", place.partition, "iam", ""]:  # noqa: PLR2004
            what = "no role is assumed here" if ":sts:" in text else "it names nobody here"
            raise PolicyError(at, f"{what}: write {_principal(place)}")
        account, name = parts[4:]
    if account != place.account:
        raise PolicyError(
            at, f"keys are of account {place.account} alone: write {_principal(place)}"
        )
    if name == "root":
        return None
    kind, _, user = name.partition("/")
    if kind != "user" or "*" in user or "?" in user or _USER.fullmatch(user) is None:
        what = f"there are no {kind}s here" if kind in {"role", "group"} else "it is no user's ARN"
        raise PolicyError(at, f"{what}, and no patterns of names: write {_principal(place)}")
    key_id = parse_access_key_id(user)
    if key_id is not None:
        # It would match nobody, and whom it is to keep out would come in.
        raise PolicyError(at, f"it names an access key, not its user: write user/{key_id}")
    return user


def _actions(text: str, at: str) -> frozenset[str]:
    """Return the operations that a name or pattern means; case does not count, as in IAM."""
    service, _, pattern = text.lower().partition(":")
    if text != "*" and (service != SERVICE or not pattern):
        raise PolicyError(at, f"{shown(text)} is no action of {SERVICE}: write {SERVICE}:NAME")
    if pattern in {name.lower() for name in _UNDECIDED}:
        raise PolicyError(
            at, f"{shown(text)} is not decided by a bucket's policy: give keys what they need"
        )
    matches = glob(pattern or "*").fullmatch
    found = frozenset(name for lower, name in ACTIONS.items() if matches(lower))
    if not found:
        raise PolicyError(at, f"there is no action {shown(text)}: see the operations of {SERVICE}")
    return found


def _resource(text: str, at: str) -> re.Pattern[str]:
    """Return what matches the ARNs meant.

    One of another bucket, region or account is taken, as the service takes it: it matches nothing.
    """
    if text == "*":
        return glob("*")
    found = _RESOURCE.fullmatch(text)
    if found is None or not _can_name(found["name"]):
        raise PolicyError(
            at,
            f"{shown(text)} can match no vector bucket or index: write "
            f"arn:aws:{SERVICE}:REGION:ACCOUNT:bucket/BUCKET or .../bucket/BUCKET/index/INDEX, "
            "with * and ? as needed",
        )
    # A star ends where its part of the ARN does, as in IAM: both have the same number of colons.
    return glob(text)


def _can_name(pattern: str) -> bool:
    """Tell if a pattern of * and ? matches ``bucket/NAME`` or ``bucket/NAME/index/NAME`` at all.

    All the places that one may have come to in such a name are followed along the pattern. A place
    is a count of the characters below, of which the last of each kind of name repeats.
    """
    shape = (*"bucket/", _NAME_CHARACTERS, *"/index/", _NAME_CHARACTERS)
    ends = {i + 1 for i, one in enumerate(shape) if one is _NAME_CHARACTERS}

    def after(places: set[int], character: str | None) -> set[int]:
        steps = {at for at in places if at < len(shape)}
        moved = {at + 1 for at in steps if character is None or character in shape[at]}
        again = {at for at in places & ends if character is None or character in _NAME_CHARACTERS}
        return moved | again

    places = {0}
    for character in pattern:
        if character == "*":
            places = set(range(min(places, default=len(shape) + 1), len(shape) + 1))
        else:
            places = after(places, None if character == "?" else character)
    return bool(places & ends)


def _each(given: Any, at: str, read: Callable[[str, str], T]) -> list[T]:
    """Read a string, or a list of at least one."""
    if isinstance(given, str):
        return [read(_pattern(given, at), at)]
    if not isinstance(given, list) or not given:
        raise PolicyError(at, "write a string, or a list of at least one")
    return [read(_pattern(one, f"{at}[{i}]"), f"{at}[{i}]") for i, one in enumerate(given)]


def _pattern(given: Any, at: str) -> str:
    text = _text(given, at)
    if len(text) > POLICY_PATTERN_CHARACTERS_MAX:
        raise PolicyError(at, f"write at most {POLICY_PATTERN_CHARACTERS_MAX} characters")
    return text


def _text(given: Any, at: str) -> str:
    if not isinstance(given, str):
        raise PolicyError(at, "write a string")
    return given


def _object(
    given: Any, at: str, *, allowed: frozenset[str], required: tuple[str, ...]
) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise PolicyError(at, "write an object")
    for name in given:
        if name not in allowed:
            instead = _INSTEAD.get(name, f"write {', '.join(sorted(allowed))} alone")
            raise PolicyError(
                f"{at}.{shown(name)}" if at else shown(name), f"it is not held here: {instead}"
            )
    for name in required:
        if name not in given:
            raise PolicyError(f"{at}.{name}" if at else name, "it is missing")
    return given
