"""Holding every acknowledged row to account, after all writers were killed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from kill_processes import (
    SHARED,
    Place,
    check_record,
    group_keys,
    metadata_of,
    own_keys,
    read_journal,
    vectors_of,
)
from squash.database import Index

# Writer, the operation that put it, and the one that patched it last; None if it is not there.
Value = tuple[int, int, int | None] | None


@dataclass
class Verdict:
    """What became of the index, and of what its writers were told."""

    store: str = ""
    seconds: float = 0.0
    kills: dict[str, int] = field(default_factory=dict)
    writes_acknowledged: int = 0
    rows_acknowledged: int = 0
    """Put or deleted by key."""
    writes_refused: int = 0
    """By a condition, or for want of the record."""
    unanswered: int = 0
    """Writes that were begun and never answered."""
    repeated: int = 0
    folds: int = 0
    folds_refused: int = 0
    objects_collected: int = 0
    reads: int = 0
    commits: int = 0
    rows_checked: int = 0
    rows_there: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    """What ended a process that nobody had killed."""

    def good(self) -> bool:
        return not (self.lost or self.wrong or self.damages or self.died)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"kills_total": sum(self.kills.values()), "good": self.good()}


@dataclass
class Intent:
    """One write of one writer: what it was, and the snapshot it was answered with."""

    writer: int
    op: int
    do: str
    keys: list[str]
    below: int = 0
    snapshot: int | None = None
    refused: bool = False


def judge(place: Place, verdict: Verdict) -> Verdict:
    """Hold an index that nobody writes to any more against the journals."""
    intents = {writer: list(_intents(place, writer, verdict)) for writer in range(place.writers)}
    for name in ("folder", "reader0", "reader1"):
        for line in read_journal(place.journal(name)):
            verdict.folds += "folded" in line
            verdict.folds_refused += "refused" in line
            verdict.reads += line.get("reads", 0)
            verdict.objects_collected += line.get("collected", 0)
            if "wrong" in line:
                verdict.wrong.append(f"{name}: {line['wrong']}")
    index = place.open()
    found = _found(index, verdict)
    for writer, done in intents.items():
        _judge_own(writer, done, found, verdict)
    _judge_shared([one for done in intents.values() for one in done], found, verdict)
    known = {key for w in range(place.writers) for key in own_keys(w) + group_keys(w)} | {*SHARED}
    verdict.wrong += [f"{key} was never written" for key in found.keys() - known]
    verdict.damages += [f"{one.object_key}: {one.problem}" for one in index.verify().damages]
    verdict.commits = index.put(
        keys=["last"], vectors=vectors_of(["last"], 0, 0), metadata=metadata_of(["last"], 0, 0)
    ).snapshot
    return verdict


def _intents(place: Place, writer: int, verdict: Verdict) -> Iterator[Intent]:
    last: Intent | None = None
    for line in read_journal(place.journal(f"writer{writer}")):
        if "do" in line:
            if last is not None:
                yield last
            last = Intent(
                writer, line["op"], line["do"], line.get("keys", []), line.get("below", 0)
            )
        elif "refused" in line:
            assert last is not None
            last.refused = line["sure"]
            verdict.writes_refused += 1
        elif "ok" in line:
            assert last is not None
            assert last.op == line["op"]
            last.snapshot = line["ok"]
            verdict.writes_acknowledged += 1
            verdict.rows_acknowledged += len(last.keys)
            verdict.repeated += line["repeated"]
        else:
            verdict.wrong.append(f"writer {writer}: {line['wrong']}")
    if last is not None:
        yield last


def _found(index: Index, verdict: Verdict) -> dict[str, Value]:
    found: dict[str, Value] = {}
    cursor = None
    while True:
        page = index.list(cursor=cursor, include=("metadata", "vector"))
        for record in page.records:
            if record.key in found:
                verdict.wrong.append(f"{record.key} was listed twice")
            problem = check_record(record.vector, dict(record.metadata))
            if problem:
                verdict.wrong.append(f"{record.key}: {problem}")
            found[record.key] = (
                record.metadata["writer"],
                record.metadata["op"],
                record.metadata.get("patched"),
            )
        cursor = page.cursor
        if cursor is None:
            verdict.rows_there = len(found)
            return found


def _judge_own(
    writer: int, intents: list[Intent], found: dict[str, Value], verdict: Verdict
) -> None:
    """Only this writer wrote these: they hold what it was told last, or what it began later.

    What an unanswered write did happened before the writer's next one began, if it happened.
    """
    keys = own_keys(writer) + group_keys(writer)
    possible: dict[str, set[Value]] = {key: {None} for key in keys}
    for intent in intents:
        if intent.do == "put shared":
            continue
        verdict.unanswered += intent.snapshot is None and not intent.refused
        for key in keys if intent.do == "delete where" else intent.keys:
            if intent.refused:
                continue
            after = {_after(intent, value) for value in possible[key]}
            possible[key] = after if intent.snapshot is not None else possible[key] | after
    for key in keys:
        verdict.rows_checked += 1
        if found.get(key) not in possible[key]:
            verdict.lost.append(f"{key} is {found.get(key)}, not one of {possible[key]}")
    groups = {found.get(key) for key in group_keys(writer)}
    if len(groups) != 1:
        verdict.wrong.append(f"half of a write of writer {writer} is there: {groups}")


def _after(intent: Intent, value: Value) -> Value:
    if intent.do in {"put", "put if absent"}:
        return (intent.writer, intent.op, None)
    if intent.do == "patch":
        return None if value is None else (value[0], value[1], intent.op)
    if intent.do == "delete":
        return None
    return None if value is None or value[1] < intent.below else value


def _judge_shared(intents: list[Intent], found: dict[str, Value], verdict: Verdict) -> None:
    """All wrote these: they hold what was answered with the latest snapshot, or is unanswered."""
    latest: dict[str, tuple[int, Value]] = {}
    unanswered: dict[str, set[Value]] = defaultdict(set)
    for intent in intents:
        if intent.do != "put shared":
            continue
        for key in intent.keys:
            value = (intent.writer, intent.op, None)
            if intent.snapshot is None:
                unanswered[key].add(value)
            elif intent.snapshot > latest.get(key, (0, None))[0]:
                latest[key] = (intent.snapshot, value)
        verdict.unanswered += intent.snapshot is None
    for key in SHARED:
        verdict.rows_checked += 1
        possible = unanswered[key] | {latest.get(key, (0, None))[1]}
        if found.get(key) not in possible:
            verdict.lost.append(f"{key} is {found.get(key)}, not one of {possible}")
