"""The runtime API of the local cloud, as containers meet it."""

from __future__ import annotations

import asyncio
import logging

from squash.clock import SystemClock
from squash.local.runtime_api import LOOPBACK, Desk, RuntimeApi


def test_a_container_that_is_killed_while_it_answers_leaves_no_traceback(caplog):
    """Its end is told by its process; the half of an answer is none."""

    async def run() -> None:
        api = RuntimeApi(SystemClock())
        port = await api.open(Desk())
        _, writer = await asyncio.open_connection(LOOPBACK, port)
        path = "/2018-06-01/runtime/invocation/x/response"
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nhalf".encode())
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await asyncio.sleep(0.2)
        await api.shutdown()

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert not caplog.records
