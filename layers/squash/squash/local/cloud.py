"""The local cloud in one event loop: S3, functions, state machines, and the APIs before them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from squash.clock import SystemClock, SystemIds
from squash.errors import InvalidArgumentError, UnavailableError
from squash.limits import INTEGER_MAGNITUDE_MAX
from squash.local.account import Account, Policy, Pool
from squash.local.artefacts import Artefact, find_artefacts, link_runtime
from squash.local.buckets import make_buckets
from squash.local.calls import Outcome
from squash.local.containers import Container, Place
from squash.local.environment import CREDENTIALS, Surroundings, container_settings
from squash.local.faults import Fault, Faults, parse_faults
from squash.local.function_url import UrlFace
from squash.local.http_api import HttpApi
from squash.local.invoke_api import InvokeApi
from squash.local.processes import ForkLauncher, Launcher, SpawnLauncher
from squash.local.routes import Routes
from squash.local.runtime_api import CLOSE_SECONDS, LOOPBACK, RuntimeApi
from squash.local.s3_proxy import S3Proxy
from squash.local.s3_server import find_ministack, held_alone, start_s3
from squash.local.schedules import Schedules
from squash.local.step_functions import make_state_machines, start_step_functions
from squash.local.template import Function, Template, read_template
from squash.values import dataclass

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
# A header line this long is parsed, so that what is too long can be refused as AWS does.
_HEADER_LINE_BYTES_MAX = 1 << 16
_LOG = logging.getLogger("squash.local.requests")
_RUN = re.compile(r"run-(?P<pid>[0-9]+)-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class CloudOptions:
    """What the local cloud is started with.

    Attributes
    ----------
    template, build:
        A SAM template, and the folder of what `sam build` made of it.
    data:
        A folder for S3's objects and for what runs.
    parameters:
        Values for the template's parameters.
    environment:
        Variables for every function, over those of the template.
    s3:
        The URL of an S3 that runs already; None starts one.
    s3_memory:
        Whether the one that is started keeps nothing.
    s3_proxy:
        Whether functions reach S3 through a proxy that counts, and fails on demand.
    api_port, lambda_port, url_port:
        Of the HTTP API, of Lambda, and of the first of functions' URLs, which have one each; 0
        takes free ones.
    fork_server:
        Whether containers are forked from a process that has loaded the layers' modules.
    schedules:
        Whether schedules run by themselves.

    """

    template: Path
    build: Path
    data: Path
    parameters: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    s3: str | None = None
    s3_memory: bool = False
    s3_proxy: bool = False
    api_port: int = 0
    lambda_port: int = 0
    url_port: int = 0
    fork_server: bool = True
    schedules: bool = False
    policy: Policy = field(default_factory=Policy)
    faults: Sequence[Fault] = ()
    observe: Callable[[Function, Outcome], None] = lambda *_: None


class Cloud:
    """What runs; made by `open_cloud`."""

    def __init__(self, options: CloudOptions, template: Template, account: Account) -> None:
        self.options = options
        self.template = template
        self.account = account
        self.s3_title = ""
        self.s3_url = ""
        self.credentials = CREDENTIALS
        self.proxy: S3Proxy | None = None
        self.schedules = Schedules(
            template.schedules, account, clock=SystemClock(), ids=SystemIds()
        )
        self.api_url = ""
        self.lambda_url = ""
        self.function_urls: dict[str, str] = {}
        self.states_url: str | None = None

    def containers(self) -> list[dict[str, Any]]:
        """Describe the containers that live."""
        return [
            {
                "name": one.name,
                "function": one.function.name,
                "tenant": one.tenant,
                "pid": one.pid,
                "calls": one.calls,
                "idle": one in self.account.pools[one.function.name].idle,
                "memory_mb": round(one.memory_mb, 1),
            }
            for one in self.account.containers()
        ]

    def stats(self) -> dict[str, Any]:
        """Count what was done so far: by function, and of S3 if there is the proxy."""
        functions = {name: asdict(pool.counts) for name, pool in self.account.pools.items()}
        return {
            "functions": functions,
            "s3": None if self.proxy is None else asdict(self.proxy.counts),
        }

    def logs(self, name: str) -> dict[str, str]:
        """Return the end of what each container of a function printed."""
        pool = self.account.pool(name)
        return {one.name: one.log.decode(errors="replace") for one in pool.containers.values()}

    def set_faults(self, faults: Sequence[Fault]) -> None:
        """Have these faults, and no others.

        Raises
        ------
        InvalidArgumentError
            If S3 is to fail, and is reached without the proxy.

        """
        _check_proxy(faults, self.options.s3_proxy)
        self.account.faults.replace(faults)

    async def control(self, method: str, what: str, document: Any) -> Any:
        """Carry out a control call; see `InvokeApi`."""
        match (method, what.split("/")):
            case ("GET", ["stats"]):
                return self.stats()
            case ("GET", ["containers"]):
                return self.containers()
            case ("GET", ["logs", name]):
                return self.logs(name)
            case ("GET", ["faults"]):
                return [asdict(fault) for fault in self.account.faults.in_force]
            case ("POST", ["faults"]):
                self.set_faults(parse_faults(document))
                return {"faults": len(document)}
            case ("POST", ["kill"]):
                function, container = _to_kill(document)
                return {"killed": self.account.kill(function, container=container)}
            case ("POST", ["evict"]):
                return {"evicted": self.account.evict_idle(older_than_s=_idle_s(document))}
            case ("POST", ["schedules", name]):
                self.schedules.run(name)
                return {"invoked": name}
        raise InvalidArgumentError(
            "known are GET stats, containers, faults and logs/FUNCTION; POST faults, kill "
            '{"function": …}, evict {"older_than_s": …} and schedules/NAME'
        )


def _to_kill(document: Any) -> tuple[str, str | None]:
    """Return the function, and maybe the one container of it, that a control call kills."""
    if isinstance(document, dict) and {"function"} <= document.keys() <= {"function", "container"}:
        function, container = document["function"], document.get("container")
        if isinstance(function, str) and isinstance(container, str | None):
            return function, container
    raise InvalidArgumentError(
        'kill takes {"function": …}, a name, and may have "container", which is all of them else'
    )


def _idle_s(document: Any) -> float:
    """Return how long containers are idle that a control call evicts; 0 if it does not say."""
    if document is None or document == {}:
        return 0.0
    if isinstance(document, dict) and list(document) == ["older_than_s"]:
        seconds = document["older_than_s"]
        known = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if known and 0 <= seconds <= INTEGER_MAGNITUDE_MAX:
            return float(seconds)
    raise InvalidArgumentError(
        'evict takes {"older_than_s": …}, a number from 0, or nothing: idle containers of all '
        "functions are evicted"
    )


@asynccontextmanager
async def open_cloud(options: CloudOptions) -> AsyncIterator[Cloud]:
    """Start the local cloud, and end all of it on leaving.

    Raises
    ------
    SquashError
        If the template or the artefacts are not right, or something does not start.

    """
    _check_proxy(options.faults, options.s3_proxy)
    template = read_template(options.template, parameters=options.parameters)
    artefacts = find_artefacts(template, options.build)
    async with AsyncExitStack() as stack:
        run = stack.enter_context(_run_folder(options.data))
        api = RuntimeApi(SystemClock())
        stack.push_async_callback(api.shutdown)
        faults = Faults(options.faults)
        pools: dict[str, Pool] = {}
        account = Account(pools, policy=options.policy, faults=faults)
        account.observe = options.observe
        cloud = Cloud(options, template, account)
        invoke = InvokeApi(account, ids=SystemIds(), control=cloud.control)
        cloud.lambda_url = await _listen(stack, invoke.serve, options.lambda_port)
        routes = Routes(template.routes)
        http = HttpApi(account, routes, clock=SystemClock(), ids=SystemIds())
        cloud.api_url = await _listen(stack, http.serve, options.api_port)
        for place, url in enumerate(template.urls):
            face = UrlFace(account, url, clock=SystemClock(), ids=SystemIds())
            port = options.url_port and options.url_port + place
            cloud.function_urls[url.function] = await _listen(stack, face.serve, port)
        await _open_s3(cloud, stack)
        await _open_step_functions(cloud, stack, run)
        surroundings = Surroundings(
            runtime=link_runtime(run / "runtime"),
            lambda_url=cloud.lambda_url,
            s3_url=cloud.s3_url,
            states_url=cloud.states_url,
            credentials=cloud.credentials,
            environment=options.environment,
        )
        # Before the servers: what they wait for must end first.
        stack.push_async_callback(account.close)
        for function in template.functions.values():
            pools[function.name] = _pool(
                function, artefacts[function.name], surroundings, options=options, api=api, run=run
            )
        if options.schedules:
            cloud.schedules.start()
        stack.callback(cloud.schedules.stop)
        yield cloud


def _check_proxy(faults: Sequence[Fault], proxy: bool) -> None:
    if not proxy and any(fault.of_s3 for fault in faults):
        raise InvalidArgumentError("for S3 to fail, start squash local with --s3-proxy")


def _is_of_the_server(record: logging.LogRecord) -> bool:
    """Tell if what is logged is not that a request cannot be read: who sent it is told that."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


async def _listen(stack: AsyncExitStack, handler: Handler, port: int) -> str:
    """Serve at a port of loopback, and nowhere else."""
    _LOG.addFilter(_is_of_the_server)
    server = web.Server(
        handler,
        access_log=None,
        logger=_LOG,
        auto_decompress=False,
        max_field_size=_HEADER_LINE_BYTES_MAX,
        max_line_size=_HEADER_LINE_BYTES_MAX,
    )
    try:
        listening = await asyncio.get_running_loop().create_server(server, LOOPBACK, port)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "is taken" if taken else f"cannot be had ({error})"
        raise UnavailableError(
            f"the port {port} {why}: choose another with --api-port, --lambda-port or --url-port"
        ) from error

    async def close() -> None:
        listening.close()
        await server.shutdown(CLOSE_SECONDS)

    stack.push_async_callback(close)
    return f"http://{LOOPBACK}:{listening.sockets[0].getsockname()[1]}"


async def _open_s3(cloud: Cloud, stack: AsyncExitStack) -> None:
    options = cloud.options
    if options.s3 is None:
        folder = _made(options.data.absolute() / "s3")
        if not options.s3_memory and find_ministack() is not None:
            stack.enter_context(held_alone(folder))
        server, cloud.s3_title = await start_s3(folder, memory=options.s3_memory)
        stack.push_async_callback(server.close)
        cloud.s3_url = server.url
    else:
        cloud.s3_url, cloud.s3_title = options.s3.rstrip("/"), "yours"
        key, secret = (
            os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        )
        cloud.credentials = (key, secret) if key and secret else CREDENTIALS
    await asyncio.to_thread(
        make_buckets, cloud.template.buckets, url=cloud.s3_url, credentials=cloud.credentials
    )
    if options.s3_proxy:
        cloud.proxy = S3Proxy(cloud.s3_url, cloud.account.faults)
        stack.push_async_callback(cloud.proxy.close)
        cloud.s3_url = await _listen(stack, cloud.proxy.serve, 0)


async def _open_step_functions(cloud: Cloud, stack: AsyncExitStack, run: Path) -> None:
    machines = cloud.template.state_machines
    if not machines:
        return
    server = await start_step_functions(
        run, lambda_url=cloud.lambda_url, s3_url=cloud.s3_url, credentials=cloud.credentials
    )
    stack.push_async_callback(server.close)
    cloud.states_url = server.url
    await asyncio.to_thread(
        make_state_machines, machines, url=server.url, credentials=cloud.credentials
    )


def _pool(
    function: Function,
    artefact: Artefact,
    surroundings: Surroundings,
    *,
    options: CloudOptions,
    api: RuntimeApi,
    run: Path,
) -> Pool:
    ids = SystemIds()
    launcher: Launcher = SpawnLauncher()
    if options.fork_server:
        folder = run / f"{function.logical_id}-fork-server"
        folder.mkdir()
        launcher = ForkLauncher(
            container_settings(function, artefact, surroundings, port=0, folder=folder)
        )

    def make(tenant: str | None) -> Container:
        name = f"{function.logical_id}-{ids.new_id()[:12]}"
        place = Place(
            name=name,
            function=function,
            tenant=tenant,
            folder=run / name,
            settings=lambda port, folder: container_settings(
                function, artefact, surroundings, port=port, folder=folder
            ),
        )
        return Container(place, api=api, launcher=launcher)

    return Pool(function=function, launcher=launcher, make=make)


@contextlib.contextmanager
def _run_folder(data: Path) -> Iterator[Path]:
    """Make a folder for what runs, and remove it, and those that a killed run has left."""
    data.mkdir(parents=True, exist_ok=True)
    for old in data.glob("run-*"):
        run = _RUN.fullmatch(old.name)
        if run and not _lives(int(run["pid"])):
            shutil.rmtree(old, ignore_errors=True)
    folder = data.absolute() / f"run-{os.getpid()}-{SystemIds().new_id()[:8]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
