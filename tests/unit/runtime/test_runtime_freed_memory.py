"""Functions give freed memory back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from squash.runtime.settings import FUNCTION_VARIABLE

# Blocks that are mapped for themselves, after one of the same size was freed, which has glibc take
# the next ones from what it keeps.
MAPPED = """
import ctypes, os
from squash.runtime.functions import settings_of
libc = ctypes.CDLL(None)
settings_of(dict(os.environ))

class Told(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]

libc.mallinfo2.restype = Told
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free(libc.malloc(8 << 20))
before = libc.mallinfo2().hblks
libc.malloc(8 << 20)
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.parametrize(("name", "mapped"), [("squash-processor", 1), ("", 0)])
def test_a_function_has_large_blocks_of_its_own(monkeypatch, name, mapped):
    """They go back once they are freed; a process elsewhere does as its C library does."""
    monkeypatch.delenv(FUNCTION_VARIABLE, raising=False)
    if name:
        monkeypatch.setenv(FUNCTION_VARIABLE, name)
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", MAPPED], capture_output=True, text=True, check=False
    )
    if "mallinfo2" in done.stderr:
        pytest.skip("this C library is not glibc 2.33 or later")
    assert (done.stdout, done.stderr) == (f"{mapped}\n", "")
