"""The local cloud as an object: what it offers is there within its block, and nowhere else."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from squash.errors import InvalidArgumentError
from squash.local import handle
from squash.local.handle import LocalCloud


@asynccontextmanager
async def opened(options):
    yield SimpleNamespace(api_url="http://127.0.0.1:1", stats=dict)


def test_outside_its_block_it_says_where_it_runs(monkeypatch):
    """Before and after the block, what is asked is refused in words, and nothing waits."""
    monkeypatch.setattr(handle, "open_cloud", opened)
    cloud = LocalCloud(template="template.yaml", build="build")
    for ask in (lambda: cloud.api_url, cloud.stats, cloud.settle):
        with pytest.raises(InvalidArgumentError, match="within its `with` block"):
            ask()
    with cloud:
        assert cloud.api_url == "http://127.0.0.1:1"
        assert cloud.stats() == {}
    for ask in (lambda: cloud.api_url, cloud.stats, cloud.settle):
        with pytest.raises(InvalidArgumentError, match="within its `with` block"):
            ask()
