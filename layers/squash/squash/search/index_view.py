"""One snapshot of an index, opened for searching: every query on it sees the same rows."""

from __future__ import annotations

from dataclasses import dataclass  # noqa: TID251 - it keeps what its properties found, without slots

from squash.index.entries import Entry
from squash.index.trained import Trained
from squash.model import Metric, ObjectRef
from squash.search.clusters import Clusters
from squash.search.view import PartitionView, Rows
from squash.segment import ATTRIBUTES, CODES, VECTORS
from squash.values import remembered


@dataclass(frozen=True)
class IndexView:
    """One snapshot, opened."""

    metric: Metric
    dimension: int
    snapshot: int
    exact_rows: tuple[Rows, ...]
    """Rows searched exactly: fresh ones and flat segments."""
    partitions: tuple[PartitionView, ...]
    """In the order of the routing table, so that its clusters are theirs, one after another."""
    trained: Trained | None
    trained_ref: ObjectRef | None = None
    """The object that `trained` was read from, for those who are to read it elsewhere."""
    entry: Entry | None = None
    """What the catalogue says of the index, for those who are to search it elsewhere."""

    @remembered
    def clusters(self) -> Clusters | None:
        """The partitions' clusters; None if there are no partitions."""
        if not self.partitions or self.trained is None:
            return None
        expires = self.entry.config.expires if self.entry else None
        return Clusters(self.partitions, self.trained, expires=expires)

    @remembered
    def searched_bytes(self) -> int:
        """How many bytes of its partitions a search may read: all but documents."""
        return sum(
            ref.bytes
            for partition in self.partitions
            for name, ref in partition.reader.ref.objects.items()
            if name in {ATTRIBUTES, CODES, VECTORS}
        )

    def everything(self) -> tuple[Rows, ...]:
        """Return all rows of the snapshot."""
        return (*self.exact_rows, *self.partitions)
