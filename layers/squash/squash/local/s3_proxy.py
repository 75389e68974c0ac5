"""Stands between the functions and S3: counts requests, and lets them fail on demand."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from squash.local.faults import FaultKind, Faults
from squash.values import dataclass

# Of one hop, not of what is carried; the body's length stands in Content-Length.
_HOP_HEADERS: Final = {"connection", "keep-alive", "transfer-encoding", "expect", "te", "upgrade"}
_SLOW_DOWN: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)
_PART_BYTES: Final = 1 << 18


@dataclass(slots=True)
class S3Counts:
    """What went through so far."""

    requests: int = 0
    failed: int = 0
    dropped: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class S3Proxy:
    """Passes requests on to an endpoint, unchanged: signatures stay good."""

    def __init__(self, upstream: str, faults: Faults) -> None:
        self.counts = S3Counts()
        self._upstream = upstream.rstrip("/")
        self._faults = faults
        self._session: aiohttp.ClientSession | None = None

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.counts.requests += 1
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Even if it then fails: what is left unread would be taken for the next request.
        try:
            body = await request.content.read()
        except ConnectionError:
            # Who asked was killed in the midst of it: nobody is there to be answered.
            return web.Response(status=400)
        self.counts.bytes_in += len(body)
        path = request.path
        faults = self._faults.befall(f"{request.method} {path}", s3=True)
        if FaultKind.S3_DELAY in faults:
            await asyncio.sleep(faults[FaultKind.S3_DELAY].delay_ms / 1000)
        if FaultKind.S3_FAIL in faults:
            self.counts.failed += 1
            return web.Response(status=503, body=_SLOW_DOWN, content_type="application/xml")
        try:
            return await self._pass_on(request, body, drop=FaultKind.S3_DROP in faults)
        except aiohttp.ClientError as error:
            text = f"squash local: S3 at {self._upstream} does not answer: {error}"
            return web.Response(status=502, text=text)

    async def _pass_on(
        self, request: web.BaseRequest, body: bytes, *, drop: bool
    ) -> web.StreamResponse:
        url = URL(self._upstream + request.raw_path, encoded=True)
        headers = _carried(request.headers)
        async with self._client().request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            if drop:
                # S3 has done what was asked; only its word of it is lost.
                self.counts.dropped += 1
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=503)
            response = web.StreamResponse(status=answer.status, headers=_carried(answer.headers))
            await response.prepare(request)
            async for part in answer.content.iter_chunked(_PART_BYTES):
                self.counts.bytes_out += len(part)
                await response.write(part)
            await response.write_eof()
            return response

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
            )
        return self._session

    async def close(self) -> None:
        """Close what is open to S3."""
        if self._session is not None:
            await self._session.close()


def _carried(headers: CIMultiDict[str] | aiohttp.typedefs.LooseHeaders) -> CIMultiDict[str]:
    carried = CIMultiDict(headers)
    for name in _HOP_HEADERS:
        carried.popall(name, None)
    return carried
