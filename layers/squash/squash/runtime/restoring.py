"""Restoring for a session, loaded when it is first asked for."""

from __future__ import annotations

from functools import partial

from squash.errors import DataError
from squash.index.commits import Replace
from squash.index.state import committed_at
from squash.maintain.restore import restore, restored_rows
from squash.model import AsOf, IndexConfig, WriteResult
from squash.runtime.repeating import check_repeated, restores
from squash.runtime.views import IndexViews
from squash.segment import build_flat


def restore_content(
    views: IndexViews,
    config: IndexConfig,
    as_of: AsOf,
    *,
    if_snapshot: int | None,
    commit_id: str | None,
) -> WriteResult:
    """Make the content of an index what it was; see `Index.restore`.

    Parameters
    ----------
    views, config:
        The index.
    as_of, if_snapshot, commit_id:
        As `Index.restore` takes them.

    """
    log = views.log
    mine = commit_id or log.ids.new_id()
    opened = views.refresh()
    rows: int | None = None
    if committed_at(opened.state, mine) is None:
        then, _ = views.opened_as_of(as_of)
        try:
            fresh = views.fresh(then)
            # Now, since nothing that fails after the commit may make it look undone.
            rows = len(fresh) + sum(len(views.live(then, ref)) for ref in then.state.segments)
            opened = restore(
                log,
                opened,
                then,
                fresh,
                load_keys=lambda ref: views.reader(ref).keys(),
                build_flat=partial(build_flat, non_filterable=config.non_filterable),
                if_snapshot=if_snapshot,
                commit_id=mine,
            )
        except DataError as error:
            views.refuse_gone(then.sequence, error)
            raise
        if committed_at(opened.state, mine) is not None:
            opened = log.try_snapshot(opened)
        views.install(opened)
    if commit_id is not None:
        check_repeated(log, opened, commit_id, restores(as_of))
    sequence = committed_at(opened.state, mine)
    if sequence is None:
        return WriteResult(opened.sequence, 0)
    if rows is not None:
        return WriteResult(sequence, rows)
    commit = log.commit_at(sequence)
    done = commit.operation if commit else None
    outputs = done.outputs if isinstance(done, Replace) else ()
    return WriteResult(sequence, restored_rows(log, outputs))
