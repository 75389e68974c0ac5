"""The processes below one, and whether they have ended."""

from __future__ import annotations

import os
import select
from pathlib import Path


def descendants(pid, *, without=frozenset()):
    """Return handles of all processes below one, but of those that are known."""
    return [os.pidfd_open(one) for one in descendants_ids(pid) - without]


def descendants_ids(pid):
    """Return the numbers of all processes below one."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def all_end(pidfds):
    """Wait until processes have ended; a zombie that nobody collects has."""
    for pidfd in pidfds:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(120_000):
            return False
        os.close(pidfd)
    return True
