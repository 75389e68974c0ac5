"""docs/build.md says what a build does."""

import re
from pathlib import Path

import numpy as np

import squash
from squash import limits
from squash.maintain.bulk.stages import STAGES
from squash.maintain.bulk.tasks import plan

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "build.md").read_text(encoding="utf-8")
HOUR_MS = 3_600_000


def test_the_page_of_builds_runs(tmp_path):
    """Its Python builds an index of a folder, by processes."""
    (tmp_path / "papers").mkdir()
    rows = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)
    np.save(tmp_path / "papers" / "a.npy", rows)
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    names = {}
    exec(compile(block.replace("file:///data", tmp_path.as_uri()), "build.md", "exec"), names)  # noqa: S102 - that is the test
    assert names["status"].rows == 50
    assert squash.connect(str(tmp_path / "squash")).index("papers").stats().rows == 50


def test_the_page_of_builds_names_every_stage_in_its_order():
    section = PAGE.split("## Stages")[1].split("## ")[0]
    assert re.findall(r"^\| (\w+) \|", section, flags=re.MULTILINE)[1:] == list(STAGES)


def test_the_page_of_builds_states_the_limits_as_they_are():
    assert f"for more than {limits.BUILD_RESTS_MS_MAX // HOUR_MS} hours" in PAGE
    assert limits.GC_RETENTION_S_DEFAULT == 86_400
    assert "a day\nafter it gave way" in PAGE
    assert plan._NAMED_MAX == 100
    assert "up to a hundred" in PAGE
