"""The built artefacts in the local cloud, with a database beside it on the same objects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import squash
from squash.local import LocalCloud
from squash.storage import ObjectStore, open_store

ROOT: Final = Path(__file__).resolve().parents[1]
BUILD: Final = ROOT / ".aws-sam" / "local"
OPEN: Final = {"SQUASH_AUTH": "none", "SQUASH_LOCAL": "1"}


@dataclass(frozen=True)
class Deployed:
    """A local cloud, and where its data lies."""

    cloud: LocalCloud
    location: str
    """`s3://bucket/prefix`, as its functions know it."""

    @property
    def url(self) -> str:
        """Where the HTTP API answers."""
        return self.cloud.api_url

    def database(self, **settings: Any) -> squash.Database:
        """Open the same indexes in this process."""
        return squash.connect(self.location, endpoint_url=self.cloud.s3_url, **settings)

    def database_at(self, prefix: str, **settings: Any) -> squash.Database:
        """Open other indexes, elsewhere in the same bucket."""
        bucket = self.location.removeprefix("s3://").partition("/")[0]
        place = f"s3://{bucket}/{prefix}"
        return squash.connect(place, endpoint_url=self.cloud.s3_url, **settings)

    def store(self) -> ObjectStore:
        """Open the store below."""
        return open_store(self.location, endpoint_url=self.cloud.s3_url)


@contextmanager
def deployed(
    *,
    build: Path = BUILD,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[Deployed]:
    """Run the artefacts until the block ends.

    Parameters
    ----------
    build:
        What `make build-local` made.
    environment:
        Variables for every function, beside those that let everyone in.
    options:
        As for `LocalCloud`.

    """
    with LocalCloud(
        template=ROOT / "template.yaml",
        build=build,
        environment={**OPEN, **(environment or {})},
        **options,
    ) as cloud:
        arguments = cloud.client_arguments("s3")
        os.environ["AWS_ACCESS_KEY_ID"] = arguments["aws_access_key_id"]
        os.environ["AWS_SECRET_ACCESS_KEY"] = arguments["aws_secret_access_key"]
        os.environ["AWS_DEFAULT_REGION"] = arguments["region_name"]
        functions = cloud.cloud.template.functions.values()
        locations = {str(one.environment["SQUASH_STORE"]) for one in functions}
        yield Deployed(cloud, locations.pop())
