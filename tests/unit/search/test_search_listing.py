"""Lists of rows are made once, when enough was missed, and where there is room."""

import threading

import numpy as np
import pytest

from cluster_tables import random_table
from squash import kernels
from squash.limits import LISTED_ROWS_MIN
from squash.search.listing import Listing

NAMES = {"plain": 3.0, "absent": 1.0}


@pytest.fixture
def table():
    return random_table(np.random.default_rng(1), [40, 50])


def test_a_list_is_made_when_enough_was_missed(table):
    """Not on the first query; of each attribute for itself."""
    listing = Listing(LISTED_ROWS_MIN, lambda *_: True)
    for asked in range(1, 11):
        listing.miss(table, NAMES, pays_ns=9.5)
        assert set(table.listed) == {name for name, ns in NAMES.items() if asked * ns >= 9.5}


def test_without_room_none_is_made(table):
    """It is asked for again only when as much was missed once more."""
    asked = []
    listing = Listing(LISTED_ROWS_MIN, lambda name, size: asked.append((name, size)))
    for _ in range(7):
        listing.miss(table, {"plain": 1.0}, pays_ns=3.0)
    assert asked == [("plain", kernels.listed_bytes(table))] * 2
    assert not table.listed


def test_nobody_waits_for_a_list(table, monkeypatch):
    """While one thread makes one, others go on, and none is made twice."""
    begun, go_on = threading.Event(), threading.Event()
    made = []
    real = kernels.list_rows

    def slowly(table, name):
        made.append(name)
        begun.set()
        go_on.wait(10)
        return real(table, name)

    monkeypatch.setattr(kernels, "list_rows", slowly)
    listing = Listing(LISTED_ROWS_MIN, lambda *_: True)
    maker = threading.Thread(target=listing.miss, args=(table, {"plain": 1.0}),
                             kwargs={"pays_ns": 1.0})  # fmt: skip
    maker.start()
    assert begun.wait(10)
    listing.miss(table, {"plain": 1.0}, pays_ns=1.0)
    assert not table.listed
    go_on.set()
    maker.join()
    listing.miss(table, {"plain": 1.0}, pays_ns=1.0)
    assert made == ["plain"]
    assert set(table.listed) == {"plain"}


def test_small_tables_have_none():
    """Of few rows a filter of all takes no time."""
    assert not Listing(LISTED_ROWS_MIN - 1, lambda *_: True).serves
    assert Listing(LISTED_ROWS_MIN, lambda *_: True).serves
