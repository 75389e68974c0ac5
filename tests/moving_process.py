"""The command, with small batches, to be killed: `python tests/moving_process.py import ...`."""

from __future__ import annotations

import sys

import squash.cli.moving.exporting
import squash.cli.moving.importing
import squash.cli.moving.reading
from squash.cli.main import main

if __name__ == "__main__":
    squash.cli.moving.exporting.SERVICE_PUT_MAX = 20
    squash.cli.moving.reading.SERVICE_LIST_PAGE_MAX = 20
    squash.cli.moving.importing.MOVE_BATCH_ROWS_MAX = 60
    sys.exit(main())
