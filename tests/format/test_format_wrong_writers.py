"""Objects of a wrong writer, whose checksums are right: no error but a DataError gets out."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_golden import FILTERS, open_database, queries
from test_format_damage import BY_KIND, STORED, kind_of, store_with

from amounts import examples
from forcing import codes_only
from squash.container import Container, pack
from squash.errors import DataError
from squash.index import reader as reader_module

SEGMENTS = sorted(kind for kind in BY_KIND if "segment-" in kind or "trained" in kind)


@pytest.fixture(autouse=True)
def nothing_checked(monkeypatch, checksums_hold):
    """Let parts of objects, too, pass for what their snapshot names; go by the codes."""
    monkeypatch.setattr(reader_module, "_check", lambda *_: None)
    with codes_only():
        yield


def use(store, name):
    """Ask everything; answers may be any, errors only DataErrors."""
    index = open_database(store).index(name)
    for query in queries(index.config.dimension)[:2]:
        for filter_ in FILTERS:
            with suppress(DataError):
                index.query(query, filter=filter_, include=["metadata", "vector"])
    with suppress(DataError):
        index.get(keys=["k1", "k50"])
    with suppress(DataError):
        index.list()
    with suppress(DataError):
        index.stats()
    index.verify()


def changed(data, container):
    """Arrays of a container, one of them of another shape, dtype or content, or left out."""
    arrays = {name: container.array(name) for name in container.names()}
    name = data.draw(st.sampled_from(sorted(arrays)))
    array = arrays[name]
    how = data.draw(
        st.sampled_from(["drop", "shorter", "longer", "narrow", "wide", "flat", "dtype", "high"])
    )
    if how == "drop":
        del arrays[name]
    elif how == "shorter":
        arrays[name] = array[:-1] if len(array) else array
    elif how == "longer":
        arrays[name] = np.concatenate([array, array[-1:]])
    elif how == "narrow":
        arrays[name] = np.ascontiguousarray(array[..., :-1])
    elif how == "wide":
        arrays[name] = np.concatenate([array, array[..., -1:]], axis=-1)
    elif how == "flat":
        arrays[name] = array.reshape(-1, 1)
    elif how == "dtype":
        arrays[name] = array.astype(data.draw(st.sampled_from(["u1", "i8", "f8", "u4"])))
    elif array.size:
        worst = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else np.nan
        arrays[name] = array.copy()
        arrays[name].reshape(-1)[-1] = worst
    return arrays


@pytest.mark.parametrize("kind", SEGMENTS)
@given(data=st.data())
@settings(max_examples=examples(25), deadline=None)
def test_other_arrays(kind, data):
    """An array that is absent, or of another shape, dtype or range, is refused or harmless."""
    key = data.draw(st.sampled_from([k for k in BY_KIND[kind] if "/fresh/" not in k]))
    container = Container(STORED[key], kind=kind_of(key), versions=(1,), where=key)
    header = {n: v for n, v in container.header.items() if n not in {"kind", "version"}}
    if header and data.draw(st.integers(0, 3)) == 0:
        name = data.draw(st.sampled_from(sorted(header)))
        header[name] = data.draw(st.sampled_from([None, -1, 2**40, "x", [], {}, [[1]], 1.5, True]))
        arrays = {n: container.array(n) for n in container.names()}
    else:
        arrays = changed(data, container)
    name, store = store_with(key, pack(kind_of(key), 1, header=header, arrays=arrays))
    use(store, name)


def test_centers_that_are_no_numbers_are_damage():
    kind = max(kind for kind in BY_KIND if kind.endswith("segment-codes"))
    key = next(key for key in BY_KIND[kind] if "/fresh/" not in key)
    container = Container(STORED[key], kind=kind_of(key), versions=(1,), where=key)
    header = {n: v for n, v in container.header.items() if n not in {"kind", "version"}}
    arrays = {name: container.array(name) for name in container.names()}
    arrays["centers"] = arrays["centers"].copy()
    arrays["centers"][-1, -1] = np.nan
    name, store = store_with(key, pack(kind_of(key), 1, header=header, arrays=arrays))
    damages = open_database(store).index(name).verify().damages
    assert "has centers that are no numbers" in {one.problem for one in damages}
