"""Object stores: one contract, three places to keep objects, and wrappers."""

from __future__ import annotations

from squash.storage.folder import FolderStore
from squash.storage.locations import open_store
from squash.storage.memory import MemoryStore
from squash.storage.protocol import Getter, ObjectInfo, ObjectStore, getter_of
from squash.storage.ranges import ReadPlan, plan_reads
from squash.storage.rounds import Reads, shared_reads
from squash.storage.wrappers import CountingStore, Noted, PrefixStore, StoreCounts

__all__ = [
    "CountingStore",
    "FolderStore",
    "Getter",
    "MemoryStore",
    "Noted",
    "ObjectInfo",
    "ObjectStore",
    "PrefixStore",
    "ReadPlan",
    "Reads",
    "StoreCounts",
    "getter_of",
    "open_store",
    "plan_reads",
    "shared_reads",
]
