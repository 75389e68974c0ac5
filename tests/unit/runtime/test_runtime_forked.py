"""What a process has open serves its forked children, too."""

import os
import signal
import sys
import warnings

import pytest

from squash.storage.threads import Threads

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


def test_a_forked_child_has_threads_of_its_own():
    """A fork takes no threads along: without its own, the child would wait for ever."""
    threads = Threads("test")
    assert threads.pool().submit(int, "3").result() == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        code = 1
        signal.alarm(20)
        try:
            code = threads.pool().submit(int, "7").result(timeout=10)
        finally:
            os._exit(code)  # whatever happens, it is no second run of the tests
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert threads.pool().submit(int, "4").result() == 4
