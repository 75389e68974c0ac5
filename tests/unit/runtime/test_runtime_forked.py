"""What a process has open serves its forked children, too."""

import sys

import pytest

from forking import forked
from squash.storage.threads import Threads

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


def test_a_forked_child_has_threads_of_its_own():
    """A fork takes no threads along: without its own, the child would wait for ever."""
    threads = Threads("test")
    assert threads.pool().submit(int, "3").result() == 3
    assert forked(lambda: threads.pool().submit(int, "7").result(timeout=10)) == 7
    assert threads.pool().submit(int, "4").result() == 4
