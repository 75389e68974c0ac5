"""How far a build is, as its objects tell."""

from __future__ import annotations

from squash.maintain.bulk.records import read_attempt, read_request
from squash.model import BuildStatus
from squash.storage import ObjectStore


def build_status(store: ObjectStore, index: str, build: str) -> BuildStatus:
    """Describe a build."""
    request, attempt = read_request(store, build), read_attempt(store, build)
    return BuildStatus(
        build, index, "running", attempt.executor, attempt.number, attempt.started_ms,
        attempt.started_ms, request.inputs, 0, 0, None, 0, 0.0, None, None, (), (),
        request.base, None,
    )  # fmt: skip


def list_builds(store: ObjectStore, index: str) -> list[BuildStatus]:
    """Describe all builds."""
    return [build_status(store, index, name) for name in store.list_folders("builds/")]
