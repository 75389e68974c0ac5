"""The entry point of the `squash` command."""

from __future__ import annotations

import io
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from squash.cli.arguments import STORE_DEFAULT, STORE_VARIABLE, build_parser
from squash.cli.output import Output
from squash.cli.problems import ReleaseAsked, UsageError
from squash.cli.statuses import FAILED, MISUSED, SUCCEEDED
from squash.cli.values import home_expanded
from squash.errors import SquashError

if TYPE_CHECKING:
    from squash.database import Database


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv:
        The arguments after the command's name; None takes the process's own.

    Returns
    -------
    int
        0, or 1 if it failed, or 2 if the command itself is not well formed.

    """
    _open_what_is_closed()
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A key that the terminal's encoding lacks is shown escaped, and stops nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Before parsing, since what is wrong with the arguments is said in JSON too.
    output = Output(json_wanted="--json" in words)
    try:
        try:
            arguments = build_parser().parse_args(words)
        except ReleaseAsked as asked:
            output.result({"version": str(asked)}, f"squash {asked}")
            return SUCCEEDED
        # As it was parsed: a key after -- may be called so, and options may be cut short.
        output = Output(json_wanted=arguments.json)
        return _run(arguments, output)
    except SystemExit as stop:  # argparse has printed the help that was asked for
        return int(stop.code or 0)
    except UsageError as error:
        output.error(error)
        return MISUSED
    except BrokenPipeError:
        # Who read our output has gone; Python would fail once more on closing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (SquashError, OSError, KeyboardInterrupt) as error:
        output.error(error)
        return FAILED


def _open_what_is_closed() -> None:
    """Put nothing in the place of a standard stream that the shell closed, as by ``>&-``."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # For as long as the process lives, as what stands there otherwise.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _run(arguments: Namespace, output: Output) -> int:
    if arguments.command == "local":
        if arguments.store is not None:
            raise UsageError("local takes no --store: the template says where the indexes lie")
        # It opens no store of ours, and nothing else needs what it loads.
        from squash.cli.local_cloud import run_local  # noqa: PLC0415

        return run_local(arguments, output)
    # Only now: help and usage errors do not wait for the engine.
    from squash.cli.commands import COMMANDS  # noqa: PLC0415

    location = arguments.store or os.environ.get(STORE_VARIABLE) or STORE_DEFAULT
    arguments.store = as_location(location)
    with connect(
        arguments.store, endpoint_url=arguments.endpoint_url, region=arguments.region
    ) as database:
        return COMMANDS[arguments.command](arguments, database, output)


def connect(location: str, *, endpoint_url: str | None, region: str | None) -> Database:
    """Open the store; loaded only when a command runs."""
    from squash.database import connect as open_store  # noqa: PLC0415

    return open_store(location, endpoint_url=endpoint_url, region=region)


def as_location(text: str) -> str:
    """Turn a folder's path into a location; what has a scheme, or half of one, is the store's."""
    # Not before a store is wanted: help and versions are told without what opens one.
    from squash.storage.locations import names_scheme  # noqa: PLC0415

    return text if names_scheme(text) else home_expanded(text).absolute().as_uri()


if __name__ == "__main__":
    sys.exit(main())
