"""docs/living.md names the limits as they are, and what it shows runs."""

import re
from pathlib import Path

import squash
from squash import limits

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "living.md").read_text(encoding="utf-8")


def test_what_living_shows_runs():
    index = squash.connect("memory://docs-living").create_index("x", dimension=2)
    names = {"squash": squash, "index": index, "v": [1.0, 2.0]}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)  # noqa: S102 - the page says it runs
    assert [(one.key, one.metadata) for one in index.get(keys=["a", "b"])] == [
        ("a", {"n": 3}),
        ("b", {"n": 1}),
    ]


def test_living_names_the_limits():
    """The numbers of the table, and of the sentences around it, are those of limits.py."""
    share = limits.FRESH_FOLD_SHARE
    commits, rows = limits.FRESH_COMMITS_MAX, limits.FRESH_ROWS_MAX
    megabytes = limits.FRESH_BYTES_MAX // limits.MIB
    for words in (
        f"(`FRESH_COMMITS_MAX`) | {share * commits:,.0f} | {commits:,}",
        f"(`FRESH_ROWS_MAX`) | {share * rows:,.0f} | {rows:,} |",
        f"(`FRESH_BYTES_MAX`) | {share * megabytes:.0f} MiB | {megabytes} MiB |",
        f"`Retry-After: {limits.FRESH_RETRY_AFTER_MS // 1000}`",
        f"makes the fresh ones {limits.FLATTEN_COMMITS}, or",
        f"their bytes {limits.FLATTEN_BYTES // limits.MIB} MiB",
        f"another {limits.FLATTEN_AGAIN_COMMITS} commits later",
        f"at most {limits.EXACT_ROWS_MAX:,} rows without partitions",
        f"{2 * limits.FOLD_ROWS_ROOT} times the square root",
        f"log({limits.FLAT_SEGMENT_ROWS_MAX:,} / n)",
        f"put, to {limits.INLINE_COMMIT_BYTES_MAX // limits.MIB} MiB and",
        f"and {limits.INLINE_COMMIT_ROWS_MAX:,} rows",
    ):
        assert words in " ".join(PAGE.split()), words
