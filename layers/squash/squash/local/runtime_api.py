"""The Runtime API, which a container's runtime client asks for work: one port a container."""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import field
from typing import Final

from aiohttp import web

from squash.clock import Clock
from squash.limits import LAMBDA_RESPONSE_BYTES_MAX
from squash.local.calls import Call
from squash.values import dataclass

LOOPBACK: Final = "127.0.0.1"
CLOSE_SECONDS: Final = 0.1  # for answers on their way when a port closes
_PREFIX: Final = "/2018-06-01/runtime/"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ACCEPTED: Final = b'{"status":"OK"}'


@dataclass(slots=True)
class Work:
    """A call handed to a container, and what came back."""

    call: Call
    arn: str
    timeout_s: float
    answer: asyncio.Future[tuple[bytes, str | None]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Desk:
    """Where one container comes for work.

    Attributes
    ----------
    initialised:
        Done when the container has asked for work for the first time.
    init_error:
        Done, with the error's JSON and type, if its start failed.

    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.initialised: asyncio.Future[None] = loop.create_future()
        self.init_error: asyncio.Future[tuple[bytes, str]] = loop.create_future()
        self._waiting: asyncio.Queue[Work | None] = asyncio.Queue()
        self._work: Work | None = None

    def hand(self, work: Work) -> None:
        """Give the container a call."""
        self._waiting.put_nowait(work)

    def close(self) -> None:
        """Give up a container that waits for work."""
        self._waiting.put_nowait(None)

    async def next(self) -> Work | None:
        """Wait for a call; None if there will be none."""
        if not self.initialised.done():
            self.initialised.set_result(None)
        self._work = await self._waiting.get()
        return self._work

    def answered(self, request_id: str, payload: bytes, error_type: str | None) -> bool:
        """Take an answer; False if it answers nothing that was asked."""
        work, self._work = self._work, None
        if work is None or work.call.request_id != request_id or work.answer.done():
            return False
        work.answer.set_result((payload, error_type))
        return True


class RuntimeApi:
    """Serves all containers, each at its own port: by it we know who asks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._desks: dict[int | None, Desk] = {}
        self._servers: dict[int | None, asyncio.Server] = {}
        self._http = web.Server(self._serve, access_log=None)

    async def open(self, desk: Desk) -> int:
        """Open a port for a container."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._http, LOOPBACK, 0)
        port: int = server.sockets[0].getsockname()[1]
        self._desks[port], self._servers[port] = desk, server
        return port

    def close(self, port: int | None) -> None:
        """Close a container's port."""
        self._desks.pop(port).close()
        self._servers.pop(port).close()

    async def shutdown(self) -> None:
        """Close whatever is open."""
        for port in list(self._desks):
            self.close(port)
        await self._http.shutdown(CLOSE_SECONDS)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except ConnectionResetError:
            return web.Response(status=400)  # The container was killed while it said something.

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        port = None if transport is None else transport.get_extra_info("sockname")[1]
        desk = self._desks.get(port)
        if desk is None:
            return web.Response(status=410)
        match request.path.removeprefix(_PREFIX).split("/"):
            case ["invocation", "next"]:
                return await self._next(desk)
            case ["invocation", request_id, "response"]:
                payload = await request.content.read()
                error_type = None
                if len(payload) > LAMBDA_RESPONSE_BYTES_MAX:
                    error_type = "Function.ResponseSizeTooLarge"
                return _received(desk.answered(request_id, payload, error_type))
            case ["invocation", request_id, "error"]:
                payload = await request.content.read()
                error_type = request.headers.get("Lambda-Runtime-Function-Error-Type", "Unhandled")
                return _received(desk.answered(request_id, payload, error_type))
            case ["init", "error"]:
                payload = await request.content.read()
                if not desk.init_error.done():
                    kind = request.headers.get("Lambda-Runtime-Function-Error-Type", "Unhandled")
                    desk.init_error.set_result((payload, kind))
                return _received(True)
            case _:
                return web.Response(status=404, body=b"{}", content_type="application/json")

    async def _next(self, desk: Desk) -> web.StreamResponse:
        work = await desk.next()
        if work is None:
            return web.Response(status=410)
        deadline_ms = self._clock.now_ms() + round(work.timeout_s * 1000)
        call = work.call
        digits = call.request_id.replace("-", "")
        headers = {
            # Without a content type the client crashes.
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": call.request_id,
            "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": work.arn,
            "Lambda-Runtime-Trace-Id": f"Root=1-{self._clock.now_ms() // 1000:08x}-{digits[:24]};"
            f"Parent={digits[16:]};Sampled=0",
        }
        if call.client_context is not None:
            text = base64.b64decode(call.client_context).decode()
            # JSON over several lines is no header; between its members, a blank is as good.
            headers["Lambda-Runtime-Client-Context"] = _CONTROL.sub(" ", text)
        if call.tenant is not None:
            headers["Lambda-Runtime-Aws-Tenant-Id"] = call.tenant
        return web.Response(body=call.payload, headers=headers)


def _received(wanted: bool) -> web.Response:
    if wanted:
        return web.Response(status=202, body=_ACCEPTED, content_type="application/json")
    return web.Response(status=400, body=b"{}", content_type="application/json")
