"""`squash local`: starts the local cloud, says where it is, and runs it until it is interrupted."""

from __future__ import annotations

import signal
import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Any, Final

from squash.api.s3vectors.operations import is_ours
from squash.cli.output import Output, Table, printable
from squash.cli.shared_arguments import STORE_VARIABLE
from squash.cli.statuses import SUCCEEDED
from squash.cli.values import by_name
from squash.errors import UnavailableError

if TYPE_CHECKING:
    from squash.local import LocalCloud
    from squash.local.calls import Outcome
    from squash.local.template import Function

_LOOK_SECONDS: Final = 0.5


def run_local(arguments: Namespace, output: Output) -> int:
    """Run the local cloud until Ctrl-C, or until it is told to end.

    Raises
    ------
    UnavailableError
        If what it needs is not installed.

    """
    try:
        # An extra, and half a second of imports.
        from squash.local import LocalCloud  # noqa: PLC0415
        from squash.local.account import Policy  # noqa: PLC0415
        from squash.local.faults import read_faults  # noqa: PLC0415
    except ImportError as error:
        raise UnavailableError(
            f"{error.name} is not installed, which squash local needs: "
            "pip install 'squash-search[local]'"
        ) from error
    # Only now: nothing else of the command line needs it so early.
    from squash.storage.s3_access import check_endpoint  # noqa: PLC0415

    check_endpoint(arguments.s3)
    names = ("s3", "s3_memory", "s3_proxy", "api_port", "lambda_port", "url_port", "schedules")
    options: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    cloud = LocalCloud(
        template=arguments.template,
        build=arguments.build,
        data=arguments.data,
        parameters=by_name(arguments.parameter, "--parameter"),
        environment=by_name(arguments.environment, "--environment"),
        fork_server=not arguments.no_fork_server,
        faults=read_faults(arguments.faults) if arguments.faults else (),
        policy=Policy(
            concurrency=arguments.concurrency,
            containers_max=arguments.containers,
            idle_s=arguments.idle_seconds,
        ),
        observe=_show if arguments.logs else _ignore,
        **options,
    )
    # Asked to end, it ends as if interrupted: no process is left behind.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with cloud:
            output.result(*describe(cloud))
            sys.stdout.flush()
            while True:
                # Not `signal.pause`: what comes just before that would not end it.
                time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        return SUCCEEDED


def describe(cloud: LocalCloud) -> tuple[dict[str, Any], Table | str, Table | str, Table | str]:
    """Say where everything is, for machines and for people."""
    template = cloud.cloud.template
    routes: dict[str, list[str]] = {}
    for route in template.routes:
        routes.setdefault(route.function, []).append(route.key)
    rows = [
        (
            function.name,
            function.memory_mb,
            function.timeout_s,
            "tenant" if function.per_tenant else "",
            ", ".join(routes.get(function.name, [])),
        )
        for function in template.functions.values()
    ]
    document = {
        "api_url": cloud.api_url,
        "lambda_url": cloud.lambda_url,
        "function_urls": cloud.function_urls,
        "s3_url": cloud.s3_url,
        "s3": cloud.cloud.s3_title,
        "stores": _stores(cloud),
        "states_url": cloud.states_url,
        "state_machines": {one.name: one.arn for one in template.state_machines},
        "buckets": list(template.buckets),
        "functions": list(template.functions),
        "schedules": [schedule.name for schedule in template.schedules],
        "left_out": list(template.left_out),
    }
    place = f"AWS_ENDPOINT_URL_S3={cloud.s3_url}"
    service = [("S3 Vectors", f"AWS_ENDPOINT_URL_S3VECTORS={cloud.api_url}")]
    places = [
        ("HTTP API", cloud.api_url),
        *(service if any(is_ours(route.path) for route in template.routes) else []),
        *((f"URL of {name}", url) for name, url in cloud.function_urls.items()),
        ("Lambda", cloud.lambda_url),
        ("S3", f"{cloud.s3_url} ({cloud.cloud.s3_title})"),
        *(("store", f"{place} {STORE_VARIABLE}={one}") for one in _stores(cloud)),
        *([] if cloud.states_url is None else [("Step Functions", cloud.states_url)]),
        ("buckets", ", ".join(template.buckets)),
        *(("state machine", one.arn) for one in template.state_machines),
        *(("schedule", f"{one.name}: {one.expression}") for one in template.schedules),
        *(("left out", one) for one in template.left_out),
    ]
    return (
        document,
        Table(("", "a development tool, on this machine only"), places),
        Table(("function", "MB", "seconds", "isolation", "routes"), rows),
        "Ctrl-C ends it.",
    )


def _stores(cloud: LocalCloud) -> list[str]:
    """Return where functions keep what they store: there keys are made, and encoders added."""
    given = cloud.cloud.options.environment
    found = (
        given.get(STORE_VARIABLE, function.environment.get(STORE_VARIABLE))
        for function in cloud.cloud.template.functions.values()
    )
    return list(dict.fromkeys(one for one in found if one))


def _show(function: Function, outcome: Outcome) -> None:
    for line in outcome.log.decode(errors="replace").expandtabs(2).splitlines():
        sys.stderr.write(printable(f"{function.logical_id}  {line}") + "\n")


def _ignore(function: Function, outcome: Outcome) -> None:
    """Show nothing."""


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
