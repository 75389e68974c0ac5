"""A stand-in for Amazon Bedrock, of which some clients have their texts embedded.

The same text gives the same vector, always; that is all their suites ask of it.
"""

from __future__ import annotations

import json
import random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

_DIMENSION: Final = 1024


class Bedrock(BaseHTTPRequestHandler):
    """InvokeModel of the Titan and the Nova embedding models."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer with the vector of the text asked for."""
        length = int(self.headers.get("Content-Length") or 0)
        answer = json.dumps(_embedded(json.loads(self.rfile.read(length)))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def start() -> ThreadingHTTPServer:
    """Make the server, on any free port; whoever asked serves and closes it."""
    return ThreadingHTTPServer(("127.0.0.1", 0), Bedrock)


def _embedded(request: dict[str, Any]) -> dict[str, Any]:
    nova = request.get("singleEmbeddingParams")
    if nova is not None:
        vector = _vector(nova["text"]["value"], nova["embeddingDimension"])
        return {"embeddings": [{"embeddingType": "TEXT", "embedding": vector}]}
    dimension = request.get("dimensions") or _DIMENSION
    return {"embedding": _vector(request["inputText"], dimension), "inputTextTokenCount": 1}


def _vector(text: str, dimension: int) -> list[float]:
    chance = random.Random(text)
    return [chance.gauss(0.0, 1.0) for _ in range(dimension)]
