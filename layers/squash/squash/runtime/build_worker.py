"""One process that runs tasks of a build, told by lines of JSON: see `build_workers`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from squash.clock import SystemClock, SystemIds
from squash.errors import SquashError
from squash.index import catalogue
from squash.maintain.bulk.context import BuildContext
from squash.maintain.bulk.drive import run_patiently
from squash.maintain.bulk.stages import Task
from squash.runtime.build_workers import NO_MEMORY
from squash.runtime.building import IndexBuilds
from squash.runtime.encoders import EncoderRegistry
from squash.runtime.encoding import Encoding
from squash.runtime.local_encoding import LocalEncoding, encoder_folders
from squash.runtime.session import IndexSession
from squash.runtime.settings import Settings, StorePlace, choose_kernels
from squash.search.events import error_event
from squash.storage import open_store


def main() -> int:
    """Run tasks until no more come, and return the exit status."""
    # Who presses Ctrl-C is answered by the process that tells the tasks, which then ends this one.
    # It holds the signal back until here, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints must not be taken for an answer.
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    told = json.loads(sys.stdin.readline())
    builds = builds_at(
        StorePlace(told["location"], told["endpoint_url"], told["region"]), told["index"]
    )
    folder = Path(told["scratch"])
    # Who tells the tasks may be killed: what is done lies in the store, and nobody is to be told.
    with (
        suppress(BrokenPipeError),
        os.fdopen(answers, "w", encoding="utf-8") as out,
        builds.context(folder) as context,
    ):
        for line in sys.stdin:
            try:
                answer = _answer(context, Task.from_json(json.loads(line)))
            except MemoryError:
                return NO_MEMORY
            out.write(json.dumps(answer) + "\n")
            out.flush()
    return 0


def _answer(context: BuildContext, task: Task) -> Mapping[str, Any]:
    try:
        return {"report": run_patiently(context, task).to_json()}
    except SquashError as error:
        return {"error": error_event(error)["error"]}
    except OSError as error:
        return {"system": [error.errno, error.strerror or str(error), error.filename]}


def builds_at(place: StorePlace, index: str) -> IndexBuilds:
    """Open an index where it is, for its builds alone.

    Raises
    ------
    NotFoundError
        If there is none of this name.

    """
    choose_kernels(os.environ)
    store = open_store(place.location, endpoint_url=place.endpoint_url, region=place.region)
    clock = SystemClock()
    looked_ms = clock.now_ms()
    entry = catalogue.load(store, index)

    def encoding() -> Encoding:
        folders = encoder_folders(os.environ)
        return LocalEncoding(EncoderRegistry(store), folders, clock=clock, threads=1)

    session = IndexSession(
        store,
        entry,
        settings=Settings(place=place),
        clock=clock,
        ids=SystemIds(),
        looked_ms=looked_ms,
        encoding=encoding,
    )
    return session.builds()


if __name__ == "__main__":
    sys.exit(main())
