"""Each subcommand: what it does, what it says, and how it fails."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_files import lines

from squash import limits, reports


def test_create_hands_every_option_to_the_face(run, face):
    done = run(
        "create", "papers", "--dimension", 3, "--metric", "dot", "--attribute", "year=number",
        "--attribute", "a=b=string[]", "--non-filterable", "text", "--codec", "osq", "--seed", 7,
        "--expires", "until", "--json",
    )  # fmt: skip
    assert done.status == 0
    assert done.document == {
        "name": "papers",
        "dimension": 3,
        "metric": "dot",
        "encoder": None,
        "attributes": {"year": "number", "a=b": "string[]"},
        "non_filterable": ["text"],
        "expires": "until",
        "codec": "osq",
        "seed": 7,
        "created_ms": 0,
    }


def test_create_of_an_index_that_is_there_fails_with_a_conflict(run, papers):
    done = run("create", "papers", "--dimension", 2, "--json")
    assert done.status == 1
    assert done.problem["type"] == "urn:squash:conflict"
    assert done.problem["index"] == "papers"


def test_put_writes_all_records_of_a_file_in_one_commit(run, papers, tmp_path):
    before = papers.snapshot
    file = lines(
        tmp_path / "r.jsonl",
        {"key": "d", "vector": [1, 2.5], "metadata": {"year": 2022}},
        {"key": "e", "vector": [3, 4]},
    )
    done = run("put", "papers", file, "--json")
    assert (done.status, done.document) == (0, {"snapshot": before + 1, "rows": 2})
    assert papers.records["d"].vector.tolist() == [1, 2.5]
    assert papers.records["e"].metadata == {}


def test_put_if_absent_names_the_key_that_is_there_and_its_line(run, papers, tmp_path):
    file = lines(tmp_path / "r.jsonl", *({"key": key, "vector": [1, 2]} for key in "da"))
    before = dict(papers.records)
    done = run("put", "papers", file, "--if-absent", "--json")
    assert (done.status, done.problem["type"]) == (1, "urn:squash:conflict")
    assert done.problem["key"] == "a"
    assert "r.jsonl line 2" in done.problem["detail"]
    assert papers.records == before
    assert (
        run("put", "papers", lines(file, {"key": "d", "vector": [1, 2]}), "--if-absent").status == 0
    )


def test_writes_may_depend_on_a_snapshot(run, papers, tmp_path):
    """Put, patch and delete hand the number on."""
    put = lines(tmp_path / "put.jsonl", {"key": "d", "vector": [1, 2]})
    patch = lines(tmp_path / "patch.jsonl", {"key": "a", "metadata": {"year": 1}})
    writes = [("put", "papers", put), ("patch", "papers", patch), ("delete", "papers", "a")]
    writes.append(("delete", "papers", "--filter", '{"year": 2021}'))
    for words in writes:
        old = papers.snapshot - 1
        done = run(*words, "--if-snapshot", old, "--json")
        assert (done.status, done.problem["type"]) == (1, "urn:squash:conflict")
        assert run(*words, "--if-snapshot", papers.snapshot).status == 0


def test_patch_changes_metadata_and_keeps_vectors(run, papers, tmp_path):
    file = lines(
        tmp_path / "p.jsonl",
        {"key": "c", "metadata": {"tags": None, "team": "red"}},
        {"key": "a", "metadata": {}},
    )
    before = papers.snapshot
    done = run("patch", "papers", file, "--json")
    assert (done.status, done.document) == (0, {"snapshot": before + 1, "rows": 2})
    assert papers.records["c"].metadata == {"year": 2021, "team": "red"}
    assert papers.records["c"].vector.tolist() == [0, 3]
    assert "Patched 2 records" in run("patch", "papers", file).out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"key": "a"}, 'needs "metadata"'),
        ({"key": "a", "metadata": None}, "is to be an object"),
        ({"key": "a", "metadata": {}, "vector": [1, 2]}, "no 'vector'"),
        ({"metadata": {}}, 'needs a "key"'),
        ({"key": "b", "metadata": {}}, "stands in line 1 already"),
        ({"key": "none", "metadata": {}}, "p.jsonl line 2"),
    ],
)
def test_patch_of_a_bad_line_names_it_and_changes_nothing(run, papers, tmp_path, line, words):
    before = dict(papers.records)
    file = lines(tmp_path / "p.jsonl", {"key": "b", "metadata": {"year": 1}}, line)
    done = run("patch", "papers", file)
    assert done.status == 1
    assert words in done.err
    assert "p.jsonl line 2" in done.err
    assert papers.records == before


def test_patch_of_nothing_is_refused(run, papers, tmp_path):
    done = run("patch", "papers", lines(tmp_path / "p.jsonl"))
    assert (done.status, "nothing was patched" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["get", "papers", "a"], ["get"]),
        (["list", "papers"], ["list"]),
        (["query", "papers", "[0, 0]"], ["query"]),
        (["query", "papers", "--like", "a"], ["get", "query"]),
    ],
)
def test_reads_may_be_of_an_older_snapshot(run, papers, words, asked):
    import datetime as dt

    moment = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    for text, as_of in (("1", 1), ("2026-01-31T12:00:00Z", moment)):
        papers.asked.clear()
        assert run(*words, "--as-of", text).status == 0
        assert papers.asked == [(name, as_of) for name in asked]


def test_list_of_an_older_snapshot_goes_on_in_it(run, papers):
    assert "--as-of 1" in run("list", "papers", "--limit", 2, "--as-of", 1).out
    when = "2026-01-31T12:00:00+00:00"
    assert f"--as-of {when}" in run("list", "papers", "--limit", 2, "--as-of", when).out


def test_snapshots_are_listed_by_pages(run, papers):
    for _ in range(3):
        papers._commit(0)
    done = run("snapshots", "papers", "--limit", 2, "--json")
    assert done.document == {
        "snapshots": [
            {"snapshot": 4, "time_ms": 1_700_000_000_004, "operation": "put", "rows": 4},
            {"snapshot": 3, "time_ms": 1_700_000_000_003, "operation": "put", "rows": 3},
        ]
    }
    shown = run("snapshots", "papers", "--limit", 2).out
    assert "2023-11-14T22:13:20.004+00:00" in shown
    assert "squash snapshots papers --before 3" in shown
    last = run("snapshots", "papers", "--limit", 2, "--before", 3).out
    assert "more" not in last


def test_optimize_may_build_all_anew(run, papers):
    assert run("optimize", "papers").status == 0
    assert papers.full is False
    assert run("optimize", "papers", "--full").status == 0
    assert papers.full is True


def test_put_reads_standard_input(run, papers, monkeypatch):
    class Stdin:
        buffer = io.BytesIO(b'{"key": "d", "vector": [1, 2]}\n\n')

    monkeypatch.setattr(sys, "stdin", Stdin)
    assert run("put", "papers", "-").status == 0
    assert "d" in papers.records


def test_put_of_a_bad_line_names_it_and_puts_nothing(run, papers, tmp_path):
    before = dict(papers.records)
    file = lines(tmp_path / "r.jsonl", {"key": "d", "vector": [1, 2]}, {"key": "e"})
    done = run("put", "papers", file)
    assert done.status == 1
    assert "r.jsonl line 2:" in done.err
    assert papers.records == before


def test_put_names_the_line_of_a_record_that_the_index_refuses(run, papers, tmp_path):
    file = lines(
        tmp_path / "r.jsonl", {"key": "d", "vector": [1, 2]}, {"key": "", "vector": [1, 2]}
    )
    done = run("put", "papers", file)
    assert done.status == 1
    assert "It stands in r.jsonl line 2." in done.err


def test_put_of_no_record_fails(run, papers, tmp_path):
    done = run("put", "papers", lines(tmp_path / "r.jsonl"))
    assert done.status == 1
    assert "holds no record" in done.err


def test_put_of_too_many_records_points_to_import(run, papers, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PUT_FILE_ROWS_MAX", 1)
    file = lines(
        tmp_path / "r.jsonl", {"key": "d", "vector": [1, 2]}, {"key": "e", "vector": [1, 2]}
    )
    done = run("put", "papers", file, "--json")
    assert done.problem["type"] == "urn:squash:too-large"
    assert "squash import" in done.problem["detail"]


def test_query_by_vector_shows_the_nearest_first(run, papers):
    done = run("query", "papers", "[0.9, 0]", "--top-k", 2)
    assert done.status == 0
    assert [line.split()[0] for line in done.out.splitlines()] == ["key", "b", "a"]


def test_query_with_a_filter_gives_a_document(run, papers):
    done = run("query", "papers", "[0, 0]", "--filter", '{"year": {"$gte": 2020}}', "--json")
    assert [match["key"] for match in done.document["matches"]] == ["b", "c"]
    assert done.document["matches"][0] == {"key": "b", "distance": 1.0, "metadata": {"year": 2020}}
    assert done.document["usage"]["levels"][0] == {
        "name": "filter",
        "candidates": 3,
        "survivors": 2,
    }
    assert "explain" not in done.document


def test_query_like_a_record_leaves_the_record_out(run, papers):
    done = run("query", "papers", "--like", "a", "--top-k", 1, "--json")
    assert [match["key"] for match in done.document["matches"]] == ["b"]


def test_query_like_a_record_that_fails_the_filter_still_gives_top_k(run, papers):
    done = run(
        "query", "papers", "--like", "a", "--top-k", 1, "--filter", '{"year": 2021}', "--json"
    )
    assert [match["key"] for match in done.document["matches"]] == ["c"]


def test_query_like_a_record_is_not_answered_with_one_match_less_than_asked(run, papers):
    """The record itself takes the place of one."""
    done = run("query", "papers", "--like", "a", "--top-k", 10_000, "--json")
    assert done.status == 2
    assert "--top-k is at most 9,999" in done.problem["detail"]
    done = run("query", "papers", "--like", "a", "--top-k", 9_999, "--json")
    assert len(done.document["matches"]) == 2


def test_query_like_a_missing_record_fails(run, papers):
    done = run("query", "papers", "--like", "zzz", "--json")
    assert (done.status, done.problem["type"]) == (1, "urn:squash:not-found")


def test_query_from_a_file_of_one_vector_or_several(run, papers, tmp_path):
    np.save(tmp_path / "one.npy", np.array([0.0, 2.9]))
    done = run("query", "papers", f"@{tmp_path / 'one.npy'}", "--top-k", 1, "--json")
    assert done.document["matches"][0]["key"] == "c"
    np.save(tmp_path / "two.npy", np.array([[0.0, 2.9], [0.9, 0.0]]))
    done = run("query", "papers", f"@{tmp_path / 'two.npy'}", "--top-k", 1, "--json")
    assert [a["matches"][0]["key"] for a in done.document["answers"]] == ["c", "b"]


def test_query_explains_level_by_level(run, papers):
    done = run("query", "papers", "[0, 0]", "--explain")
    assert "candidates" in done.out
    assert "plan: scan all matches;" in done.out
    assert "expected: walk clusters 1,234 µs, scan all matches 56 µs (taken)" in done.out
    done = run("query", "papers", "[0, 0]", "--explain", "--json")
    assert done.document["explain"]["clusters_total"] == 4


def test_query_includes_what_was_asked_for(run, papers):
    done = run("query", "papers", "[0, 0]", "--include", "vector", "--top-k", 1, "--json")
    assert done.document["matches"] == [{"key": "a", "distance": 0.0, "vector": [0.0, 0.0]}]
    done = run("query", "papers", "[0, 0]", "--include", "none", "--top-k", 1, "--json")
    assert done.document["matches"] == [{"key": "a", "distance": 0.0}]


def test_a_filter_error_names_the_place(run, papers):
    done = run("query", "papers", "[0, 0]", "--filter", '{"$near": 1}', "--json")
    assert done.status == 1
    assert done.problem["type"] == "urn:squash:invalid-filter"
    assert done.problem["field"] == "$near"
    assert "$near" in run("query", "papers", "[0, 0]", "--filter", '{"$near": 1}').err


@pytest.mark.parametrize(
    ("vector", "status"),
    [
        ("[0, 0", 2), ("{}", 2), ("[]", 2), ('["a", 1]', 2), ("[true, 1]", 2), ("[NaN, 1]", 2),
        ("[1e400, 1]", 1), ("[1e39, 1]", 1), ("[1, 2, 3]", 1), ("@no-such-file.npy", 1),
    ],
)  # fmt: skip
def test_a_query_vector_that_is_none_is_refused(run, papers, vector, status):
    done = run("query", "papers", vector, "--json")
    assert (done.status, done.out) == (status, "")
    assert done.problem["detail"]


def test_get_shows_what_is_there_and_fails_for_what_is_not(run, papers):
    done = run("get", "papers", "a", "zzz", "--json")
    assert done.status == 1
    assert done.document["records"] == [
        {"key": "a", "metadata": {"year": 2019}, "vector": [0.0, 0.0]}
    ]
    assert "'zzz'" in done.problem["detail"]
    assert run("get", "papers", "a").status == 0


def test_delete_by_keys_and_by_filter(run, papers):
    assert run("delete", "papers", "a", "zzz", "--json").document["rows"] == 2
    assert run("delete", "papers", "--filter", '{"year": 2021}', "--json").document["rows"] == 1
    assert set(papers.records) == {"b"}


@pytest.mark.parametrize("words", [(), ("a", "--filter", "{}")])
def test_delete_wants_keys_or_a_filter_and_not_both(run, papers, words):
    assert run("delete", "papers", *words).status == 2
    assert len(papers.records) == 3


def test_list_shows_indexes_and_pages_of_records(run, papers):
    assert "papers" in run("list").out
    assert [index["name"] for index in run("list", "--json").document["indexes"]] == ["papers"]
    page = run("list", "papers", "--limit", 2, "--json").document
    assert [record["key"] for record in page["records"]] == ["a", "b"]
    rest = run("list", "papers", "--limit", 2, "--cursor", page["cursor"], "--json").document
    assert ([record["key"] for record in rest["records"]], rest["cursor"]) == (["c"], None)
    assert "--cursor b" in run("list", "papers", "--limit", 2).out


def test_list_of_an_empty_store_says_so(run):
    assert run("list").out == "There is no index yet.\n"


def test_stats_shows_every_number(run, papers):
    done = run("stats", "papers")
    assert "12,345" in done.out
    assert "year: number" in done.out
    document = run("stats", "papers", "--json").document
    assert document["rows"] == 3
    assert document["attributes"] == {"year": "number"}


def test_optimize_reports_its_snapshot(run, papers):
    done = run("optimize", "papers", "--json")
    assert (done.status, done.document) == (0, {"snapshot": papers.snapshot, "rows": 3})


def test_verify_fails_if_anything_is_damaged(run, papers):
    assert "all as it must be" in run("verify", "papers").out
    papers.damages = (reports.Damage("segments/1/codes", "its checksum differs"),)
    done = run("verify", "papers")
    assert done.status == 1
    assert "segments/1/codes" in done.out
    assert run("verify", "papers", "--json").document["damages"][0]["problem"]


def test_drop_wants_a_yes(run, papers, face):
    assert run("drop", "papers").status == 2
    assert "papers" in face.indexes
    done = run("drop", "papers", "--yes", "--json")
    assert (done.status, done.document) == (0, {"dropped": "papers"})
    assert face.indexes == {}


@pytest.mark.usefixtures("papers")
@pytest.mark.parametrize(("reply", "kept"), [("y\n", False), ("\n", True), ("no\n", True)])
def test_drop_asks_at_a_terminal(run, face, monkeypatch, reply, kept):
    class Stdin(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Stdin(reply))
    assert (run("drop", "papers").status == 0) != kept
    assert ("papers" in face.indexes) == kept


@pytest.mark.parametrize(
    "command",
    [
        ("put", "none", "/dev/null"), ("import", "none", "x.npy"), ("query", "none", "[1]"),
        ("get", "none", "a"), ("delete", "none", "a"), ("list", "none"), ("stats", "none"),
        ("optimize", "none"), ("verify", "none"), ("drop", "none", "--yes"),
    ],
)  # fmt: skip
def test_a_missing_index_is_a_failure_of_every_command(run, command):
    done = run(*command, "--json")
    assert (done.status, done.problem["type"]) == (1, "urn:squash:not-found")
    assert done.out == ""


def test_the_store_is_the_option_or_the_environment_or_a_folder_here(
    run, face, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    run("list")
    assert face.asked == ((tmp_path / ".squash").as_uri(), None, None)
    monkeypatch.setenv("SQUASH_STORE", "s3://bucket/prefix")
    run("list", "--endpoint-url", "http://127.0.0.1:1", "--region", "r")
    assert face.asked == ("s3://bucket/prefix", "http://127.0.0.1:1", "r")
    run("--store", "memory://", "list")
    assert face.asked[0] == "memory://"
    run("list", "--store", "data")
    assert face.asked[0] == (tmp_path / "data").as_uri()


def test_what_is_stored_cannot_command_the_terminal(run, papers):
    papers.put(
        keys=["\x1b[2J[red]"],
        vectors=np.zeros((1, 2), dtype=np.float32),
        metadata=[{"note": "\x07 [bold]\nnext"}],
    )
    out = run("list", "papers").out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "[red]" in out


def test_a_file_that_is_not_there_is_named(run, papers, tmp_path):
    done = run("put", "papers", tmp_path / "none.jsonl", "--json")
    assert done.status == 1
    assert "none.jsonl: No such file" in done.problem["detail"]


def test_a_terminal_without_unicode_gets_escapes():
    """Keys that the encoding of standard output lacks are escaped, and stop nothing."""
    program = (
        "import sys, squash.cli.main as m, numpy as np\n"
        "from cli_fake_face import FakeDatabase\n"
        "face = FakeDatabase()\n"
        "m.connect = face.connect\n"
        "m.main(['create', 'a', '--dimension', '1', '--json'])\n"
        "face.indexes['a'].put(keys=['\u00e9'], vectors=np.ones((1, 1), dtype=np.float32))\n"
        "sys.exit(m.main(['list', 'a']))\n"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program],
        env={
            "PYTHONPATH": f"{Path(__file__).parent}:{':'.join(sys.path)}",
            "PYTHONIOENCODING": "ascii",
        },
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\xe9" in done.stdout


def test_a_reader_that_goes_away_is_no_accident():
    """A closed pipe ends the command with status 1 and without a stack trace."""
    program = (
        "import sys, squash.cli.main as m\n"
        "from cli_fake_face import FakeDatabase\n"
        "m.connect = FakeDatabase().connect\n"
        "class Gone:\n"
        "    isatty = lambda self: False\n"
        "    fileno = sys.__stdout__.fileno\n"
        "    def write(self, text): raise BrokenPipeError\n"
        "    def flush(self): pass\n"
        "sys.stdout = Gone()\n"
        "sys.exit(m.main(['list']))\n"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{Path(__file__).parent}:{':'.join(sys.path)}"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, b"")
