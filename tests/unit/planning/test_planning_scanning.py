"""How many rows pass from level to level, measured or not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from squash.planning import (
    BANDS,
    KEEP_MAX,
    KEPT_FOR,
    TARGETS,
    Calibration,
    Kept,
    keep_for,
)

NEEDED = np.full((len(TARGETS), len(BANDS)), 4.0)


def test_more_rows_are_kept_for_more_answers_and_higher_targets() -> None:
    """Every level keeps at least k."""
    for k in (1, 10, 100, 10_000):
        for low, high in ((0.5, 0.9), (0.9, 0.99), (0.99, 1.0)):
            assert k <= keep_for(k, low).refined <= keep_for(k, high).refined
            assert keep_for(k, low).refined <= keep_for(k, low).low <= keep_for(k, high).low
            assert 0 < keep_for(k, low).reach <= keep_for(k, high).reach


def kept_rows(*, more: float = 0.0) -> Kept:
    """As measured on codes that tell little apart: for ten answers 20 rows, then 30, and so on."""
    rows = np.array([3.0, 20.0, 130.0]) + np.arange(len(TARGETS))[:, None] * (10.0 + more)
    return Kept(rows)


def test_what_was_measured_is_kept_and_what_lies_between() -> None:
    """Beside the answers; never less than refinement begins with."""
    kept = kept_rows()
    for number, target in enumerate(TARGETS):
        for k, rows in zip(KEPT_FOR, kept.rows[number].tolist(), strict=True):
            assert kept.keep(k, target).refined == max(rows, k + k // 2)
    assert kept.keep(10, 0.5) == replace(
        kept.keep(10, 0.8), reach=keep_for(10, 0.5).reach, low=keep_for(10, 0.5).low
    )
    for k in (1, 2, 7, 10, 40, 100, 1_000, 10_000):
        refined = [kept.keep(k, target).refined for target in (0.8, 0.85, 0.9, 0.97, 0.99, 1.0)]
        assert refined == sorted(refined)
        assert k + k // 2 <= refined[0] <= refined[-1] <= KEEP_MAX
    beside = [kept.keep(k, 0.99).refined - k for k in (10, 30, 100)]
    assert beside == sorted(beside)


def test_kept_rows_are_read_again() -> None:
    """With the calibration; without them an index keeps as many rows as it did."""
    known = Calibration(NEEDED, kept=kept_rows())
    read = Calibration.from_json(json.loads(json.dumps(known.to_json())))
    assert read.keep(10, 0.99) == known.keep(10, 0.99) != keep_for(10, 0.99)
    assert known.scaled(measured=10, clusters=40).keep(10, 0.99) == known.keep(10, 0.99)
    assert "kept" not in Calibration(NEEDED).to_json()
    assert Calibration(NEEDED).keep(10, 0.99) == keep_for(10, 0.99)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": [[1.0, 10.0, 100.0]]},
        {"rows": [[1.0, 10.0, 99.0]] * len(TARGETS)},
        {"rows": [[1.0, 10.0, 1e9]] * len(TARGETS)},
        {"rows": [[1.0, 10.0, float("nan")]] * len(TARGETS)},
        {"answers": [1, 10, 50]},
    ],
)
def test_kept_rows_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    """Of another shape, fewer than the answers, or more than are ever looked at."""
    value = Calibration(NEEDED, kept=kept_rows()).to_json()
    value["kept"].update(wrong)
    with pytest.raises(ValueError, match="kept"):
        Calibration.from_json(value)


def test_what_a_fold_sees_raises_what_is_kept_only_where_it_is_much() -> None:
    """Else what is left to chance would add up from fold to fold."""
    kept = kept_rows()
    np.testing.assert_array_equal(kept.raised(kept_rows(more=1)).rows, kept.rows)
    raised = kept.raised(kept_rows(more=200)).rows
    np.testing.assert_array_equal(raised[3:], kept_rows(more=200).rows[3:])
    assert np.all(raised >= kept.rows)
