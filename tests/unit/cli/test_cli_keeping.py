"""`squash gc`, `squash repair` and what `squash verify` says of the unreferenced."""

import pytest

from squash import reports


def test_gc_of_one_index(run, papers):
    done = run("gc", "papers", "--retention", "7d")
    assert done.status == 0
    assert papers.retention_s == 7 * 86_400
    assert "readable from" in done.out
    assert "450" in done.out
    document = run("gc", "papers", "--dry-run", "--json").document
    assert document["dry_run"] is True
    assert document["removed"]["commits"] == {"objects": 4, "bytes": 400}
    assert papers.retention_s == 86_400
    assert run("gc", "papers", "--retention", "soon").status == 2


def test_gc_of_all_indexes(run, papers):
    """What could not be collected is a failure, said after what was."""
    done = run("gc")
    assert done.status == 1
    assert "papers" in done.out
    assert "bad was left as it is: damaged" in done.out
    assert "squash drop old" in done.out
    document = run("gc", "--json").document
    assert document["indexes"]["papers"]["horizon"] == 64
    assert document["left"] == ["old"]


def test_repair_fails_if_anything_is_left(run, papers):
    papers.damages = (reports.Damage("segments/a/vectors", "has another checksum"),)
    done = run("repair", "papers")
    assert done.status == 1
    assert "written anew" in done.out
    assert "2 rows cannot be read back, k1 among them: --drop-lost" in done.out
    done = run("repair", "papers", "--drop-lost")
    assert done.status == 0
    assert "as it must be" in done.out
    assert run("repair", "papers", "--json").document["lost_keys"] == ["k1"]


def test_a_trial_says_that_there_is_nothing_to_mend(run, papers, monkeypatch):
    """And nothing else only after something."""
    sound = reports.RepairReport((), (), 0, (), (), dry_run=True)
    monkeypatch.setattr(papers, "repair", lambda **_: sound)
    assert run("repair", "papers", "--dry-run").out.strip() == "The newest state is as it must be."


def test_verify_counts_what_nothing_names(run, papers, monkeypatch):
    found = reports.VerifyReport(3, 999, 3, (), reports.ObjectCount(2, 64))
    monkeypatch.setattr(papers, "verify", lambda **_: found)
    done = run("verify", "papers")
    assert done.status == 0
    assert "Read 3 objects, 999 bytes, 3 rows: all" in done.out
    assert "Nothing names 2 objects, 64 bytes" in done.out
    one = reports.VerifyReport(1, 999, 1, (), reports.ObjectCount(0, 0))
    monkeypatch.setattr(papers, "verify", lambda **_: one)
    assert "Read 1 object, 999 bytes, 1 row: all" in run("verify", "papers").out


@pytest.mark.parametrize("verb", ["gc", "repair"])
def test_an_index_that_is_not_there(run, verb):
    assert run(verb, "none").status == 1
