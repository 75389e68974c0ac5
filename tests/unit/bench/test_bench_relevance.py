"""The arithmetic of judged retrieval, and the judged sets themselves."""

import hashlib
import math
import sys

import pytest

from templates import ROOT

sys.path.insert(0, str(ROOT / "bench"))

import judged
from relevance import average_precision, ndcg, recall, scores

GRADES = {"a": 3, "b": 2, "c": 1}


def test_ndcg_by_hand():
    """A grade is worth 7, 3 or 1; places 1, 2, 3 divide by 1, log2(3), 2."""
    best = 7 + 3 / math.log2(3) + 1 / 2
    assert ndcg(["a", "b", "c"], GRADES) == 1.0
    assert ndcg(["b", "x", "a"], GRADES) == pytest.approx((3 + 7 / 2) / best)
    assert ndcg(["b", "x", "a"], GRADES) == pytest.approx(0.6920, abs=1e-4)
    assert ndcg(["x", "y"], GRADES) == 0.0
    assert ndcg([], GRADES) == 0.0


def test_ndcg_looks_at_the_first_k_only_of_answer_and_ideal():
    ranked = ["x", "a", "b"]
    assert ndcg(ranked, GRADES, k=1) == 0.0
    assert ndcg(ranked, GRADES, k=2) == pytest.approx((7 / math.log2(3)) / (7 + 3 / math.log2(3)))


def test_average_precision_by_hand():
    """Relevant ones at places 1 and 3 of three: (1/1 + 2/3 + 0) / 3."""
    assert average_precision(["b", "x", "a"], GRADES) == pytest.approx((1 + 2 / 3) / 3)
    assert average_precision(["b", "x", "a"], GRADES, k=2) == pytest.approx(1 / 3)
    assert average_precision(["x"], GRADES) == 0.0


def test_recall_by_hand():
    assert recall(["b", "x", "a"], GRADES) == pytest.approx(2 / 3)
    assert recall(["b", "x", "a"], GRADES, k=1) == pytest.approx(1 / 3)


def test_scores_are_means_and_take_the_top_from_its_own_answers():
    found = scores([["a"], ["x"]], [["x", "a"], ["a"]], [{"a": 1}, {"a": 2}])
    assert (found.ndcg, found.precision, found.recall) == (0.5, 0.75, 1.0)


@pytest.mark.parametrize(
    ("tops", "judgments"),
    [
        ([["a", "a"]], [{"a": 1}]),
        ([["a"]], [{}]),
        ([["a"]], []),
        ([], []),
    ],
    ids=["twice", "nothing relevant", "unequal", "none"],
)
def test_scores_refuse_what_cannot_be_judged(tops, judgments):
    with pytest.raises(ValueError, match=r"."):
        scores(tops, tops, judgments)


def test_cranfield_is_whole():
    """1,400 documents and 225 questions, as the collection has; all answerable."""
    found = judged.cranfield()
    assert (len(found.documents), len(found.questions)) == (1_400, 225)
    assert sum(map(len, found.judgments)) == 1_612
    assert all(found.judgments)
    assert {grade for grades in found.judgments for grade in grades.values()} == {1, 2, 3, 4}
    assert found.documents[0].startswith("experimental investigation of the aerodynamics of a wing")
    assert found.questions[0].startswith("what similarity laws must be obeyed")
    # 184 is "scale models for thermo-aeroelastic research", of a high degree of relevance.
    assert found.judgments[0][183] == 3
    assert "scale models for thermo-aeroelastic research" in found.documents[183]


def test_cranfield_is_the_file_that_its_note_names():
    note = (ROOT / "bench" / "CRANFIELD").read_text(encoding="utf-8")
    assert hashlib.sha256(judged.CRANFIELD.read_bytes()).hexdigest() in note
    for name, sha256 in judged.CRANFIELD_FILES.items():
        assert name in note
        assert sha256 in note


def test_fields_of_smart_records():
    text = ".I 1\n.T\na title\nof two lines .\n.W\nwords\n.I 2\n.T\n.W\nmore\n"
    assert list(judged.fields(text)) == [
        {"T": "a title of two lines .", "W": "words"},
        {"T": "", "W": "more"},
    ]


def test_definitions_of_tags():
    vocabulary = (
        "Facet: use\nDescription: Purpose\n\n"
        "Tag: use::editing\nDescription: Editing\n\n"
        "Tag: use::scan\nStatus: draft\nDescription: Scanning\n Reads paper\n by light.\n"
        " .\n More.\n"
    )
    assert judged.definitions(vocabulary) == {
        "use::editing": "Editing",
        "use::scan": "Scanning. Reads paper by light.",
    }


def test_half_keeps_about_half_and_judges_on_it_alone():
    found = judged.titles()
    condition, rows = found.half()
    limit = condition["installed_kb"]["$lte"]
    assert 0.4 <= len(rows) / len(found.documents) <= 0.6
    assert all(found.number[row] <= limit for row in rows)
    half = found.among(rows)
    assert 0 < len(half.questions) < len(found.questions)
    assert {row for grades in half.judgments for row in grades} <= set(rows)
