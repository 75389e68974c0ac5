"""Whether a caller may do what it asks for: by its key, or by the vector bucket's policy.

As in IAM within one account: what the policy denies is denied; else it is enough that the key, with
its scopes and patterns of names, allows it, or that the policy does. A key with a row filter reads
only, whatever a policy says. Who is refused learns nothing of whether a bucket or index is there,
unless its key reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from squash.api.access import Caller
from squash.api.routes import Scope
from squash.api.s3vectors.calls import Asked
from squash.api.s3vectors.kept import KeptPolicies
from squash.api.s3vectors.operations import OPERATIONS, SERVICE, Operation
from squash.api.s3vectors.policies import Policy, PolicyError, Verdict, parse_policy
from squash.api.s3vectors.problems import ServiceError
from squash.api.s3vectors.resources import Place
from squash.errors import DataError

ReadPolicy = Callable[[str], Policy | None]
"""Returns the policy of a vector bucket; None if it has none, or if there is no such bucket."""

CHANGES_POLICY: Final = frozenset(
    {
        "CreateVectorBucket",
        "DeleteVectorBucket",
        "PutVectorBucketPolicy",
        "DeleteVectorBucketPolicy",
    }
)
"""The operations after which a bucket's policy may be another."""

# Members with which an operation tells, or does, more than its own action allows.
_MORE: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "ListVectors": ("GetVectors", ("returnData", "returnMetadata")),
    "QueryVectors": ("GetVectors", ("filter", "queryTexts", "returnMetadata")),
    "CreateIndex": ("TagResource", ("tags",)),
    "CreateVectorBucket": ("TagResource", ("tags",)),
}


def authorize(asked: Asked, read_policy: ReadPolicy) -> bool:
    """Refuse what a caller may not do.

    Parameters
    ----------
    asked:
        A request whose members are checked.
    read_policy:
        Is called at most once.

    Returns
    -------
    Whether the bucket's policy allows it, and so on all that the resource holds, whichever names
    the caller's key has patterns of.

    Raises
    ------
    ServiceError
        An AccessDeniedException, naming the first action that is not allowed.
    DataError
        If the policy cannot be read, and the key alone would be enough.

    """
    actions = actions_of(asked.operation, asked.members)
    by_key = {action: _key_allows(OPERATIONS[action], asked) for action in actions}
    try:
        policy = _policy(asked, read_policy)
    except DataError:
        for action in actions:
            if not by_key[action]:
                raise _refusal(asked, action, denied=False) from None
        raise
    verdicts = {action: _verdict(policy, action, asked) for action in actions}
    for action, verdict in verdicts.items():
        if verdict is Verdict.DENY or not (by_key[action] or verdict is Verdict.ALLOW):
            # That a policy denies something tells that there is a bucket.
            denied = verdict is Verdict.DENY and by_key[action]
            raise _refusal(asked, action, denied=denied)
    return all(verdict is Verdict.ALLOW for verdict in verdicts.values())


def stored_policy(policies: KeptPolicies, bucket: str, place: Place) -> Policy | None:
    """Return the policy of a vector bucket; None if it has none, or if there is no such bucket.

    Raises
    ------
    DataError
        If it cannot be read: it allows nothing then, and may be what forbids the request.

    """
    text = policies.text(bucket)
    try:
        return None if text is None else parse_policy(text, place)
    except PolicyError as error:
        raise DataError(
            f"the policy of vector bucket {bucket!r} cannot be read ({error}): put another by "
            "Database.vector_buckets.change"
        ) from error


def actions_of(operation: Operation, members: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the actions that a request needs, by the names of operations."""
    more, names = _MORE.get(operation.name, ("", ()))
    # What is false or empty asks for nothing more, but for a filter: an empty one is one.
    if any(members.get(name) or (name == "filter" and name in members) for name in names):
        return operation.name, more
    return (operation.name,)


def user_arn(caller: Caller, place: Place) -> str:
    """Return the ARN of who asks, as policies name it."""
    return f"arn:{place.partition}:iam::{place.account}:user/{caller.name}"


def _policy(asked: Asked, read_policy: ReadPolicy) -> Policy | None:
    # A bucket that is being made has none, and that of another of its name is not asked.
    if asked.resource is None or asked.operation.name == "CreateVectorBucket":
        return None
    return read_policy(asked.resource.bucket)


def _key_allows(operation: Operation, asked: Asked) -> bool:
    caller, resource = asked.caller, asked.resource
    if operation.scope not in caller.scopes or not _may_ever(operation, caller):
        return False
    if resource is None:
        return True
    if resource.index:
        return caller.sees(resource.name)
    if operation.scope is Scope.READ:
        # A bucket is described to whoever may see something in it.
        return caller.sees_bucket(resource.bucket)
    return caller.sees_all_of(resource.bucket)


def _may_ever(operation: Operation, caller: Caller) -> bool:
    """Tell if anything could allow it: nobody may nothing, and who has a row filter only reads."""
    return bool(caller.name) and (caller.row_filter is None or operation.scope is Scope.READ)


def _verdict(policy: Policy | None, action: str, asked: Asked) -> Verdict:
    if policy is None or asked.resource is None:
        return Verdict.SILENT
    arn = asked.place.arn(asked.resource)
    found = policy.decide(user=asked.caller.name, action=action, resource=arn)
    if found is Verdict.ALLOW and not _may_ever(OPERATIONS[action], asked.caller):
        return Verdict.SILENT
    return found


def _refusal(asked: Asked, action: str, *, denied: bool) -> ServiceError:
    name = f"{SERVICE}:{action}"
    resource = "*" if asked.resource is None else asked.place.arn(asked.resource)
    reason = (
        "with an explicit deny in a resource-based policy"
        if denied
        else f"because no identity-based policy allows the {name} action"
    )
    return ServiceError(
        "AccessDeniedException",
        f"User: {user_arn(asked.caller, asked.place)} is not authorized to perform: {name} "
        f"on resource: {resource} {reason}",
    )
