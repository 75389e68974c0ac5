"""CloudFormation's intrinsic functions, resolved as they would be in a deployed stack."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from squash.errors import InvalidArgumentError, SquashError
from squash.local.template.values import (
    ACCOUNT_ID,
    REGION,
    function_arn,
    state_machine_arn,
)

NO_VALUE: Final = object()
_PLACEHOLDER: Final = re.compile(r"\$\{(!?)([^}]*)\}")
_FUNCTIONS: Final = ("AWS::Serverless::Function", "AWS::Lambda::Function")
_STATE_MACHINE: Final = "AWS::Serverless::StateMachine"
_NAMES: Final = {
    **dict.fromkeys(_FUNCTIONS, "FunctionName"),
    _STATE_MACHINE: "Name",
    "AWS::S3::Bucket": "BucketName",
}

# Python's own takes 1_000, the digits of other scripts, and words for what is no number.
_NUMBER: Final = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")


class Resolver:
    """Resolves what is asked for, and nothing else: what is not run need not be understood.

    Parameters
    ----------
    document:
        The template.
    parameters:
        Values for its parameters, before their defaults.
    stack:
        The name of the stack that is played.

    Raises
    ------
    InvalidArgumentError
        If a parameter is unknown, has no value, or one that it does not allow.

    """

    def __init__(
        self, document: Mapping[str, Any], *, parameters: Mapping[str, str], stack: str
    ) -> None:
        self._resources: Mapping[str, Any] = document.get("Resources") or {}
        self._mappings: Mapping[str, Any] = document.get("Mappings") or {}
        self._conditions: Mapping[str, Any] = document.get("Conditions") or {}
        self._stack = stack
        self._pseudo: dict[str, Any] = {
            "AWS::AccountId": ACCOUNT_ID,
            "AWS::NoValue": NO_VALUE,
            "AWS::Partition": "aws",
            "AWS::Region": REGION,
            "AWS::StackName": stack,
            "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT_ID}:stack/{stack}/local",
            "AWS::URLSuffix": "amazonaws.com",
        }
        self.parameters = _parameters(document.get("Parameters") or {}, given=parameters)
        self._known: Mapping[str, Callable[[Any, str], Any]] = {
            "Ref": self._ref,
            "Condition": self.condition,
            "Fn::And": lambda parts, at: all(self.value(part, at) for part in parts),
            "Fn::Equals": self._equals,
            "Fn::FindInMap": self._find_in_map,
            "Fn::GetAtt": self._get_att,
            "Fn::If": self._if,
            "Fn::Join": self._join,
            "Fn::Not": lambda parts, at: not self.value(parts[0], at),
            "Fn::Or": lambda parts, at: any(self.value(part, at) for part in parts),
            "Fn::Select": self._select,
            "Fn::Split": self._split,
            "Fn::Sub": self._sub,
        }

    def value(self, node: Any, at: str) -> Any:
        """Resolve a value and what lies in it; `at` is its place in the template, for errors."""
        if isinstance(node, list):
            values = [self.value(part, f"{at}[{i}]") for i, part in enumerate(node)]
            return [value for value in values if value is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            if name in self._known:
                return self._asked(name, argument, f"{at}.{name}")
            if isinstance(name, str) and name.startswith("Fn::"):
                raise InvalidArgumentError(
                    f"{at}: the local cloud does not know {name}; it knows "
                    + ", ".join(sorted(self._known)),
                    field=at,
                )
        values_by_key = {key: self.value(part, f"{at}.{key}") for key, part in node.items()}
        return {key: value for key, value in values_by_key.items() if value is not NO_VALUE}

    def _asked(self, name: str, argument: Any, at: str) -> Any:
        try:
            return self._known[name](argument, at)
        except RecursionError:
            problem = "it leads to itself"
        except SquashError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            problem = f"{error}"
        raise InvalidArgumentError(
            f"{at}: this is not as CloudFormation takes it: {problem}", field=at
        )

    def condition(self, name: str, at: str) -> bool:
        """Resolve a condition by its name."""
        if name not in self._conditions:
            raise InvalidArgumentError(f"{at}: there is no condition {name}", field=at)
        return bool(self.value(self._conditions[name], f"Conditions.{name}"))

    def exists(self, resource: Mapping[str, Any], at: str) -> bool:
        """Say whether a resource's condition lets it be."""
        name = resource.get("Condition")
        return name is None or self.condition(name, f"{at}.Condition")

    def physical_name(self, logical_id: str) -> str:
        """Return what a resource is called once it is made: its own name, else one of the stack's.

        CloudFormation adds a random part to the latter; here there is none.
        """
        resource = self._resources[logical_id]
        at = f"Resources.{logical_id}.Properties"
        properties = resource.get("Properties") or {}
        kind = resource.get("Type", "")
        name_property = _NAMES.get(kind)
        if name_property in properties:
            value = self.value(properties[name_property], f"{at}.{name_property}")
            if value is not NO_VALUE:
                return str(value)
        name = f"{self._stack}-{logical_id}"
        return name.lower() if kind == "AWS::S3::Bucket" else name

    def _ref(self, name: str, at: str) -> Any:
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self.parameters:
            return self.parameters[name]
        if name in self._resources:
            physical = self.physical_name(name)
            # Of a state machine, unlike a function, it is the ARN.
            named = self._resources[name].get("Type") != _STATE_MACHINE
            return physical if named else state_machine_arn(physical)
        raise InvalidArgumentError(f"{at}: there is no parameter or resource {name}", field=at)

    def _get_att(self, argument: Any, at: str) -> Any:
        parts = argument.split(".", 1) if isinstance(argument, str) else argument
        logical_id, attribute = parts[0], ".".join(parts[1:])
        if logical_id not in self._resources:
            raise InvalidArgumentError(f"{at}: there is no resource {logical_id}", field=at)
        kind = self._resources[logical_id].get("Type", "")
        name = self.physical_name(logical_id)
        known = {"Arn": _arn(kind, name)}
        if kind == _STATE_MACHINE:
            known["Name"] = name
        if kind == "AWS::S3::Bucket":
            known |= {
                "DomainName": f"{name}.s3.amazonaws.com",
                "RegionalDomainName": f"{name}.s3.{REGION}.amazonaws.com",
            }
        if attribute not in known:
            raise InvalidArgumentError(
                f"{at}: the local cloud does not know {logical_id}.{attribute}, "
                f"but {', '.join(known)}",
                field=at,
            )
        return known[attribute]

    def _equals(self, parts: list[Any], at: str) -> bool:
        left, right = (self.value(part, at) for part in parts)
        return str(left) == str(right)

    def _if(self, parts: list[Any], at: str) -> Any:
        name, then, otherwise = parts
        return self.value(then if self.condition(name, at) else otherwise, at)

    def _find_in_map(self, parts: list[Any], at: str) -> Any:
        name, *keys = (self.value(part, at) for part in parts)
        found = self._mappings.get(name)
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if found is None:
            raise InvalidArgumentError(
                f"{at}: there is no {'.'.join(map(str, (name, *keys)))} among the mappings",
                field=at,
            )
        return found

    def _join(self, parts: list[Any], at: str) -> str:
        separator, values = parts
        return str(separator).join(map(str, self.value(values, at)))

    def _split(self, parts: list[Any], at: str) -> list[str]:
        separator, text = parts
        return str(self.value(text, at)).split(separator)

    def _select(self, parts: list[Any], at: str) -> Any:
        position, values = (self.value(part, at) for part in parts)
        if int(position) < 0:
            raise IndexError(f"{position} is no place in a list")
        return values[int(position)]

    def _sub(self, argument: Any, at: str) -> str:
        text, given = argument if isinstance(argument, list) else (argument, {})

        def replaced(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return "${" + name + "}"
            if name in given:
                return str(self.value(given[name], at))
            return str(self._get_att(name, at) if "." in name else self._ref(name, at))

        return _PLACEHOLDER.sub(replaced, text)


def _arn(kind: str, name: str) -> str:
    if kind in _FUNCTIONS:
        return function_arn(name)
    if kind == _STATE_MACHINE:
        return state_machine_arn(name)
    if kind == "AWS::S3::Bucket":
        return f"arn:aws:s3:::{name}"
    service = kind.split("::")[1].lower() if kind.count("::") >= 1 else "local"
    return f"arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{name}"


def _parameters(declared: Mapping[str, Any], *, given: Mapping[str, str]) -> dict[str, Any]:
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise InvalidArgumentError(
            f"the template has no parameter {unknown[0]}; it has "
            + (", ".join(sorted(declared)) or "none"),
            field=f"Parameters.{unknown[0]}",
        )
    values: dict[str, Any] = {}
    for name, facts in declared.items():
        at = f"Parameters.{name}"
        if name not in given and "Default" not in facts:
            raise InvalidArgumentError(
                f"the parameter {name} has no default: say --parameter {name}=VALUE", field=at
            )
        value = str(given.get(name, facts.get("Default")))
        if isinstance(facts.get("Default"), bool) and name not in given:
            value = _text(facts["Default"])
        if (problem := _problem(value, facts)) is not None:
            raise InvalidArgumentError(f"the parameter {name} is {value!r}, {problem}", field=at)
        lists = facts.get("Type") in {"CommaDelimitedList", "List<Number>"}
        values[name] = [part.strip() for part in value.split(",")] if lists else value
    return values


def _problem(value: str, facts: Mapping[str, Any]) -> str | None:
    """Say why CloudFormation would not take a parameter's value."""
    allowed = [_text(choice) for choice in facts.get("AllowedValues", [])]
    if allowed and value not in allowed:
        return f"which is not among {', '.join(allowed)}"
    pattern = facts.get("AllowedPattern")
    if pattern is not None and re.fullmatch(pattern, value) is None:
        return f"which is not of the pattern {pattern}"
    if facts.get("Type") == "Number":
        if _NUMBER.fullmatch(value) is None:
            return "which is no number"
        number = float(value)
        least, most = facts.get("MinValue", -math.inf), facts.get("MaxValue", math.inf)
        if not float(least) <= number <= float(most):
            return f"which is not from {least} to {most}"
    return None


def _text(value: Any) -> str:
    """Return a value as CloudFormation writes it: its booleans are `true` and `false`."""
    return str(value).lower() if isinstance(value, bool) else str(value)
