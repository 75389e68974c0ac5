"""What a container runs: limits are set, then Lambda's own runtime client takes over.

``container.py PARENT SETTINGS`` starts one from nothing; the fork server calls `run`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

from tethered import tether  # type: ignore[import-not-found] # it lies beside this script


def run(parent: int, settings: dict[str, Any]) -> None:
    """Serve one function until killed.

    Parameters
    ----------
    parent:
        The process that started this one, and with which it ends.
    settings:
        ``environment``, ``path`` (where modules are looked for, in order), ``folder`` (where it
        runs), ``log`` (the file for what it prints) and ``file_bytes_max`` (of a file in its
        /tmp).

    """
    tether(parent)
    log = os.open(settings["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    limit = settings["file_bytes_max"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    os.chdir(settings["folder"])
    os.environ.clear()
    os.environ.update(settings["environment"])
    sys.path[:] = settings["path"] + [place for place in sys.path if place not in settings["path"]]
    for ours in ("container", "tethered"):
        sys.modules.pop(ours, None)
    sys.argv = ["bootstrap", settings["environment"]["_HANDLER"]]
    # Imported here, since its client reads the environment as it is loaded.
    from awslambdaric.__main__ import (  # type: ignore[import-untyped]  # noqa: PLC0415
        main,
    )

    main(sys.argv)


if __name__ == "__main__":
    # The folder of these scripts stands first: no function may find them.
    del sys.path[0]
    run(int(sys.argv[1]), json.loads(sys.argv[2]))
