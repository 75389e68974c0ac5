"""Conditional writes, patches, older snapshots, expiry, collection: what the interface adds."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from api_world import NOW_MS, HandClock, World

from squash.api.access import Caller, Scope
from squash.database import Index
from squash.limits import SNAPSHOT_EVERY_COMMITS
from squash.storage import MemoryStore

I = "/v1/indexes/papers"
Q, V, P = f"{I}/query", f"{I}/vectors", f"{I}/vectors/patch"
RED = {"team": "red"}


def keys(answer, name="records"):
    return sorted(one["key"] for one in answer.document[name])


def put(world, *names, path=V, **more):
    vectors = [{"key": name, "vector": [1, 1]} for name in names]
    return world.ask("POST", path, {"vectors": vectors, **more})


def test_a_put_if_absent_is_done_once(papers):
    """Of two the second is told which key is there; nothing of it is written."""
    assert put(papers, "d", "e", if_absent=True).status == 200
    before = papers.stored()
    again = put(papers, "f", "e", if_absent=True)
    assert (again.status, again.kind, again.document["key"]) == (409, "conflict", "e")
    assert papers.stored() == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (V, {"vectors": [{"key": "d", "vector": [1, 2]}]}),
        (P, {"patches": [{"key": "a", "metadata": {"year": 1}}]}),
        (f"{V}/delete", {"keys": ["a"]}),
        (f"{V}/delete", {"filter": {"year": 2021}}),
    ],
)
def test_a_write_may_depend_on_what_an_answer_saw(papers, path, body):
    """Its snapshot holds across folds, and no longer once a record changed."""
    seen = papers.ask("POST", Q, {"vector": [1, 0]}).document["snapshot"]
    papers.ask("POST", f"{I}/optimize")
    done = papers.ask("POST", path, {**body, "if_snapshot": seen})
    assert done.status == 200
    late = papers.ask("POST", path, {**body, "if_snapshot": seen})
    assert (late.status, late.kind) == (409, "conflict")


def test_a_write_that_is_repeated_with_its_commit_id_is_done_once(papers):
    """Conditions, too, are asked of the first time alone."""
    mark = {"commit_id": "ab" * 16}
    for path, body in (
        (V, {"vectors": [{"key": "d", "vector": [1, 2]}], "if_absent": True}),
        (P, {"patches": [{"key": "d", "metadata": {"n": 1}}]}),
        (f"{V}/delete", {"keys": ["d"]}),
    ):
        mark["commit_id"] = mark["commit_id"][1:] + "c"
        first = papers.ask("POST", path, {**body, **mark})
        before = papers.stored()
        again = papers.ask("POST", path, {**body, **mark})
        assert (first.status, again.status) == (200, 200)
        assert again.document["snapshot"] == first.document["snapshot"]
        assert papers.stored() == before


def test_a_patch_merges_and_keeps_vectors(papers):
    body = {"patches": [
        {"key": "a", "metadata": {"team": None, "new": [1, "x"]}}, {"key": "c", "metadata": {}},
    ]}  # fmt: skip
    done = papers.ask("POST", P, body)
    assert (done.status, done.document) == (200, {"snapshot": 2, "rows": 2})
    got = papers.ask("POST", f"{V}/get", {"keys": ["a", "c"]}).document["records"]
    assert got[0] == {"key": "a", "vector": [1.0, 0.0], "metadata": {"year": 2019, "new": [1, "x"]}}
    assert got[1]["metadata"] == {"year": 2024, "team": "red"}


def test_a_patch_of_what_is_not_there_changes_nothing(papers):
    before = papers.stored()
    body = {"patches": [{"key": key, "metadata": {"year": 1}} for key in ("a", "none")]}
    answer = papers.ask("POST", P, body)
    assert (answer.status, answer.kind, answer.document["key"]) == (404, "not-found", "none")
    assert papers.stored() == before


def test_writes_are_for_keys_that_may_write(papers):
    """A key with a row filter only reads: it cannot learn by a condition of rows it may not see."""
    tokens = [papers.key("read"), papers.key("admin"), papers.key("read", row_filter=RED)]
    before = papers.stored()
    for token in tokens:
        for body, path in (
            ({"vectors": [{"key": "b", "vector": [1, 2]}], "if_absent": True}, V),
            ({"patches": [{"key": "b", "metadata": {"team": "red"}}]}, P),
            ({"keys": ["b"], "if_snapshot": 0}, f"{V}/delete"),
        ):
            assert papers.ask("POST", path, body, key=token).status == 403
    assert papers.stored() == before
    writer = papers.key("write")
    for path in ("optimize", "gc"):
        assert papers.ask("POST", f"{I}/{path}", key=writer).status == 403
    assert papers.ask("GET", f"{I}/snapshots", key=writer).status == 403


def as_of_everywhere(world, as_of, **more):
    """The keys that each way of reading sees."""
    text = as_of if isinstance(as_of, str) else str(as_of)
    many = {"queries": [{"vector": [1, 0]}], "as_of": as_of, "top_k": 9}
    answers = world.ask("POST", Q, many, **more).document["answers"]
    query = f"include=none&as_of={text.replace('+', '%2B')}"
    return [
        keys(world.ask("POST", Q, {"vector": [1, 0], "as_of": as_of}, **more), "matches"),
        sorted(one["key"] for one in answers[0]["matches"]),
        keys(world.ask("POST", f"{V}/get", {"keys": [*"abcd"], "as_of": as_of}, **more)),
        keys(world.ask("GET", V, query=query, **more)),
    ]


@pytest.mark.parametrize("fraction", ["", ".5", ".123456"])
def test_a_plus_that_is_none_in_a_query_string(papers, fraction):
    """As Python and others write UTC: whoever puts it into a URL as it is reads what is wrong."""
    said = f"2026-01-31T12:00:00{fraction}"
    answer = papers.ask("GET", V, query=f"as_of={said}+00:00")
    assert (answer.status, answer.document["field"]) == (400, "as_of")
    assert "%2B" in answer.document["detail"]
    assert papers.ask("GET", V, query=f"as_of={said}%2B00:00").status == 404
    assert "%2B" not in papers.ask("GET", V, query="as_of=2026-01-31+12:00").document["detail"]


def test_older_snapshots_are_read_by_number_and_by_time(papers):
    """By query, queries, get and list; after folds too."""
    papers.clock.ms += 1_000
    put(papers, "d")
    papers.clock.ms += 1_000
    papers.ask("POST", f"{V}/delete", {"keys": ["a", "b"]})
    papers.ask("POST", f"{I}/optimize")
    states = {1: ["a", "b", "c"], 2: ["a", "b", "c", "d"], 3: ["c", "d"]}
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    for number, expected in states.items():
        moment = dt.datetime.fromtimestamp((NOW_MS + 1_000 * (number - 1)) / 1_000, zone)
        for as_of in (number, float(number), moment.isoformat()):
            if as_of != float(number) or isinstance(as_of, int):
                assert as_of_everywhere(papers, as_of) == [expected] * 4
    assert as_of_everywhere(papers, 4) == [["c", "d"]] * 4


def test_a_page_of_an_older_snapshot_is_followed_by_its_next(papers):
    seen, cursor = [], ""
    for name in "def":
        query = f"limit=1&as_of=1{cursor}"
        page = papers.ask("GET", V, query=query).document
        seen += [one["key"] for one in page["records"]]
        cursor = f"&cursor={page['cursor']}"
        put(papers, name)
    assert (sorted(seen), page["cursor"]) == (["a", "b", "c"], None)


def test_a_row_filter_holds_in_older_snapshots(papers):
    """It is asked of records as they were then."""
    papers.ask("POST", P, {"patches": [{"key": "a", "metadata": {"team": "blue"}}]})
    token = papers.key("read", row_filter=RED)
    assert as_of_everywhere(papers, 1, key=token) == [["a", "c"]] * 4
    assert as_of_everywhere(papers, 2, key=token) == [["c"]] * 4
    answer = papers.ask("GET", f"{I}/snapshots", key=token)
    assert (answer.status, answer.kind) == (403, "permission-denied")


def test_snapshots_are_listed_by_pages(papers):
    papers.clock.ms += 5
    papers.ask("POST", P, {"patches": [{"key": "a", "metadata": {}}]})
    papers.ask("POST", f"{V}/delete", {"keys": ["a", "b"]})
    papers.ask("POST", f"{I}/optimize")
    told = papers.ask("GET", f"{I}/snapshots", query="limit=3").document["snapshots"]
    assert [(one["snapshot"], one["operation"], one["rows"]) for one in told] == [
        (4, "fold", 1), (3, "delete", 2), (2, "put", 1),
    ]  # fmt: skip
    rest = papers.ask("GET", f"{I}/snapshots", query="before=2").document["snapshots"]
    assert rest == [{"snapshot": 1, "time_ms": NOW_MS, "operation": "put", "rows": 3}]
    assert told[-1]["time_ms"] == NOW_MS + 5


def test_what_expires_is_gone_from_then_on(world):
    made = world.ask("POST", "/v1/indexes", {"name": "papers", "dimension": 2, "expires": "until"})
    assert (made.status, made.document["expires"]) == (201, "until")
    assert world.ask("GET", I).document["expires"] == "until"
    records = [
        {"key": "a", "vector": [1, 0], "metadata": {"until": NOW_MS / 1000 + 10}},
        {"key": "b", "vector": [1, 0]},
    ]
    world.ask("POST", V, {"vectors": records})
    for after_ms, left in ((9_999, ["a", "b"]), (1, ["b"])):
        world.clock.ms += after_ms
        assert keys(world.ask("POST", Q, {"vector": [1, 0]}), "matches") == left
        assert keys(world.ask("POST", f"{V}/get", {"keys": ["a", "b"]})) == left
        assert keys(world.ask("GET", V)) == left


@pytest.mark.parametrize("full", [None, False, True])
def test_optimize_may_build_all_anew(papers, monkeypatch, full):
    seen = []
    plain = Index.optimize

    def optimize(self, *, full=False, **more):
        seen.append(full)
        return plain(self, **more)

    monkeypatch.setattr(Index, "optimize", optimize)
    body = None if full is None else {"full": full}
    assert papers.ask("POST", f"{I}/optimize", body).status == 200
    assert seen == [bool(full)]


@pytest.mark.parametrize("body", [None, {}, {"retention_s": 3_600}])
def test_gc_answers_with_what_was_removed(papers, monkeypatch, body):
    """Where there is no compactor; the retention is the library's own if none is given."""
    seen = []
    plain = Index.gc

    def gc(self, *arguments, **more):
        seen.append((arguments, more))
        return plain(self, *arguments, **more)

    monkeypatch.setattr(Index, "gc", gc)
    answer = papers.ask("POST", f"{I}/gc", body)
    assert answer.status == 200
    assert set(answer.document) == {
        "horizon", "horizon_ms", "removed", "spared", "unknown", "dry_run",
    }  # fmt: skip
    assert set(answer.document["removed"]["commits"]) == {"objects", "bytes"}
    assert seen == [((), body or {})]


def test_a_snapshot_that_was_collected_is_not_found():
    """By every way of reading, in words for the caller: it is nobody's fault, and no damage."""
    clock = HandClock()
    world = World(MemoryStore(clock), clock=clock).papers()
    for number in range(SNAPSHOT_EVERY_COMMITS + 2):
        put(world, f"k{number}")
    clock.ms += 40 * 86_400_000
    put(world, "late")
    collected = world.ask("POST", f"{I}/gc").document
    assert collected["removed"]["commits"]["objects"] > 0
    then = dt.datetime.fromtimestamp(NOW_MS / 1_000, dt.UTC).isoformat()
    for fresh in (False, True):
        asking = World(world.store, clock=clock) if fresh else world
        for as_of in (1, 30, "2001-01-01T00:00:00Z"):
            for answer in (
                asking.ask("POST", Q, {"vector": [1, 0], "as_of": as_of}),
                asking.ask("POST", f"{V}/get", {"keys": ["a"], "as_of": as_of}),
                asking.ask("GET", V, query=f"as_of={as_of}"),
            ):
                assert (answer.status, answer.kind) == (404, "not-found"), answer.document
                assert "log/" not in json.dumps(answer.raw)
        assert asking.ask("POST", Q, {"vector": [1, 0], "as_of": then}).status == 200
        told = asking.ask("GET", f"{I}/snapshots", query="limit=1000").document["snapshots"]
        oldest = told[-1]["snapshot"]
        assert asking.ask("POST", Q, {"vector": [1, 0], "as_of": oldest}).status == 200


def test_a_condition_is_told_in_words_that_name_no_object(papers):
    """What a conflict or a missing snapshot is told by is for the caller, not the store's."""
    for answer in (
        put(papers, "a", if_absent=True),
        put(papers, "z", if_snapshot=0),
        papers.ask("POST", Q, {"vector": [1, 0], "as_of": "2001-01-01T00:00:00Z"}),
    ):
        assert answer.status in {404, 409}
        assert "log/" not in json.dumps(answer.raw)


def test_callers_with_a_row_filter_may_not_write():
    """The rule that keeps conditional writes from telling of hidden rows."""
    from squash.errors import InvalidArgumentError

    world = World()
    with pytest.raises(InvalidArgumentError):
        world.key("read", "write", row_filter=RED)
    assert Caller("x", frozenset({Scope.READ}), ("*",), RED).row_filter == RED
