"""A folder as a bucket of a far S3: each answer begins later, and one pipe brings them all.

`python bench/far_s3.py FOLDER --delay-ms 30 --mb-per-s 75` prints its URL, and serves until its
input ends. Only what reads is there.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from aiohttp import web

_KEYS_PER_PAGE: Final = 1000


class FarS3:
    """Answers GETs of objects and ranges, and listings.

    Parameters
    ----------
    folder:
        Whose files are the objects.
    delay_s:
        Until an answer begins.
    bytes_per_s:
        Of all answers together, as a function's network is one for all its streams.

    """

    def __init__(self, folder: Path, *, delay_s: float, bytes_per_s: float) -> None:
        self._folder = folder
        self._delay_s = delay_s
        self._bytes_per_s = bytes_per_s
        self._free_s = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a request."""
        key = request.match_info.get("key")
        if not key:
            return await self._listing(request)
        path = self._folder / key
        if not path.is_file():
            await self._come(0)
            return _refusal(404, "NoSuchKey")
        size = path.stat().st_size
        span = request.http_range
        start, stop = span.start or 0, min(size, size if span.stop is None else span.stop)
        if start >= stop and size:
            await self._come(0)
            return _refusal(416, "InvalidRange")
        with path.open("rb") as file:
            file.seek(start)
            body = file.read(stop - start)
        await self._come(len(body))
        headers = {
            "ETag": f'"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"',
            "Last-Modified": f"{_modified(path):%a, %d %b %Y %H:%M:%S GMT}",
        }
        if "Range" not in request.headers:
            return web.Response(body=body, headers=headers)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return web.Response(status=206, body=body, headers=headers)

    async def _listing(self, request: web.Request) -> web.Response:
        asked = request.query
        after = max(asked.get("start-after", ""), asked.get("continuation-token", ""))
        keys = sorted(key for key in self._keys(asked.get("prefix", "")) if key > after)
        shown, more = keys[:_KEYS_PER_PAGE], len(keys) > _KEYS_PER_PAGE
        lines = [_line(key, self._folder / key) for key in shown]
        if more:
            lines.append(f"<NextContinuationToken>{escape(shown[-1])}</NextContinuationToken>")
        text = (
            '<?xml version="1.0"?><ListBucketResult><Name>b</Name>'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{''.join(lines)}</ListBucketResult>"
        )
        await self._come(len(text))
        return web.Response(text=text, content_type="application/xml")

    def _keys(self, prefix: str) -> Iterator[str]:
        top = self._folder / prefix.rpartition("/")[0]
        for path in top.rglob("*"):
            key = str(path.relative_to(self._folder))
            if path.is_file() and key.startswith(prefix):
                yield key

    async def _come(self, size: int) -> None:
        """Wait until so many bytes have come through the pipe."""
        loop = asyncio.get_running_loop()
        begins_s = max(loop.time() + self._delay_s, self._free_s)
        self._free_s = begins_s + size / self._bytes_per_s
        await asyncio.sleep(self._free_s - loop.time())


def _line(key: str, path: Path) -> str:
    return (
        f"<Contents><Key>{escape(key)}</Key><Size>{path.stat().st_size}</Size>"
        f"<LastModified>{_modified(path):%Y-%m-%dT%H:%M:%S.000Z}</LastModified></Contents>"
    )


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _refusal(status: int, code: str) -> web.Response:
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


async def serve(folder: Path, *, delay_ms: float, mb_per_s: float) -> None:
    """Serve until the input ends."""
    far = FarS3(folder, delay_s=delay_ms / 1e3, bytes_per_s=mb_per_s * 1e6)
    application = web.Application()
    application.router.add_get("/{bucket}", far.answer)
    application.router.add_get("/{bucket}/{key:.*}", far.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


def main() -> None:
    """Serve what the command line says."""
    parser = argparse.ArgumentParser(description="A folder as an S3 that is far.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delay-ms", type=float, default=30.0)
    parser.add_argument("--mb-per-s", type=float, default=75.0)
    asked = parser.parse_args()
    asyncio.run(serve(asked.folder, delay_ms=asked.delay_ms, mb_per_s=asked.mb_per_s))


if __name__ == "__main__":
    main()
