"""Keys and metadata of rows that lie in many partitions, read together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from squash.errors import DataError
from squash.kernels import RecordTable
from squash.search.view import PartitionView
from squash.segment import read_followed


class PartitionRecords:
    """The records of a snapshot's partitions, as far as they were read; threads may share it.

    `table` is what the kernels read keys from.
    """

    def __init__(self, partitions: Sequence[PartitionView]) -> None:
        self._partitions = partitions
        self.table: Final = RecordTable(len(partitions))

    def keys(self, partition: list[int], row: list[int]) -> list[str] | None:
        """Return the keys of m rows at once; None where they must be read one by one.

        That is where records are read page by page, and of keys that JSON writes with escapes.
        """
        return self.table.keys(partition, row) if self._take(set(partition)) else None

    def documents(
        self, partition: list[int], row: list[int]
    ) -> tuple[list[str], list[dict[str, Any]]] | None:
        """Return keys and metadata of m rows at once; None where they must be read one by one.

        That is where records are read page by page, and if one is damaged: who reads it alone says
        which.
        """
        texts = self.table.texts(partition, row) if self._take(set(partition)) else None
        try:
            return None if texts is None else read_followed(texts)
        except DataError:
            return None

    def _take(self, numbers: Iterable[int]) -> bool:
        """Have the records of some partitions in the table; tell whether they are at hand whole."""
        for number in numbers:
            if not self.table.holds(number):
                whole = self._partitions[number].reader.whole_records()
                if whole is None:
                    return False
                self.table.put(number, np.frombuffer(whole.data, dtype=np.uint8), whole.begins)
        return True
