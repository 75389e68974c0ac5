"""`python -m squash` is the `squash` command, for where its script is not on the path."""

import sys

from squash.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
