"""The verbs that keep an index sound and small: `verify`, `repair`, `gc`."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from squash.api.documents import (
    database_gc_document,
    gc_document,
    repair_document,
    verify_document,
)
from squash.cli.output import Output, Table, counted
from squash.cli.statuses import FAILED, SUCCEEDED
from squash.reports import Damage, GcReport, ObjectCount

if TYPE_CHECKING:
    # The commands are handed an open database: which one is the caller's affair.
    from squash.database import Database


def verify(arguments: Namespace, database: Database, output: Output) -> int:
    """Read and check everything stored of an index; damage is a failure."""
    index = database.index(arguments.index)
    with output.progress() as report:
        found = index.verify(progress=report)
    objects, rows = counted(found.objects, "object"), counted(found.rows, "row")
    looked = f"Read {objects}, {found.bytes:,} bytes, {rows}"
    shown: list[Table | str] = []
    if found.damages:
        shown += [_damages(found.damages), f"{looked}: {len(found.damages):,} damaged."]
    else:
        shown.append(f"{looked}: all as it must be.")
    if found.unreferenced.objects:
        shown.append(f"Nothing names {_size(found.unreferenced)}: squash gc removes what is old.")
    output.result(verify_document(found), *shown)
    return FAILED if found.damages else SUCCEEDED


def repair(arguments: Namespace, database: Database, output: Output) -> int:
    """Mend what can be mended; what is left damaged is a failure."""
    index = database.index(arguments.index)
    with output.progress() as report:
        done = index.repair(
            dry_run=arguments.dry_run, drop_lost=arguments.drop_lost, progress=report
        )
    shown: list[Table | str] = []
    if done.repaired:
        rows = [(one.object_key, one.how) for one in done.repaired]
        shown.append(Table(("object", "would be" if done.dry_run else "was"), rows))
    if done.lost_rows:
        gone = done.dry_run or not arguments.drop_lost
        shown.append(
            f"{counted(done.lost_rows, 'row')} cannot be read back"
            + (f", {', '.join(done.lost_keys)} among them" if done.lost_keys else "")
            + (": --drop-lost goes on without." if gone else ", and were dropped.")
        )
    if done.harmless:
        shown += [
            _damages(done.harmless, "of older states alone"),
            "The newest state does not need these; squash gc removes them in time.",
        ]
    if done.left:
        shown += [_damages(done.left, "left as it is"), f"{len(done.left):,} are damaged still."]
    else:
        # A trial has mended nothing: what it has shown is all that there is to mend.
        trial = done.dry_run and bool(shown)
        shown.append("Nothing else." if trial else "The newest state is as it must be.")
    output.result(repair_document(done), *shown)
    return FAILED if done.left else SUCCEEDED


def gc(arguments: Namespace, database: Database, output: Output) -> int:
    """Remove what no state within the retention needs, of one index or of all."""
    retention_s = arguments.retention / 1000
    if arguments.index is not None:
        index = database.index(arguments.index)
        with output.progress() as report:
            done = index.gc(retention_s, dry_run=arguments.dry_run, progress=report)
        output.result(gc_document(done), *_collected({arguments.index: done}))
        return SUCCEEDED
    with output.progress() as report:
        all_done = database.gc(retention_s, dry_run=arguments.dry_run, progress=report)
    shown = _collected(all_done.indexes)
    if all_done.remains.objects:
        shown.append(f"Of dropped indexes: {_size(all_done.remains)}.")
    shown += [
        f"Below {name}/ there is data and no index: squash drop {name} removes it."
        for name in all_done.left
    ]
    shown += [f"{name} was left as it is: {why}" for name, why in all_done.failed.items()]
    output.result(database_gc_document(all_done), *(shown or ["There is no index yet."]))
    return FAILED if all_done.failed else SUCCEEDED


def _collected(found: Mapping[str, GcReport]) -> list[Table | str]:
    if not found:
        return []
    rows = [
        (
            name,
            one.horizon,
            one.total.objects,
            one.total.bytes,
            one.spared.objects,
            one.unknown.objects,
        )
        for name, one in found.items()
    ]
    dry = any(one.dry_run for one in found.values())
    removed = "would remove" if dry else "removed"
    return [Table(("index", "readable from", removed, "bytes", "spared", "unknown"), rows)]


def _damages(damages: Sequence[Damage], title: str = "") -> Table:
    rows = [(damage.object_key, damage.problem) for damage in damages]
    return Table(("object", "problem"), rows, title=title)


def _size(count: ObjectCount) -> str:
    return f"{counted(count.objects, 'object')}, {count.bytes:,} bytes"
