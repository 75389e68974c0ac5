"""Where the `squash` command begins: until it can answer for itself, Ctrl-C just ends it."""

from __future__ import annotations

import signal


def main() -> int:
    """Load the command and run it; see `squash.cli.main.main`."""
    heard = signal.getsignal(signal.SIGINT)
    # What is not heard, as in a job in the background, stays so.
    ends = heard is signal.default_int_handler
    if ends:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # It loads NumPy, in the midst of which an interrupt would be told by where it struck.
    from squash.cli.main import main as run  # noqa: PLC0415

    if ends:
        signal.signal(signal.SIGINT, heard)
    return run()
