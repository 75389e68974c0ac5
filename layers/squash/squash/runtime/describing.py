"""An index in numbers, for its session; loaded when it is first asked for."""

from __future__ import annotations

from squash.index.prefetch import prefetch_columns
from squash.model import IndexConfig, IndexStats
from squash.runtime.views import IndexViews
from squash.search import IndexView, live_count


def index_stats(config: IndexConfig, view: IndexView, views: IndexViews) -> IndexStats:
    """Describe a snapshot.

    Parameters
    ----------
    config:
        The index's.
    view, views:
        The snapshot, and of what, which has just read it.

    """
    opened = views.known()
    refs = [ref for segment in opened.state.segments for ref in segment.objects.values()]
    refs += [opened.state.trained] if opened.state.trained else []
    kinds: dict[str, set[str]] = {}
    prefetch_columns([partition.attributes for partition in view.partitions])
    for rows in view.everything():
        for name, kind in rows.columns().types().items():
            kinds.setdefault(name, set()).update(kind.split("|"))
    trained = view.trained if view.partitions else None
    return IndexStats(
        name=config.name,
        dimension=config.dimension,
        metric=config.metric,
        codec=config.codec,
        rows=sum(live_count(rows) for rows in view.everything()),
        rows_fresh=sum(live_count(rows) for rows in view.exact_rows),
        partitions=len(view.partitions),
        clusters=len(trained.centers) if trained else 0,
        snapshot=view.snapshot,
        stored_bytes=sum(ref.bytes for ref in refs),
        code_bytes_per_row=trained.codec.code_bytes_per_row() if trained else 0.0,
        attributes={name: "|".join(sorted(kinds[name])) for name in sorted(kinds)},
    )
