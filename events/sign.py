"""Sign an event of the S3 Vectors API anew: `python events/sign.py EVENT.json > signed.json`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

SIGNED = ("content-type", "host")


def signed(event: dict[str, Any], key: str, secret: str) -> dict[str, Any]:
    """Return an event with the headers of a signature made now, as boto3 makes it."""
    headers = dict(event["headers"])
    prefix, _, resource = event["rawPath"].removeprefix("/").partition("/")
    # What stands in a path's parameter was percent-encoded by the client, slashes included.
    path = f"/{prefix}" + (f"/{quote(resource, safe='')}" if resource else "")
    query = f"?{event['rawQueryString']}" if event["rawQueryString"] else ""
    request = AWSRequest(
        method=event["requestContext"]["http"]["method"],
        url=f"https://{headers['host']}{path}{query}",
        headers={name: headers[name] for name in SIGNED if name in headers},
        data=event.get("body", "").encode(),
    )
    region = headers["authorization"].split("/")[2]
    SigV4Auth(Credentials(key, secret), "s3vectors", region).add_auth(request)
    made = {name.lower(): value for name, value in request.headers.items()}
    return event | {"headers": dict(sorted((headers | made).items()))}


if __name__ == "__main__":
    if sys.argv[1:] in ([], ["--help"], ["-h"]):
        sys.exit(__doc__)
    key, secret = (
        os.environ.get(f"AWS_{name}", "") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    )
    if not (key and secret):
        sys.exit(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to what `squash keys create "
            "--access-key` showed"
        )
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    json.dump(signed(given, key, secret), sys.stdout, indent=2)
