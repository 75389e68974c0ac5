"""Bucket policies: what is read, and that all else is refused with its place."""

import json

import botocore.session
import pytest

from squash.api.s3vectors.operations import OPERATIONS
from squash.api.s3vectors.policies import ACTIONS, PolicyError, Verdict, parse_policy
from squash.api.s3vectors.resources import Place, Resource
from squash.limits import POLICY_BYTES_MAX, POLICY_PATTERN_CHARACTERS_MAX, POLICY_STATEMENTS_MAX

PLACE = Place()
ACCOUNT = PLACE.account
ARN = f"arn:aws:s3vectors:us-east-1:{ACCOUNT}:bucket/media"
USER = f"arn:aws:iam::{ACCOUNT}:user/0123456789abcdef"
STATEMENT = {
    "Effect": "Allow",
    "Principal": {"AWS": USER},
    "Action": "s3vectors:QueryVectors",
    "Resource": f"{ARN}/index/papers",
}


def policy(*statements, **more):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)} | more)


def changed(**members):
    return policy(STATEMENT | members)


def decide(text, action="QueryVectors", resource=f"{ARN}/index/papers", user="0123456789abcdef"):
    return parse_policy(text, PLACE).decide(user=user, action=action, resource=resource)


def without(name):
    return policy({key: value for key, value in STATEMENT.items() if key != name})


REFUSED = {
    # What is not held here, each with its place.
    "condition": (changed(Condition={}), "Statement[0].Condition"),
    "not principal": (changed(NotPrincipal="*"), "Statement[0].NotPrincipal"),
    "not action": (changed(NotAction="s3vectors:*"), "Statement[0].NotAction"),
    "not resource": (changed(NotResource="*"), "Statement[0].NotResource"),
    "unknown element": (changed(Priority=1), "Statement[0].Priority"),
    "element in another case": (changed(effect="Deny"), "Statement[0].effect"),
    "unknown element on top": (policy(STATEMENT, Comment="x"), "Comment"),
    "second statement": (
        policy(STATEMENT, STATEMENT | {"Condition": {}}),
        "Statement[1].Condition",
    ),
    "lone statement": (json.dumps({"Statement": STATEMENT | {"Condition": {}}}), "Statement.Cond"),
    # Principals.
    "service": (changed(Principal={"Service": "lambda.amazonaws.com"}), "Principal.Service"),
    "federated": (changed(Principal={"AWS": "*", "Federated": "x"}), "Principal.Federated"),
    "canonical user": (changed(Principal={"CanonicalUser": "79a5"}), "Principal.CanonicalUser"),
    "role": (changed(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:role/a"}), "Principal.AWS"),
    "group": (changed(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:group/a"}), "Principal.AWS"),
    "assumed role": (
        changed(Principal={"AWS": ["*", f"arn:aws:sts::{ACCOUNT}:assumed-role/a/b"]}),
        "Principal.AWS[1]",
    ),
    "other account": (changed(Principal={"AWS": "111122223333"}), "Principal.AWS"),
    "other account's root": (
        changed(Principal={"AWS": "arn:aws:iam::111122223333:root"}),
        "Principal.AWS",
    ),
    "pattern of users": (changed(Principal={"AWS": f"{USER}*"}), "Principal.AWS"),
    "access key": (
        changed(Principal={"AWS": USER.replace("0123456789abcdef", "SQKA0123456789ABCDEF")}),
        "Statement[0].Principal.AWS",
    ),
    "no user": (changed(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:user/"}), "Principal.AWS"),
    "name alone": (changed(Principal={"AWS": "0123456789abcdef"}), "Principal.AWS"),
    "principal is text": (changed(Principal=USER), "Statement[0].Principal"),
    "principal is a list": (changed(Principal=["*"]), "Statement[0].Principal"),
    "principal is empty": (changed(Principal={}), "Statement[0].Principal"),
    "no principals": (changed(Principal={"AWS": []}), "Principal.AWS"),
    "principal is a number": (changed(Principal={"AWS": 1}), "Principal.AWS"),
    # Actions.
    "unknown action": (changed(Action="s3vectors:QueryVector"), "Statement[0].Action"),
    "pattern of no action": (changed(Action=["s3vectors:*", "s3vectors:Zap*"]), "Action[1]"),
    "other service": (changed(Action="s3:GetObject"), "Statement[0].Action"),
    "service by pattern": (changed(Action="s3*:QueryVectors"), "Statement[0].Action"),
    "no name": (changed(Action="s3vectors:"), "Statement[0].Action"),
    "no service": (changed(Action="QueryVectors"), "Statement[0].Action"),
    "account's action": (changed(Action="s3vectors:ListVectorBuckets"), "Statement[0].Action"),
    "before there is one": (changed(Action="s3vectors:CreateVectorBucket"), "Statement[0].Action"),
    "no actions": (changed(Action=[]), "Statement[0].Action"),
    "action is null": (changed(Action=None), "Statement[0].Action"),
    "actions in a list in a list": (changed(Action=[["*"]]), "Statement[0].Action[0]"),
    # Resources.
    "no ARN": (changed(Resource="bucket/media"), "Statement[0].Resource"),
    "other service's": (changed(Resource="arn:aws:s3:::media"), "Statement[0].Resource"),
    "ARN in parts": (changed(Resource="arn:aws:s3vectors:*"), "Statement[0].Resource"),
    "no index": (changed(Resource=f"{ARN}/papers"), "Statement[0].Resource"),
    "beyond an index": (changed(Resource=f"{ARN}/index/papers/keys/*"), "Statement[0].Resource"),
    "variable": (changed(Resource=f"{ARN}/index/${{aws:username}}"), "Statement[0].Resource"),
    "no resources": (changed(Resource=[]), "Statement[0].Resource"),
    "long": (
        changed(Resource=[f"{ARN}/index/{'a' * POLICY_PATTERN_CHARACTERS_MAX}"]),
        "Statement[0].Resource[0]",
    ),
    # The rest.
    "effect": (changed(Effect="allow"), "Statement[0].Effect"),
    "effect is a list": (changed(Effect=["Allow"]), "Statement[0].Effect"),
    "no effect": (without("Effect"), "Statement[0].Effect"),
    "no principal": (without("Principal"), "Statement[0].Principal"),
    "no action": (without("Action"), "Statement[0].Action"),
    "no resource": (without("Resource"), "Statement[0].Resource"),
    "version": (policy(STATEMENT, Version="2012-10-18"), "Version"),
    "version is a list": (policy(STATEMENT, Version=["2012-10-17"]), "Version"),
    "id": (policy(STATEMENT, Id=7), "Id"),
    "sid": (changed(Sid=7), "Statement[0].Sid"),
    "sid twice": (policy(STATEMENT | {"Sid": "a"}, STATEMENT | {"Sid": "a"}), "Statement[1].Sid"),
    "no statement": ('{"Version": "2012-10-17"}', "Statement"),
    "no statements": (policy(), "Statement"),
    "statement is text": (policy("x"), "Statement[0]"),
    "statements are text": ('{"Statement": "x"}', "Statement"),
    "many statements": (policy(*[{}] * (POLICY_STATEMENTS_MAX + 1)), "Statement"),
    "member twice": ('{"Statement": [], "Statement": []}', "Statement"),
    "list": ("[]", ""),
    "nothing": ("", ""),
    "not JSON": ("{", ""),
    "not a number": ('{"Statement": NaN}', "Statement"),
    "deep": ("[" * 10_000, ""),
    "large": (policy(STATEMENT, Id="x" * POLICY_BYTES_MAX), ""),
    "large in bytes": (
        policy(STATEMENT)[:-1] + ',"Id":"' + "é" * (POLICY_BYTES_MAX // 2) + '"}',
        "",
    ),
    "half a character": ('{"Id": "\ud800"}', ""),
}


@pytest.mark.parametrize(("text", "at"), REFUSED.values(), ids=REFUSED)
def test_policy_refused(text, at):
    """What is not wholly understood is refused, and the place and what to write are told."""
    with pytest.raises(PolicyError) as found:
        parse_policy(text, PLACE)
    assert at in found.value.place if at else not found.value.place
    message = str(found.value)
    assert message.startswith(found.value.place)
    assert len(message) > len(found.value.place) + 10
    assert len(message) < 600


@pytest.mark.parametrize(
    "text",
    [
        policy(STATEMENT),
        json.dumps({"Statement": STATEMENT}),
        policy(STATEMENT, Version="2008-10-17", Id="mine"),
        changed(Principal="*"),
        changed(Principal={"AWS": "*"}),
        changed(Principal={"AWS": ACCOUNT}),
        changed(Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"}),
        changed(Principal={"AWS": [f"arn:aws:iam::{ACCOUNT}:user/other", USER]}),
        changed(Action="*"),
        changed(Action="s3vectors:*"),
        changed(Action="S3Vectors:queryvectors"),
        changed(Action=["s3vectors:PutVectors", "s3vectors:Q????Vectors"]),
        changed(Resource="*"),
        changed(Resource=f"{ARN}/*"),
        changed(Resource=f"{ARN}*"),
        changed(Resource=[ARN, f"{ARN}/index/pap*s"]),
        changed(Resource=f"arn:aws:s3vectors:*:{ACCOUNT}:*"),
        changed(Resource=f"arn:aws:s3vectors:us-east-?:{ACCOUNT}:bucket/med??/index/papers"),
        policy(STATEMENT | {"Sid": ""}, STATEMENT | {"Sid": ""}, STATEMENT | {"Sid": "a b"}),
    ],
)
def test_policy_allows(text):
    """Each way in which the language says that this user may query this index."""
    assert decide(text) is Verdict.ALLOW
    denied = text.replace('"Allow"', '"Deny"')
    assert decide(denied) is Verdict.DENY


@pytest.mark.parametrize(
    "asked",
    [
        {"action": "GetVectors"},
        {"user": "0123456789abcdee"},
        {"user": ""},
        {"user": "0123456789ABCDEF"},
        {"resource": f"{ARN}/index/paper"},
        {"resource": f"{ARN}/index/papers2"},
        {"resource": ARN},
        {"resource": f"{ARN}2/index/papers"},
        {"resource": f"arn:aws:s3vectors:us-east-2:{ACCOUNT}:bucket/media/index/papers"},
        {"resource": "arn:aws:s3vectors:us-east-1:111122223333:bucket/media/index/papers"},
    ],
)
def test_policy_silent(asked):
    """It says nothing of another user, action or resource."""
    assert decide(policy(STATEMENT), **asked) is Verdict.SILENT


def test_policy_service_example():
    """A resource of another bucket is taken, as the service takes it, and matches nothing."""
    other = f"arn:aws:s3vectors:aws-region:{ACCOUNT}:bucket/amzn-s3-demo-vector-bucket"
    text = changed(Resource=other, Action="s3vectors:*", Principal="*")
    assert decide(text) is Verdict.SILENT


@pytest.mark.parametrize("count", [1, 2, 3])
def test_policy_deny_wins(count):
    """One statement that denies outweighs all that allow, wherever it stands."""
    for at in range(count + 1):
        statements = [STATEMENT] * count
        statements.insert(at, STATEMENT | {"Effect": "Deny"})
        assert decide(policy(*statements)) is Verdict.DENY


def test_policy_actions():
    """A policy can name every operation but the two that no bucket's policy can decide."""
    assert set(ACTIONS.values()) == set(OPERATIONS) - {"CreateVectorBucket", "ListVectorBuckets"}
    for name in ACTIONS.values():
        assert decide(changed(Action=f"s3vectors:{name}"), action=name) is Verdict.ALLOW
    everything = changed(Action="s3vectors:*")
    assert all(decide(everything, action=name) is Verdict.ALLOW for name in ACTIONS.values())
    assert decide(everything, action="CreateVectorBucket") is Verdict.SILENT


def test_policy_largest():
    """A policy of exactly the largest size, and one of as many statements as may be, are read."""
    text = policy(STATEMENT, Id="")
    full = policy(STATEMENT, Id="x" * (POLICY_BYTES_MAX - len(text)))
    assert len(full) == POLICY_BYTES_MAX
    assert decide(full) is Verdict.ALLOW
    short = {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}
    assert decide(policy(*[short] * POLICY_STATEMENTS_MAX)) is Verdict.DENY


def test_policy_many_stars():
    """The patterns that take a backtracking matcher longest are matched at once."""
    slow = "a*" * 100 + "b"
    text = changed(Resource=[f"{ARN}/index/{slow}"[:POLICY_PATTERN_CHARACTERS_MAX]] * 40)
    assert decide(text, resource=f"{ARN}/index/{'a' * 63}") is Verdict.SILENT


def test_arns_are_of_the_part_of_aws_that_the_region_is_of():
    """Else what a policy denies by the ARNs that hold there would be allowed."""
    session = botocore.session.Session()
    for partition in session.get_available_partitions():
        for region in session.get_available_regions("s3", partition_name=partition):
            assert Place(region=region).partition == partition
    place = Place(region="us-gov-west-1", account="123456789012")
    arn = place.arn(Resource("media", "papers"))
    assert arn == "arn:aws-us-gov:s3vectors:us-gov-west-1:123456789012:bucket/media/index/papers"
    denied = {
        "Effect": "Deny",
        "Principal": {"AWS": "arn:aws-us-gov:iam::123456789012:user/key"},
        "Action": "s3vectors:*",
        "Resource": arn,
    }
    read = parse_policy(json.dumps({"Statement": denied}), place)
    assert read.decide(user="key", action="GetIndex", resource=arn) is Verdict.DENY
    denied["Principal"] = {"AWS": "arn:aws:iam::123456789012:user/key"}
    with pytest.raises(PolicyError, match="or arn:aws-us-gov:iam::ACCOUNT:user/KEY-ID for one"):
        parse_policy(json.dumps({"Statement": denied}), place)
