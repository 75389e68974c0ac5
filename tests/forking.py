"""Work in a forked child of a test's process."""

from __future__ import annotations

import os
import signal
import warnings


def forked(work) -> int:
    """Do something in a forked child; its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        code = 1
        signal.alarm(20)
        try:
            code = work()
        finally:
            os._exit(code)  # whatever happens, it is no second run of the tests
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
