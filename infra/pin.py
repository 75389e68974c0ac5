"""Let what `sam build` built be deployed only as what it is: `make build` runs it.

The layer holds one architecture's machine code and one Python's bytecode, while the template has
both as parameters. In the built template they allow, and default to, what the layer was built for:
CloudFormation refuses others before anything is changed.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Final

BUILT: Final = Path(__file__).resolve().parents[1] / ".aws-sam" / "build"


def pinned(template: str, values: dict[str, str]) -> str:
    """Return a built template whose parameters allow one value.

    Parameters
    ----------
    template:
        As `sam build` lays it out, in block style.
    values:
        The one value of each parameter.

    Raises
    ------
    ValueError
        If the template has no such parameter with a default and allowed values.

    """
    for name, value in values.items():
        place = re.compile(
            rf"(?P<head>^  {name}:\n(?:    .*\n)*?)    Default: .*\n"
            r"    AllowedValues:\n(?:    - .*\n)+",
            re.MULTILINE,
        )
        one = rf"\g<head>    Default: {value}\n    AllowedValues:\n    - {value}\n"
        template, count = place.subn(one, template, count=1)
        if count != 1:
            raise ValueError(f"the built template has no parameter {name} of a known layout")
    return template


def main() -> int:
    """Pin the template in `.aws-sam/build` to the layer beside it."""
    note = json.loads((BUILT / "LibraryLayer" / "BUILD.json").read_text())
    values = {"Architecture": note["architecture"], "Runtime": f"python{note['python']}"}
    template = BUILT / "template.yaml"
    template.write_text(pinned(template.read_text(), values))
    print("\nBuilt for {Architecture} and {Runtime}. Next: sam deploy --guided".format(**values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
