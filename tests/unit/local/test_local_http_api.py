"""What the gateway does when its function takes too long."""

from __future__ import annotations

import asyncio
import http.client

from aiohttp import web

from squash.clock import SystemClock, SystemIds
from squash.local.http_api import HttpApi
from squash.local.routes import Routes
from squash.local.template import Route


class PatientAccount:
    """Never answers, and notes whether its call was given up."""

    def __init__(self):
        self.calls = []
        self.given_up = False

    async def invoke(self, name, call):
        self.calls.append(name)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise


def test_the_gateway_gives_up_waiting_and_the_function_goes_on():
    account = PatientAccount()

    async def run():
        routes = Routes([Route("GET", "/slow", "slow")])
        api = HttpApi(account, routes, clock=SystemClock(), ids=SystemIds(), timeout_s=0.0)
        server = web.Server(api.serve)
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        answer = await asyncio.to_thread(get, port)
        listening.close()
        await server.shutdown(0.1)
        return answer, account.given_up

    assert asyncio.run(run()) == ((503, b'{"message": "Service Unavailable"}'), False)
    assert account.calls == ["slow"]


def get(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.request("GET", "/slow")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
