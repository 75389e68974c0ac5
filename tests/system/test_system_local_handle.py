"""`LocalCloud` ends its thread, however its start goes."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from squash.errors import NotFoundError
from squash.local import handle
from squash.local.handle import LocalCloud


def its_threads():
    return [thread for thread in threading.enumerate() if thread.name == "squash-local"]


def test_a_start_that_is_interrupted_ends(built, monkeypatch):
    """Before there is a loop, too: it was waited for until the cloud would end of itself."""

    class Interrupted(Future):
        def result(self, timeout=None):
            if threading.current_thread() in its_threads():
                return super().result(timeout)
            raise KeyboardInterrupt

    monkeypatch.setattr(handle, "Future", Interrupted)
    template, artefacts = built
    with (
        pytest.raises(KeyboardInterrupt),
        LocalCloud(template=template, build=artefacts, s3_memory=True, api_port=0),
    ):
        pytest.fail("it was interrupted")
    assert not its_threads()


def test_a_start_that_fails_is_told_though_its_loop_is_closed(built, tmp_path, monkeypatch):
    """Its loop closes at any time after the failure is told, and was asked to stop then."""

    class Closed(Future):
        def result(self, timeout=None):
            try:
                return super().result(timeout)
            except NotFoundError:
                for thread in its_threads():
                    thread.join()
                monkeypatch.setattr(threading.Thread, "is_alive", lambda _: True)
                raise

    monkeypatch.setattr(handle, "Future", Closed)
    with (
        pytest.raises(NotFoundError, match="make build-local"),
        LocalCloud(template=built[0], build=tmp_path / "nowhere", s3_memory=True),
    ):
        pytest.fail("it is not there")
    monkeypatch.undo()
    assert not its_threads()
