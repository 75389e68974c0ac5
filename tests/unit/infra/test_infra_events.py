"""What signs the events of the S3 Vectors API anew says what it needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from templates import ROOT

EVENT = "events/documents-put-vectors.json"
KEY = {"AWS_ACCESS_KEY_ID": "SQKA0123456789ABCDEF", "AWS_SECRET_ACCESS_KEY": "x"}


def sign(*words, **variables):
    kept = {name: value for name, value in os.environ.items() if name not in KEY}
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "events/sign.py", *words],
        cwd=ROOT,
        env=kept | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_event_is_signed_with_the_key_of_the_environment():
    """The credential is that key, and all else but the time is as it was."""
    done = sign(EVENT, **KEY)
    assert (done.returncode, done.stderr) == (0, "")
    given = json.loads((ROOT / EVENT).read_text("utf-8"))
    made = json.loads(done.stdout)
    assert f"Credential={KEY['AWS_ACCESS_KEY_ID']}/" in made["headers"]["authorization"]
    assert made | {"headers": 0} == given | {"headers": 0}


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        ([], KEY, "python events/sign.py EVENT.json"),
        ([EVENT], {}, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ([EVENT], KEY | {"AWS_SECRET_ACCESS_KEY": ""}, "set AWS_ACCESS_KEY_ID and"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(words, variables, said):
    done = sign(*words, **variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/deploy.md", "events/README.md"])
def test_commands_call_the_sam_that_make_installs(page):
    """There is none on the path of who has followed these pages."""
    text = (ROOT / page).read_text("utf-8")
    assert ".venv-sam/bin/sam " in text
    assert not re.search(r"^sam |`sam \w+ -", text, re.MULTILINE)
