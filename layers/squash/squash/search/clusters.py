"""All clusters of a snapshot as the kernels read them, loaded partition by partition."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from squash.arrays import F32, F64, I64, U32, AnyArray, Mask, by_lines, distinct
from squash.attributes import Column
from squash.index.prefetch import prefetch_attributes, prefetch_codes, prefetch_heads
from squash.index.trained import Trained
from squash.kernels import (
    BLOCK_ROWS,
    ClusterTable,
    MatchPlanner,
    SearchPlan,
    Straight,
    refresh,
    whole_blocks,
)
from squash.limits import CODE_BLOCK_ROWS
from squash.planning import CostModel, Keep, Need, planner_of, search_plan
from squash.search.expiring import Span
from squash.search.listing import Listing
from squash.search.records import PartitionRecords
from squash.search.shares import AttributeShares
from squash.search.view import PartitionView
from squash.segment import ROWS, ClusterCodes
from squash.values import remembered

_PLANS_MAX = 64


class Bitmaps:
    """Room for two bitmaps over all blocks; a query has it for itself."""

    def __init__(self, blocks: int) -> None:
        self.sure: U32 = np.zeros(blocks, dtype=np.uint32)
        self.possible: U32 = np.zeros(blocks, dtype=np.uint32)


class Clusters:
    """The clusters of a snapshot's partitions.

    Parameters
    ----------
    partitions:
        In the order of the routing table.
    trained:
        What they were built with.
    expires:
        The attribute by which rows expire; None if none do.

    """

    def __init__(
        self,
        partitions: Sequence[PartitionView],
        trained: Trained,
        *,
        expires: str | None = None,
    ) -> None:
        self.expires = expires
        self._span: Span | None = None
        self.partitions = tuple(partitions)
        self.trained = trained
        for partition in self.partitions:
            # Everything below is read at places that the routing table says; it is checked here
            # that they are rows of the partition, and in `PartitionView.partition` its blocks.
            _ = partition.cluster_begins
        self.row_count = sum(partition.count for partition in partitions)
        self.scannable = trained.codec.scannable
        """Whether codes are what the kernels scan; looked at by every query."""
        self.first_clusters: I64 = np.array([p.first_cluster for p in partitions], dtype=np.int64)
        self._table = self._new_table()
        self.records = PartitionRecords(self.partitions)
        """What records of many rows are read from at once; begun anew with the table."""
        self._loader = self.partitions[0].reader.loader if self.partitions else None
        self._evictions = self._loader.evictions if self._loader is not None else 0
        self._bitmaps: list[Bitmaps] = []
        # Held while arrays are put into a table: who finds them there finds them whole.
        self._lock = threading.Lock()
        self._needs: dict[float, Need] = {}
        self._keeps: dict[tuple[int, float], Keep] = {}
        self._plans: dict[tuple[float, int], tuple[tuple[Keep, CostModel], SearchPlan]] = {}
        self._planners: dict[tuple[float, int], tuple[CostModel, MatchPlanner]] = {}
        self._listless: set[str] = set()
        self.homes: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        """Of some slots, which of them each partition has; see `search.homes`."""
        self._shares: dict[str, AttributeShares] = {}
        self.listing = Listing(self.row_count, self._keep_list)
        table = self._table
        # Every cluster begins a block, so padding lies before a row besides other rows.
        self._padding: I64 = table.local_block * BLOCK_ROWS - table.first_row
        self._block_base = np.array(
            [int(table.first_block[p.first_cluster] - table.local_block[p.first_cluster])
             if p.end_cluster > p.first_cluster else 0 for p in partitions],
            dtype=np.int64,
        )  # fmt: skip
        self.alive_total = int(table.alive_counts.sum())
        self.alive_share = self.alive_total / max(self.row_count, 1)

    def table(self) -> ClusterTable:
        """Return the table to search; whoever has it may go on with it.

        A table only ever gains arrays. When the retained data let go of something, the next one
        begins with none, so that what was let go can be freed.
        """
        evictions = self._loader.evictions if self._loader is not None else 0
        if evictions != self._evictions:
            count = len(self.partitions)
            self._table = replace(
                self._table,
                blocks=[None] * count,
                full=[None] * count,
                vectors=[None] * count,
                columns={},
                signatures={},
                values={},
                attributes=set(),
                valued=set(),
                kept={},
                listed={},
                asked={},
                ranges={},
                native=None,
            )
            self.records = PartitionRecords(self.partitions)
            self._evictions = evictions
        return self._table

    def need(self, recall_target: float) -> Need:
        """Return what a recall target asks of a walk; the last ones are kept."""
        known = self._needs.get(recall_target)
        if known is None:
            known = Need.of(self.trained.calibration, recall_target)
            if len(self._needs) >= _PLANS_MAX:
                self._needs.clear()
            self._needs[recall_target] = known
        return known

    def keep(self, k: int, recall_target: float) -> Keep:
        """Return how many rows pass from level to level; the last ones are kept."""
        known = self._keeps.get((k, recall_target))
        if known is None:
            known = self.trained.calibration.keep(k, recall_target)
            if len(self._keeps) >= _PLANS_MAX:
                self._keeps.clear()
            self._keeps[k, recall_target] = known
        return known

    def search_plan(self, recall_target: float, k: int, keep: Keep, costs: CostModel) -> SearchPlan:
        """Return what a whole search is asked; the last plans are kept."""
        # Costs are the same object in every query: they are compared, and not hashed each time.
        of, known = self._plans.get((recall_target, k), (None, None))
        if known is None or of != (keep, costs):
            dimension = self._table.dimension
            known = search_plan(
                self.need(recall_target),
                k=k,
                keep=keep,
                share_min=costs.share_min(dimension),
                straight=self.straight(costs, keep),
            )
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[recall_target, k] = ((keep, costs), known)
        return known

    def planner(self, costs: CostModel, keep: Keep, recall_target: float, k: int) -> MatchPlanner:
        """Return what plans filters; the last ones are kept."""
        of, known = self._planners.get((recall_target, k), (None, None))
        if known is None or (of is not costs and of != costs):
            need, rows, clusters = self.need(recall_target), self.row_count, len(self._table.rows)
            known = planner_of(
                costs, keep, need, k=k, rows=rows, clusters=clusters,
                dimension=self._table.dimension, lists=self.listing.serves, whole=self.whole,
            )  # fmt: skip
            if len(self._planners) >= _PLANS_MAX:
                self._planners.clear()
            self._planners[recall_target, k] = (costs, known)
        return known

    def straight(self, costs: CostModel, keep: Keep) -> Straight:
        """Return up to how many admitted rows of a walk are measured without their codes.

        Where vectors come page by page, no more of them are read than refinement would read.
        """
        straight = costs.straight(self._table.dimension, keep.refined)
        return straight if self.whole else replace(straight, each=0.0)

    @remembered
    def whole(self) -> bool:
        """Whether vectors are always read whole, so that measuring many rows costs no requests.

        Plans go by this, and not by what is at hand: an answer does not depend on that.
        """
        return all(partition.reader.reads_whole() for partition in self.partitions)

    def holds_vectors(self) -> bool:
        """Tell whether the vectors of most partitions are in the table."""
        vectors = self.table().vectors
        return 2 * sum(one is not None for one in vectors) > len(vectors)

    def take_bitmaps(self) -> Bitmaps:
        """Return room for bitmaps; give it back with `give_bitmaps`."""
        try:
            return self._bitmaps.pop()
        except IndexError:
            return Bitmaps(len(self._table.alive))

    def give_bitmaps(self, bitmaps: Bitmaps) -> None:
        """Take room back for the next query."""
        self._bitmaps.append(bitmaps)

    def load_codes(self, table: ClusterTable, numbers: Iterable[int]) -> None:
        """Load the codes of some partitions."""
        with self._lock:
            numbers = [number for number in numbers if not _has_codes(table, number)]
            some = [number for number in numbers if table.full[number] is not None]
        if len(some) > 1:
            every = [
                (view.reader, np.arange(view.end_cluster - view.first_cluster))
                for view in (self.partitions[number] for number in some)
            ]
            prefetch_codes(every, self.trained.codec.stored_specs)
        for number in numbers:
            there = number in some
            view = self.partitions[number]
            if not there and view.reader.reads_codes_whole():
                self._put_codes(table, number, view.partition().codes.arrays)
                continue
            view.check_head()
            specs = self.trained.codec.stored_specs
            self._put_codes(table, number, view.reader.all_clusters_codes(specs))

    def load_clusters(self, table: ClusterTable, clusters: I64) -> None:
        """Load the codes of some clusters: of no others, where parts of a partition are read."""
        owners = table.partition[clusters]
        wanted: dict[int, I64] = {}
        for number in distinct(owners).tolist():
            view = self.partitions[number]
            mine = clusters[owners == number] - view.first_cluster
            with self._lock:
                there, kept = table.full[number] is not None, table.kept.get(number)
            # Without what fills them in, they came whole.
            if not there or (isinstance(kept, ClusterCodes) and not kept.holds(mine)):
                wanted[number] = mine
        if not wanted:
            return
        # Of those without a head, this gets the codes themselves.
        prefetch_heads([self.partitions[number].reader for number in wanted])
        by_parts = {
            number: mine
            for number, mine in wanted.items()
            if not self.partitions[number].reader.reads_codes_whole()
        }
        specs = self.trained.codec.stored_specs
        for number in by_parts:
            self.partitions[number].check_head()
        prefetch_codes([(self.partitions[n].reader, mine) for n, mine in by_parts.items()], specs)
        self.load_codes(table, wanted.keys() - by_parts.keys())
        for number, mine in by_parts.items():
            arrays = self.partitions[number].reader.cluster_codes(mine, specs)
            if not self._put_codes(table, number, arrays):
                self.load_codes(table, (number,))

    def _put_codes(self, table: ClusterTable, number: int, arrays: Mapping[str, AnyArray]) -> bool:
        """Put a partition's codes in, unless vectors are there and not all clusters' codes are."""
        with self._lock:
            partial = isinstance(arrays, ClusterCodes) and not arrays.is_whole
            if partial and table.vectors[number] is not None:
                return False
            # Never replaced: another thread's query may be reading what it put in meanwhile.
            if table.full[number] is None:
                if isinstance(arrays, ClusterCodes):
                    table.kept[number] = arrays
                table.blocks[number] = arrays["blocks"]
                table.full[number] = arrays["full"]
                refresh(table, number)
            return True

    def load_vectors(self, table: ClusterTable, numbers: Iterable[int]) -> bool:
        """Put the vectors of some partitions in whole; tell whether all were at hand so.

        Where a partition's vectors are in, so are the codes of all its clusters or of none: a
        search in one call of the kernels goes by that.
        """
        numbers = list(numbers)
        with self._lock:
            more = [number for number in numbers if table.vectors[number] is None]
            codes = [number for number in more if table.full[number] is not None]
        if codes:
            self.load_codes(table, [n for n in codes if self.partitions[n].reader.holds_vectors()])
        for number in more:
            vectors = self.partitions[number].reader.whole_vectors()
            if vectors is None:
                return False
            while not self._put_vectors(table, number, vectors):
                self.load_codes(table, (number,))
        return True

    def _put_vectors(self, table: ClusterTable, number: int, vectors: F32) -> bool:
        """Put a partition's vectors in, unless some of its clusters' codes are there, not all."""
        with self._lock:
            kept = table.kept.get(number)
            if isinstance(kept, ClusterCodes) and not kept.is_whole:
                return False
            if table.vectors[number] is None:
                table.vectors[number] = vectors
                refresh(table, number)
            return True

    def load_columns(self, table: ClusterTable, asked: Mapping[str, bool]) -> None:
        """Load the cells of some attributes, of all partitions, and the values of those asked."""
        wanted = {
            name: valued
            for name, valued in asked.items()
            if name not in (table.valued if valued else table.attributes)
        }
        if wanted:
            prefetch_attributes([partition.attributes for partition in self.partitions], wanted)
        for name, valued in wanted.items():
            if name not in table.attributes:
                self._load_cells(table, name)
            if valued:
                self._load_values(table, name)

    def _load_cells(self, table: ClusterTable, name: str) -> None:
        cells = [partition.attributes.cells(name) for partition in self.partitions]
        columns = [codes for codes, _ in cells]
        signatures = [listed for _, listed in cells]
        shares = self._shares.get(name) or AttributeShares.counted(columns, self.row_count)
        with self._lock:
            if name in table.attributes:
                return
            if not any(one is not None for one in signatures):
                self._listless.add(name)
            self._shares.setdefault(name, shares)
            table.signatures[name] = signatures
            table.columns[name] = columns
            for number in range(len(self.partitions)):
                refresh(table, number)
            # Asked without the lock: whoever finds it there finds all of it.
            table.attributes.add(name)

    def _load_values(self, table: ClusterTable, name: str) -> None:
        values = [_values(p.attributes.columns().column(name)) for p in self.partitions]
        shares = self._shares[name].with_values(values)
        with self._lock:
            if name in table.valued:
                return
            self._shares[name] = shares
            table.values[name] = values
            for number in range(len(self.partitions)):
                refresh(table, number)
            table.valued.add(name)

    def holds_lists(self, table: ClusterTable, name: str) -> bool:
        """Tell whether some row has a list in an attribute."""
        if name not in table.attributes:
            self.load_columns(table, {name: False})
        return name not in self._listless

    def shares(self, name: str) -> AttributeShares:
        """Return what tells about how many rows pass a comparison of an attribute in a table."""
        return self._shares[name]

    def span(self, table: ClusterTable, attribute: str, time: float) -> Span | None:
        """Return the span around a time in which no row expires; None where rows hold lists."""
        known = self._span
        if known is None or not known.holds(time):
            if self.holds_lists(table, attribute):
                return None
            self.load_columns(table, {attribute: True})
            values = [one[0] for one in table.values[attribute] if one is not None]
            self._span = known = Span.around(time, attribute, values)
        return known

    def places(self, partition: int, rows: I64) -> tuple[I64, I64]:
        """Return int64 [m]: block (counted over all) and bit in it of m rows of a partition."""
        view = self.partitions[partition]
        clusters = np.searchsorted(view.cluster_begins, rows, side="right") - 1
        clusters += view.first_cluster
        block, bit = np.divmod(rows + self._padding[clusters], BLOCK_ROWS)
        return block + self._block_base[partition], bit

    def mask_of(self, bitmap: U32, partition: int) -> Mask:
        """Return a bitmap as bool [n], of the rows of one partition."""
        block, bit = self.places(partition, np.arange(self.partitions[partition].count))
        return np.asarray((bitmap[block] >> bit.astype(np.uint32)) & np.uint32(1) == 1)

    def settle(self, bitmaps: Bitmaps, partition: int, rows: I64, passing: Mask) -> None:
        """Make m unsure rows of a partition sure where bool [m] says so, impossible elsewhere."""
        block, bit = self.places(partition, rows)
        one = np.left_shift(np.uint32(1), bit.astype(np.uint32))
        np.bitwise_or.at(bitmaps.sure, block[passing], one[passing])
        np.bitwise_and.at(bitmaps.possible, block[~passing], ~one[~passing])

    def counts(self, bitmap: U32) -> I64:
        """Return int64 [c], how many bits each cluster has in a bitmap."""
        return _block_counts(bitmap, self._table)

    def _keep_list(self, name: str, size: int) -> bool:
        reader = self.partitions[0].reader
        return reader.loader.keep_derived(reader.ref.objects[ROWS], f"list of {name}", size)

    def _new_table(self) -> ClusterTable:
        trained, count = self.trained, len(self.partitions)
        rows = trained.cluster_rows
        blocks = -(-rows // CODE_BLOCK_ROWS)
        firsts = np.cumsum(blocks) - blocks
        lengths = np.diff(trained.partition_begins)
        base = np.array([p.first_cluster for p in self.partitions], dtype=np.int64)
        begins = np.cumsum(rows) - rows
        partition = np.repeat(np.arange(count), lengths)
        sizes = np.array([p.count for p in self.partitions], dtype=np.int64)
        alive = whole_blocks(rows)
        nonempty = np.minimum(base, max(len(rows) - 1, 0))
        centers = by_lines(trained.centers.shape, np.float32)
        centers[:] = trained.centers
        table = ClusterTable(
            space=trained.codec.space,
            dimension=trained.centers.shape[1],
            centers=centers,
            center_norms=np.sqrt(np.einsum("ij,ij->i", trained.centers, trained.centers,
                                           dtype=np.float64)),
            rows=rows,
            partition=partition,
            first_row=begins - begins[nonempty][partition],
            first_block=firsts,
            local_block=firsts - firsts[nonempty][partition],
            alive=alive,
            alive_counts=rows.copy(),
            row_base=np.cumsum(sizes) - sizes,
            blocks=[None] * count,
            full=[None] * count,
            vectors=[None] * count,
            spreads=trained.walked_spreads(),
        )  # fmt: skip
        self._bury(table)
        return table

    def _bury(self, table: ClusterTable) -> None:
        """Take the dead rows out of `alive`."""
        dead = [(i, p.alive) for i, p in enumerate(self.partitions) if p.alive is not None]
        if not dead:
            return
        for number, alive in dead:
            view = self.partitions[number]
            rows = np.flatnonzero(~alive)
            clusters = np.searchsorted(view.cluster_begins, rows, side="right") - 1
            clusters += view.first_cluster
            inside = rows - table.first_row[clusters]
            block = table.first_block[clusters] + inside // BLOCK_ROWS
            bit = np.left_shift(np.uint32(1), (inside % BLOCK_ROWS).astype(np.uint32))
            np.bitwise_and.at(table.alive, block, ~bit)
        table.alive_counts = _block_counts(table.alive, table)


def _has_codes(table: ClusterTable, number: int) -> bool:
    """Tell whether the codes of all clusters of a partition are in a table."""
    kept = table.kept.get(number)
    if isinstance(kept, ClusterCodes) and not kept.is_whole:
        return False
    return table.full[number] is not None


def _values(column: Column | None) -> tuple[F64, U32] | None:
    """Return an attribute's numbers and each row's place in them; None where rows hold lists."""
    if column is None or column.offsets is not None:
        return None
    return column.numbers, column.ids


def _block_counts(bitmap: U32, table: ClusterTable) -> I64:
    sums = np.zeros(len(bitmap) + 1, dtype=np.int64)
    np.cumsum(np.bitwise_count(bitmap), out=sums[1:])
    blocks = -(-table.rows // CODE_BLOCK_ROWS)
    return np.asarray(sums[table.first_block + blocks] - sums[table.first_block])
