"""What the roles of the template may do, and what its bucket refuses, as patterns of keys."""

from __future__ import annotations

import re


def listed(value):
    return value if isinstance(value, list) else [value]


def resource_name(resource):
    """Say briefly what a statement is about; what is not known is returned as it is."""
    match resource:
        case {"Fn::Split": [",", {"Ref": name}]}:
            return f"each of {name}"
        case {"Fn::Split": [",", {"Fn::Sub": ["${Joined}/*", {"Joined": _}]}]}:
            return "all in each of BuildInputs"
        case {"Fn::GetAtt": [name, "Arn"]} | {"Ref": name}:
            return name
        case {"Fn::Sub": [text, {"Name": _}]} | {"Fn::Sub": text}:
            stored = re.fullmatch(
                r"arn:\$\{AWS::Partition\}:s3:::\$\{Name\}(/\$\{Prefix\}(/|-inputs/))?(.*)", text
            )
            if stored:
                beside = "beside: " if stored[2] == "-inputs/" else ""
                return f"{beside}{stored[3]}" if stored[1] else "bucket"
            called = re.fullmatch(
                r"arn:\$\{AWS::Partition\}:lambda:\$\{AWS::Region\}:\$\{AWS::AccountId\}:"
                r"function:\$\{AWS::StackName\}-(.+)",
                text,
            )
            named = re.fullmatch(
                r"arn:\$\{AWS::Partition\}:ssm:\$\{AWS::Region\}:\$\{AWS::AccountId\}:"
                r"parameter/\$\{AWS::StackName\}/(.+)",
                text,
            )
            states = re.fullmatch(
                r"arn:\$\{AWS::Partition\}:states:\$\{AWS::Region\}:\$\{AWS::AccountId\}:"
                r"(stateMachine|execution):\$\{AWS::StackName\}-(.+)",
                text,
            )
            if states:
                return f"{states[1]} {states[2]}"
            if named:
                return f"parameter {named[1]}"
            return f"function {called[1]}" if called else text
    return resource


def statements(document):
    """Walk the statements of a policy, conditional ones included."""
    for statement in listed(document["Statement"]):
        yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def allowed(template, role):
    """Return the pairs of action and resource that a role allows."""
    properties = template["Resources"][role]["Properties"]
    documents = [policy["PolicyDocument"] for policy in properties["Policies"]]
    for managed in properties["ManagedPolicyArns"]:
        name = managed["Fn::If"][1]["Ref"] if "Fn::If" in managed else managed["Ref"]
        documents.append(template["Resources"][name]["Properties"]["PolicyDocument"])
    found = set()
    for document in documents:
        for statement in statements(document):
            assert statement["Effect"] == "Allow"
            assert not {"NotAction", "NotResource"} & set(statement)
            for action in listed(statement["Action"]):
                for resource in listed(statement["Resource"]):
                    found.add((action, resource_name(resource)))
    return found


def written_once(template):
    """Return the patterns of keys that nobody may write without a condition."""
    policy = template["Resources"]["BucketPolicy"]["Properties"]["PolicyDocument"]
    (once,) = (one for one in policy["Statement"] if one["Sid"] == "CommitsAreWrittenOnce")
    return [one["Fn::Sub"].removeprefix("${Bucket.Arn}/${Prefix}/") for one in once["Resource"]]
