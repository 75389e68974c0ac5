"""Bucket policies against a plain evaluator of the language: no expressions, nothing prepared."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.api.access import Caller
from squash.api.routes import Scope
from squash.api.s3vectors.authorize import actions_of, authorize
from squash.api.s3vectors.calls import Asked
from squash.api.s3vectors.operations import OPERATIONS
from squash.api.s3vectors.policies import PolicyError, Verdict, glob, parse_policy
from squash.api.s3vectors.problems import ServiceError
from squash.api.s3vectors.resources import Place, Resource

PLACE = Place()
BUCKET = f"arn:aws:s3vectors:us-east-1:{PLACE.account}:bucket/"
BUCKETS = ["media", "med", "media2"]
INDEXES = ["", "papers", "pap", "papers2"]
USERS = ["aa", "ab", "a"]
ELSEWHERE = ["CreateVectorBucket", "ListVectorBuckets"]
DECIDED = sorted(set(OPERATIONS) - set(ELSEWHERE))
ROW_FILTER = {"team": "red"}


def matches(pattern, text):
    """Whether a pattern of * and ? matches a text, character by character."""
    reached = {0}
    for at in range(len(pattern) + 1):
        if at == len(pattern):
            return len(text) in reached
        if pattern[at] == "*":
            reached = set(range(min(reached), len(text) + 1)) if reached else set()
        else:
            fits = {i for i in reached if i < len(text) and pattern[at] in {"?", text[i]}}
            reached = {i + 1 for i in fits}
    raise AssertionError


def listed(value):
    return value if isinstance(value, list) else [value]


def is_meant(principal, user):
    if principal == "*":
        return True
    everyone = {"*", PLACE.account, f"arn:aws:iam::{PLACE.account}:root"}
    names = set(listed(principal["AWS"]))
    return bool(names & (everyone | {f"arn:aws:iam::{PLACE.account}:user/{user}"}))


def is_named(pattern, arn):
    """Resources part by part: a star ends where its part of the ARN does."""
    if pattern == "*":
        return True
    pairs = zip(pattern.split(":"), arn.split(":"), strict=True)
    return all(matches(one, part) for one, part in pairs)


def plain_verdict(document, user, action, arn):
    effects = [
        statement["Effect"]
        for statement in listed(document["Statement"])
        if is_meant(statement["Principal"], user)
        and any(
            matches(one.lower(), f"s3vectors:{action}".lower())
            for one in listed(statement["Action"])
        )
        and any(is_named(one, arn) for one in listed(statement["Resource"]))
    ]
    return "deny" if "Deny" in effects else "allow" if effects else "silent"


def one_or_more(values):
    return st.one_of(values, st.lists(values, min_size=1, max_size=3))


@st.composite
def weakened(draw, words):
    """A word of which some characters are taken out for wildcards."""
    word = draw(words)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(word)))
        to = draw(st.integers(at, len(word)))
        word = word[:at] + draw(st.sampled_from(["*", "?", "**", ""])) + word[to:]
    return word


ARNS = st.builds(
    lambda bucket, index: BUCKET + bucket + (f"/index/{index}" if index else ""),
    st.sampled_from(BUCKETS),
    st.sampled_from(INDEXES),
)
PATTERNS = st.one_of(
    st.just("*"),
    ARNS,
    st.builds(
        lambda region, name: f"arn:aws:s3vectors:{region}:{PLACE.account}:{name}",
        st.sampled_from(["us-east-1", "*", "us-*", "us-east-2", "u?-east-1"]),
        weakened(ARNS.map(lambda arn: arn.split(":")[-1])),
    ),
)
ACTION_PATTERNS = st.one_of(
    st.sampled_from(["*", "s3vectors:*", "S3VECTORS:get*"]),
    st.sampled_from(DECIDED).map("s3vectors:{}".format),
    weakened(st.sampled_from(DECIDED)).map("s3vectors:{}".format),
)
PRINCIPALS = st.one_of(
    st.just("*"),
    st.fixed_dictionaries(
        {
            "AWS": one_or_more(
                st.sampled_from(
                    [
                        "*",
                        PLACE.account,
                        f"arn:aws:iam::{PLACE.account}:root",
                        *(f"arn:aws:iam::{PLACE.account}:user/{name}" for name in USERS),
                        *(f"arn:aws:iam::{PLACE.account}:user/{name}" for name in USERS),
                    ]
                )
            )
        }
    ),
)
STATEMENTS = st.fixed_dictionaries(
    {
        "Effect": st.sampled_from(["Allow", "Allow", "Deny"]),
        "Principal": PRINCIPALS,
        "Action": one_or_more(ACTION_PATTERNS),
        "Resource": one_or_more(PATTERNS),
    }
)
DOCUMENTS = st.fixed_dictionaries(
    {"Statement": st.one_of(STATEMENTS, st.lists(STATEMENTS, min_size=1, max_size=4))},
    optional={"Version": st.sampled_from(["2012-10-17", "2008-10-17"]), "Id": st.text(max_size=3)},
)
KEYS = st.builds(
    Caller,
    st.sampled_from(USERS),
    st.frozensets(st.sampled_from(list(Scope))),
    st.lists(
        st.sampled_from(["*", "media/*", "media/papers", "media/pap*", "media", "med*", "med/*"]),
        max_size=2,
    ).map(tuple),
)
REQUESTS = st.tuples(
    st.sampled_from(sorted(OPERATIONS)),
    st.fixed_dictionaries(
        {},
        optional={
            "filter": st.sampled_from([{}, {"a": 1}]),
            "returnMetadata": st.booleans(),
            "returnData": st.booleans(),
            "tags": st.sampled_from([{}, {"a": "b"}]),
        },
    ),
    st.sampled_from(BUCKETS),
    st.sampled_from(INDEXES),
)


def parsed(document):
    """The policy; None if it names what there is none of, which is then shown to be so."""
    try:
        return parse_policy(json.dumps(document), PLACE)
    except PolicyError as error:
        statements = listed(document["Statement"])
        if ".Action" in error.place:
            named = [one for each in statements for one in listed(each["Action"])]
            assert any(
                one.lower() in {f"s3vectors:{name}".lower() for name in ELSEWHERE}
                or not any(matches(one.lower(), f"s3vectors:{name}".lower()) for name in DECIDED)
                for one in named
            )
        else:
            assert ".Resource" in error.place
        return None


def asked(caller, request):
    name, members, bucket, index = request
    on = OPERATIONS[name].on
    resource = None
    if on != "account":
        index = "" if on == "bucket" else index or ("papers" if on == "index" else "")
        resource = Resource(bucket, index)
    return Asked(OPERATIONS[name], members, caller, PLACE, resource)


def key_allows(one, action):
    """What a key allows by itself, from its scopes and patterns."""
    if OPERATIONS[action].scope not in one.caller.scopes:
        return False
    if one.resource is None:
        return True
    bucket, index = one.resource.bucket, one.resource.index
    inside = [pattern for pattern in one.caller.indexes if pattern == "*" or "/" in pattern]
    if index:
        return any(matches(pattern, f"{bucket}/{index}") for pattern in inside)
    if OPERATIONS[action].scope is Scope.READ:
        return any(pattern == "*" or pattern.split("/")[0] == bucket for pattern in inside)
    return any(pattern in {"*", f"{bucket}/*"} for pattern in inside)


def allowed(one, policy):
    try:
        authorize(one, lambda bucket: policy)
    except ServiceError as error:
        assert error.code == "AccessDeniedException"
        return False
    return True


@settings(max_examples=examples(600, least=25))
@given(
    pattern=weakened(st.text("ab", max_size=6)),
    text=st.text("ab:\n", max_size=8),
)
def test_glob(pattern, text):
    """A pattern matches what it matches character by character."""
    assert bool(glob(pattern).fullmatch(text)) == matches(pattern, text)


@settings(max_examples=examples(400, least=25))
@given(
    document=DOCUMENTS,
    user=st.sampled_from([*USERS, ""]),
    action=st.sampled_from(DECIDED),
    arn=ARNS,
)
def test_verdicts(document, user, action, arn):
    """A policy says of any action what the plain evaluator says."""
    policy = parsed(document)
    if policy is not None:
        found = policy.decide(user=user, action=action, resource=arn)
        assert found.value == plain_verdict(document, user, action, arn)


@settings(max_examples=examples(600, least=25))
@given(document=st.one_of(DOCUMENTS, st.none()), caller=KEYS, request=REQUESTS)
def test_decisions(document, caller, request):
    """A request passes if each action it needs is not denied, and is allowed by key or policy."""
    policy = parsed(document) if document is not None else None
    one = asked(caller, request)
    expected = by_policy = True
    for action in actions_of(one.operation, one.members):
        verdict = "silent"
        if policy and one.resource is not None and one.operation.name != "CreateVectorBucket":
            verdict = plain_verdict(document, caller.name, action, PLACE.arn(one.resource))
        expected &= verdict != "deny" and (verdict == "allow" or key_allows(one, action))
        by_policy &= verdict == "allow"
    assert allowed(one, policy) == expected
    if expected:
        assert authorize(one, lambda bucket: policy) == by_policy


@settings(max_examples=examples(300, least=25))
@given(document=DOCUMENTS, caller=KEYS, request=REQUESTS)
def test_row_filter_reads_only(document, caller, request):
    """Whatever a policy says, a key with a row filter does nothing but read, and nobody nothing."""
    policy = parsed(document)
    filtered = Caller(caller.name, caller.scopes, caller.indexes, ROW_FILTER)
    one = asked(filtered, request)
    if allowed(one, policy):
        assert one.operation.scope is Scope.READ
        assert allowed(asked(caller, request), policy)
    assert not allowed(asked(Caller("", caller.scopes, caller.indexes), request), policy)


@settings(max_examples=examples(300, least=25))
@given(document=DOCUMENTS, more=STATEMENTS, caller=KEYS, request=REQUESTS)
def test_denials_only_take(document, more, caller, request):
    """A statement that denies, added to a policy, lets nothing pass that did not before."""
    statements = listed(document["Statement"])
    before, after = (
        parsed({"Statement": each})
        for each in (statements, [*statements, more | {"Effect": "Deny"}])
    )
    one = asked(caller, request)
    if before and after and allowed(one, after):
        assert allowed(one, before)


@settings(max_examples=examples(300, least=25))
@given(
    document=DOCUMENTS,
    where=st.integers(0, 3),
    name=st.one_of(
        st.sampled_from(
            ["Condition", "NotAction", "NotPrincipal", "NotResource", "effect", "action", "Sid "]
        ),
        st.text(max_size=6),
    ),
    value=st.sampled_from([None, "*", {}, [], "Deny", {"Bool": {"aws:SecureTransport": "true"}}]),
)
def test_unknown_elements_refused(document, where, name, value):
    """An element that is not held, added anywhere, is refused: what reads it reads all or none."""
    known = {"Version", "Id", "Statement", "Sid", "Effect", "Principal", "Action", "Resource"}
    if name in known or parsed(document) is None:
        return
    statements = [dict(one) for one in listed(document["Statement"])]
    changed = document | {"Statement": statements}
    if where < len(statements):
        statements[where][name] = value
    else:
        changed[name] = value
    with pytest.raises(PolicyError, match="not held here"):
        parse_policy(json.dumps(changed), PLACE)


def test_verdict_words():
    """The verdicts' values are the plain evaluator's words."""
    assert {one.value for one in Verdict} == {"allow", "deny", "silent"}
