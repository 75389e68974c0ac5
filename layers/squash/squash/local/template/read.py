"""Reads a SAM template: what of it the local cloud runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from squash.errors import InvalidArgumentError
from squash.limits import (
    INTEGER_MAGNITUDE_MAX,
    LAMBDA_ASYNC_ATTEMPTS,
    LAMBDA_MEMORY_MB_DEFAULT,
    LAMBDA_MEMORY_MB_MAX,
    LAMBDA_MEMORY_MB_MIN,
    LAMBDA_TIMEOUT_S_DEFAULT,
    LAMBDA_TIMEOUT_S_MAX,
    LAMBDA_TMP_MB_DEFAULT,
    LAMBDA_TMP_MB_MAX,
)
from squash.local.template.intrinsics import NO_VALUE, Resolver
from squash.local.template.state_machines import definition_of
from squash.local.template.values import (
    Function,
    FunctionUrl,
    Route,
    Schedule,
    StateMachine,
    Template,
)
from squash.local.template.yaml_tags import load_yaml

# What reading a value as what it is not raises: a number as a mapping, a word as a number.
_FORMS: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError)
STACK_DEFAULT: Final = "squash"
_FUNCTION: Final = "AWS::Serverless::Function"
_LAYER: Final = "AWS::Serverless::LayerVersion"
_STATE_MACHINE: Final = "AWS::Serverless::StateMachine"
_BUCKET: Final = "AWS::S3::Bucket"
_HTTP_API: Final = "AWS::Serverless::HttpApi"
_ROUTE: Final = "AWS::ApiGatewayV2::Route"
_INTEGRATION: Final = "AWS::ApiGatewayV2::Integration"
_URL: Final = "AWS::Lambda::Url"
_RATE: Final = re.compile(r"rate\(([0-9]+) (minute|hour|day)s?\)")
_SECONDS: Final = {"minute": 60, "hour": 3600, "day": 86400}
# What a stack has beside what runs here, and what no one misses on one machine.
_SILENT: Final = (
    "AWS::ApiGatewayV2::", "AWS::CloudWatch::", "AWS::IAM::", "AWS::KMS::",
    "AWS::Lambda::Permission", "AWS::Logs::", "AWS::S3::BucketPolicy", "AWS::SNS::",
)  # fmt: skip


def read_template(
    path: Path, *, parameters: Mapping[str, str] | None = None, stack: str = STACK_DEFAULT
) -> Template:
    """Read a template and resolve its values.

    Parameters
    ----------
    path:
        A SAM template in YAML.
    parameters:
        Values for its parameters; the others take their defaults.
    stack:
        The name of the stack; what has no name of its own is called after it.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidArgumentError
        If something in it is not understood; `field` names the place.

    """
    document = load_yaml(path)
    _check_shape(document)
    try:
        return _read(document, path, parameters or {}, stack)
    except _FORMS as error:
        raise _no_form(str(path), error) from error


def _no_form(at: str, error: Exception) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{at}: a property has not the form that SAM gives it: {error}", field=at
    )


def _check_shape(document: Mapping[str, Any]) -> None:
    """Refuse what is no mapping of resources with mappings of properties."""

    def check(node: Any, at: str) -> Mapping[str, Any]:
        if not isinstance(node, dict):
            raise InvalidArgumentError(f"{at} is to be a mapping", field=at)
        return node

    for section in ("Conditions", "Globals", "Mappings", "Parameters", "Resources"):
        check(document.get(section) or {}, section)
    for name, resource in (document.get("Resources") or {}).items():
        at = f"Resources.{name}"
        properties = check(check(resource, at).get("Properties") or {}, f"{at}.Properties")
        if resource.get("Type") == _FUNCTION:
            at = f"{at}.Properties.Events"
            for event, told in check(properties.get("Events") or {}, at).items():
                check(told, f"{at}.{event}")
                check(told.get("Properties") or {}, f"{at}.{event}.Properties")


def _read(
    document: Mapping[str, Any], path: Path, parameters: Mapping[str, str], stack: str
) -> Template:
    resolver = Resolver(document, parameters=parameters, stack=stack)
    reader = _Reader(document, resolver)
    functions: dict[str, Function] = {}
    for function in reader.functions():
        at = f"Resources.{function.logical_id}.Properties.FunctionName"
        if function.name in functions:
            other = functions[function.name].logical_id
            raise InvalidArgumentError(
                f"{at} is {function.name!r}, which is that of {other}, too", field=at
            )
        functions[function.name] = function
    return Template(
        functions=functions,
        routes=(*reader.routes(), *reader.gateway_routes()),
        urls=tuple(reader.urls()),
        schedules=tuple(reader.schedules()),
        state_machines=tuple(reader.state_machines(path.parent)),
        buckets=tuple(resolver.physical_name(name) for name, _ in reader.of_type(_BUCKET)),
        parameters={name: str(value) for name, value in resolver.parameters.items()},
        left_out=reader.left_out(),
    )


class _Reader:
    """Walks the resources that exist, under the parameters given."""

    def __init__(self, document: Mapping[str, Any], resolver: Resolver) -> None:
        self._resolver = resolver
        self._globals: Mapping[str, Any] = (document.get("Globals") or {}).get("Function") or {}
        self._resources: dict[str, Any] = {
            name: resource
            for name, resource in (document.get("Resources") or {}).items()
            if resolver.exists(resource, f"Resources.{name}")
        }

    def of_type(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for name, resource in self._resources.items():
            if resource.get("Type") == kind:
                yield name, resource.get("Properties") or {}

    def left_out(self) -> tuple[str, ...]:
        run = {_FUNCTION, _LAYER, _STATE_MACHINE, _BUCKET, _HTTP_API, _URL}
        return tuple(
            f"{name} ({kind})"
            for name, resource in self._resources.items()
            if (kind := str(resource.get("Type"))) not in run and not kind.startswith(_SILENT)
        )

    def functions(self) -> Iterator[Function]:
        for logical_id, own in self.of_type(_FUNCTION):
            try:
                function = self._function(logical_id, _merged(self._globals, own))
            except _FORMS as error:
                at = f"Resources.{logical_id}.Properties"
                raise _no_form(at, error) from error
            yield function

    def _function(self, logical_id: str, properties: Mapping[str, Any]) -> Function:
        at = f"Resources.{logical_id}.Properties"

        def get(name: str, default: Any = None) -> Any:
            value = self._resolver.value(properties.get(name, default), f"{at}.{name}")
            return default if value is NO_VALUE else value

        def number(name: str, value: Any, lowest: int, highest: int) -> int:
            if not str(value).isdecimal() or not lowest <= int(value) <= highest:
                raise InvalidArgumentError(
                    f"{at}.{name} is {value!r}; Lambda takes {lowest:,} to {highest:,}",
                    field=f"{at}.{name}",
                )
            return int(value)

        runtime = str(get("Runtime", ""))
        if not runtime.startswith("python"):
            raise InvalidArgumentError(
                f"{at}.Runtime is {runtime!r}: the local cloud runs Python functions",
                field=f"{at}.Runtime",
            )
        variables = (get("Environment") or {}).get("Variables") or {}
        storage = (get("EphemeralStorage") or {}).get("Size", LAMBDA_TMP_MB_DEFAULT)
        reserved = get("ReservedConcurrentExecutions")
        retries = (get("EventInvokeConfig") or {}).get("MaximumRetryAttempts")
        if retries is None:
            retries = LAMBDA_ASYNC_ATTEMPTS - 1
        attempts = 1 + number("EventInvokeConfig", retries, 0, LAMBDA_ASYNC_ATTEMPTS - 1)
        if reserved is not None:
            reserved = number("ReservedConcurrentExecutions", reserved, 0, INTEGER_MAGNITUDE_MAX)
        tenancy = (get("TenancyConfig") or {}).get("TenantIsolationMode")
        return Function(
            logical_id=logical_id,
            name=self._resolver.physical_name(logical_id),
            handler=str(get("Handler", "app.handler")),
            memory_mb=number(
                "MemorySize",
                get("MemorySize", LAMBDA_MEMORY_MB_DEFAULT),
                LAMBDA_MEMORY_MB_MIN,
                LAMBDA_MEMORY_MB_MAX,
            ),
            timeout_s=number(
                "Timeout", get("Timeout", LAMBDA_TIMEOUT_S_DEFAULT), 1, LAMBDA_TIMEOUT_S_MAX
            ),
            tmp_mb=number("EphemeralStorage", storage, LAMBDA_TMP_MB_DEFAULT, LAMBDA_TMP_MB_MAX),
            reserved=reserved,
            per_tenant=tenancy == "PER_TENANT",
            async_attempts=attempts,
            json_logs=(get("LoggingConfig") or {}).get("LogFormat") == "JSON",
            environment={str(name): _as_text(value) for name, value in variables.items()},
            layers=tuple(self._layers(properties.get("Layers"), f"{at}.Layers")),
        )

    def _layers(self, node: Any, at: str) -> Iterator[str]:
        """Name the layers by their logical ids: their resolved ARNs lead nowhere here."""
        by_name = {self._resolver.physical_name(name): name for name, _ in self.of_type(_LAYER)}
        for layer in self._resolver.value(node or [], at):
            if layer not in by_name:
                raise InvalidArgumentError(
                    f"{at}: the layer {layer} is none of this template's: it cannot be run here",
                    field=at,
                )
            yield by_name[layer]

    def state_machines(self, folder: Path) -> Iterator[StateMachine]:
        """Walk the state machines; their files lie below `folder`."""
        for logical_id, properties in self.of_type(_STATE_MACHINE):
            at = f"Resources.{logical_id}.Properties"
            kind = self._resolver.value(properties.get("Type", "STANDARD"), f"{at}.Type")
            yield StateMachine(
                logical_id=logical_id,
                name=self._resolver.physical_name(logical_id),
                definition=definition_of(properties, self._resolver, folder=folder, at=at),
                kind="STANDARD" if kind is NO_VALUE else str(kind),
            )

    def _events(self) -> Iterator[tuple[str, str, Mapping[str, Any], str]]:
        """Walk the events: the function's name, the event's, the event, and its place."""
        for logical_id, own in self.of_type(_FUNCTION):
            function = self._resolver.physical_name(logical_id)
            for name, event in (own.get("Events") or {}).items():
                at = f"Resources.{logical_id}.Properties.Events.{name}"
                yield function, f"{logical_id}{name}", event, at

    def routes(self) -> Iterator[Route]:
        guarded = any(
            (properties.get("Auth") or {}).get("DefaultAuthorizer") is not None
            and self._resolver.value(
                properties["Auth"]["DefaultAuthorizer"], f"Resources.{name}.Properties.Auth"
            )
            == "AWS_IAM"
            for name, properties in self.of_type(_HTTP_API)
        )
        for function, _, event, at in self._events():
            if event.get("Type") == "HttpApi":
                properties = event.get("Properties") or {}
                own = (properties.get("Auth") or {}).get("Authorizer")
                authorizer = self._resolver.value(own, f"{at}.Auth")
                plain = authorizer is None or authorizer is NO_VALUE
                yield Route(
                    method=_method(self._resolver.value(properties.get("Method", "ANY"), at)),
                    path=str(self._resolver.value(properties.get("Path", "$default"), at)),
                    function=function,
                    iam=guarded if plain else authorizer == "AWS_IAM",
                )

    def gateway_routes(self) -> Iterator[Route]:
        """Walk the routes that are written out, beside those that functions have as events."""
        functions = {}
        for logical_id, properties in self.of_type(_INTEGRATION):
            at = f"Resources.{logical_id}.Properties.IntegrationUri"
            # An ARN, or API Gateway's own with the function's inside.
            arn = str(self._resolver.value(properties.get("IntegrationUri"), at))
            name = arn.removesuffix("/invocations").rpartition(":function:")[2]
            functions[f"integrations/{self._resolver.physical_name(logical_id)}"] = name
        for logical_id, own in self.of_type(_ROUTE):
            at = f"Resources.{logical_id}.Properties"
            names = ("RouteKey", "Target", "AuthorizationType")
            wanted = {name: own.get(name) for name in names}
            properties = self._resolver.value(wanted, at)
            if properties["Target"] not in functions:
                raise InvalidArgumentError(
                    f"{at}.Target is {properties['Target']!r}, which leads to no integration of "
                    "this template",
                    field=f"{at}.Target",
                )
            method, _, path = str(properties["RouteKey"]).rpartition(" ")
            yield Route(
                method=_method(method or "ANY"),
                path=path,
                function=functions[properties["Target"]],
                iam=properties["AuthorizationType"] == "AWS_IAM",
            )

    def urls(self) -> Iterator[FunctionUrl]:
        """Walk the functions' URLs: settings of theirs, and those that are written out."""
        for logical_id, own in self.of_type(_FUNCTION):
            settings = own.get("FunctionUrlConfig")
            if settings is not None:
                at = f"Resources.{logical_id}.Properties.FunctionUrlConfig.AuthType"
                authorizer = self._resolver.value(settings.get("AuthType"), at)
                yield FunctionUrl(self._resolver.physical_name(logical_id), authorizer == "AWS_IAM")
        for logical_id, properties in self.of_type(_URL):
            at = f"Resources.{logical_id}.Properties"
            arn = str(self._resolver.value(properties.get("TargetFunctionArn"), at))
            name = arn.rpartition(":")[2]
            if name not in map(self._resolver.physical_name, dict(self.of_type(_FUNCTION))):
                raise InvalidArgumentError(
                    f"{at}.TargetFunctionArn is {arn!r}, which is no function of this template",
                    field=f"{at}.TargetFunctionArn",
                )
            authorizer = self._resolver.value(properties.get("AuthType"), at)
            yield FunctionUrl(name, authorizer == "AWS_IAM")

    def schedules(self) -> Iterator[Schedule]:
        for function, name, event, at in self._events():
            if event.get("Type") in {"Schedule", "ScheduleV2"}:
                properties = self._resolver.value(event.get("Properties") or {}, at)
                if str(properties.get("State", "ENABLED")) == "DISABLED" or (
                    str(properties.get("Enabled", "true")).lower() == "false"
                ):
                    continue
                expression = str(
                    properties.get("Schedule", properties.get("ScheduleExpression", ""))
                )
                rate = _RATE.fullmatch(expression)
                if rate and not int(rate[1]):
                    raise InvalidArgumentError(
                        f"{at} has {expression}, which would run without end: it is from 1",
                        field=at,
                    )
                yield Schedule(
                    name=name,
                    function=function,
                    expression=expression,
                    every_s=int(rate[1]) * _SECONDS[rate[2]] if rate else None,
                    input=properties.get("Input"),
                )


def _method(text: Any) -> str:
    method = str(text).upper()
    return "ANY" if method in {"*", "ANY"} else method


def _merged(shared: Any, own: Any) -> Any:
    """Lay a function's properties over the globals: mappings merge, lists follow one another."""
    if isinstance(shared, dict) and isinstance(own, dict) and not _is_intrinsic(own):
        return {
            key: _merged(shared[key], own[key])
            if key in shared and key in own
            else own.get(key, shared.get(key))
            for key in {**shared, **own}
        }
    if isinstance(shared, list) and isinstance(own, list):
        return [*shared, *own]
    return own


def _is_intrinsic(node: Mapping[str, Any]) -> bool:
    return len(node) == 1 and next(iter(node)).startswith(("Fn::", "Ref"))


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)
