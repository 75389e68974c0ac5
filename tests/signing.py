"""Requests signed by botocore's own signer, as events that API Gateway makes of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote, unquote

import botocore.auth
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

NOW_MS = 1_795_688_431_000
HOST = "vectors.example:8443"


def signed_event(
    method="POST",
    path="/QueryVectors",
    *,
    key_id,
    secret,
    params: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    headers: Mapping[str, str] = {},
    host=HOST,
    region="us-east-1",
    service="s3vectors",
    token=None,
    at_ms=NOW_MS,
    text=False,
):
    """Sign a request as boto3 does, and return the event.

    `path` is as it is sent, encoded; `params` and `headers` are decoded. With `text` the body is
    handed on as text.
    """
    query = "&".join(f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}" for n, v in params)
    url = f"https://{host}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers=dict(headers), data=body)
    request.headers["Host"] = host
    now = datetime.fromtimestamp(at_ms // 1000, UTC)
    with patch.object(botocore.auth, "get_current_datetime", lambda: now):
        SigV4Auth(Credentials(key_id, secret, token), service, region).add_auth(request)
    assert request.prepare().url == url
    joined: dict[str, str] = {}
    for sent, value in request.headers.items():
        name = sent.lower()
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return {
        "version": "2.0",
        "rawPath": unquote(path),
        "rawQueryString": query,
        "headers": joined,
        "requestContext": {
            "accountId": "123456789012",
            "http": {"method": method, "path": unquote(path)},
            "requestId": "request-1",
            "stage": "$default",
        },
        "body": body.decode() if text else base64.b64encode(body).decode(),
        "isBase64Encoded": not text,
    }
