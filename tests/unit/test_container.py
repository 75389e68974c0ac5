"""Containers give back what they were given, lie as promised, and other tools can read them."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load

from amounts import examples
from squash.container import ALIGNMENT, Container, array_from, pack, read_layout
from squash.errors import DataError, UnsupportedFormatError

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
EDGES = [0, 1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256]
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name != "__metadata__" and not name.startswith("_pad.")
)
ARRAYS = st.dictionaries(
    NAMES,
    st.sampled_from(DTYPES).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
    ),
    max_size=5,
)
HEADERS = st.dictionaries(
    st.text(max_size=5).filter(lambda name: name not in {"kind", "version", "features"}),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    ).filter(lambda value: "inf" not in repr(value)),
    max_size=4,
)


def opened(data, **changes):
    return Container(data, **{"kind": "k", "versions": (1,), "where": "x", **changes})


@given(HEADERS, ARRAYS)
@settings(max_examples=examples(150, least=25), deadline=None)
def test_round_trip(header, arrays):
    """Header, names, order, dtypes, shapes and bytes come back; nothing can be written to."""
    data = pack("k", 1, header=header, arrays=arrays)
    container = opened(data)
    assert container.header == {"kind": "k", "version": 1, **header}
    assert container.names() == list(arrays)
    assert container.nbytes == len(data)
    for name, array in arrays.items():
        found = container.array(name)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()
        assert not found.flags.writeable


@given(ARRAYS)
@settings(max_examples=examples(100, least=25), deadline=None)
def test_second_opinion(arrays):
    """The safetensors library opens every container, finds the same arrays and else only pads."""
    found = load(pack("k", 1, header={}, arrays=arrays))
    assert {name for name in found if not name.startswith("_pad.")} == set(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    assert all(not found[name].any() for name in found.keys() - arrays.keys())


@given(ARRAYS)
@settings(max_examples=examples(100, least=25), deadline=None)
def test_layout(arrays):
    """Arrays are aligned and in order, and the object ends with the last of them or its pad."""
    data = pack("k", 1, header={"x": 1}, arrays=arrays)
    layout = read_layout(data, where="x", total_bytes=len(data))
    starts = [entry.start for entry in layout.entries.values()]
    assert starts == sorted(starts)
    assert all(start % ALIGNMENT == 0 for start in starts)
    assert layout.total_bytes == len(data)
    assert len(data) % ALIGNMENT == 0


@given(ARRAYS)
@settings(max_examples=examples(30, least=25), deadline=None)
def test_same_bytes(arrays):
    """The same input gives the same bytes, whatever the arrays' memory looks like."""
    first = pack("k", 1, header={}, arrays=arrays)
    strange = {
        name: np.asfortranarray(array.astype(array.dtype.newbyteorder(">")))
        if array.ndim
        else array
        for name, array in arrays.items()
    }
    assert pack("k", 1, header={}, arrays=strange) == first


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", EDGES)
def test_sizes(dtype, rows):
    """Every dtype survives at sizes around the alignment, with another array behind it."""
    array = (np.arange(rows) % 100).astype(dtype)
    container = opened(pack("k", 1, header={}, arrays={"a": array, "b": array[::-1]}))
    assert (container.array("a") == array).all()
    assert (container.array("b") == array[::-1]).all()


def test_opening_copies_nothing():
    """Arrays are views of the container's own bytes."""
    data = bytearray(pack("k", 1, header={}, arrays={"a": np.zeros(4, np.uint8)}))
    array = opened(data).array("a")
    data[-ALIGNMENT] = 7
    assert array[0] == 7


def test_a_prefix_is_enough():
    """The header alone tells where arrays lie, and a range makes one."""
    array = np.arange(1000, dtype=np.float32).reshape(10, 100)
    data = pack("k", 1, header={}, arrays={"before": np.ones(3, np.int64), "a": array})
    base = 8 + int.from_bytes(data[:8], "little")
    entry = read_layout(data[:base], where="x").entries["a"]
    assert (array_from(data[entry.start : entry.stop], entry) == array).all()


def test_what_cannot_be_packed():
    """Unknown dtypes, taken names and what JSON lacks are errors of the caller."""
    for bad in (np.zeros(2, bool), np.zeros(2, complex), np.array(["a"]), np.array([None])):
        with pytest.raises(ValueError, match="containers cannot hold"):
            pack("k", 1, header={}, arrays={"a": bad})
    for name in ("__metadata__", "_pad.1"):
        with pytest.raises(ValueError, match="own"):
            pack("k", 1, header={}, arrays={name: np.zeros(1)})
    for name in ("kind", "version"):
        with pytest.raises(ValueError, match="own"):
            pack("k", 1, header={name: "other"}, arrays={})
    with pytest.raises(ValueError, match="JSON compliant"):
        pack("k", 1, header={"a": float("nan")}, arrays={})


def test_refusals_name_what_they_refuse():
    """Another kind, version or feature is refused by name, and says what to do."""
    data = pack("k", 1, header={"features": ["zstd"]}, arrays={})
    with pytest.raises(UnsupportedFormatError, match=r"zstd.*newer release"):
        opened(data)
    plain = pack("k", 2, header={"features": []}, arrays={})
    with pytest.raises(UnsupportedFormatError, match=r"version 2 of 'k'.*reads 1.*newer"):
        opened(plain)
    assert opened(plain, versions=(1, 2)).header["version"] == 2
    with pytest.raises(DataError, match="is a 'k', not a 'other'") as caught:
        opened(plain, kind="other")
    assert caught.value.object_key == "x"
    with pytest.raises(DataError, match="lacks the array 'b'"):
        opened(plain, versions=(2,)).array("b")


def test_arrays_of_a_dtype_that_is_not_known_are_a_newer_releases():
    """They are no damage, which somebody might mend."""
    data = pack("k", 2, header={}, arrays={"a": np.zeros(32, np.float16)})
    with pytest.raises(UnsupportedFormatError, match=r"'a' of dtype 'B16'.*newer release"):
        opened(data.replace(b'"F16"', b'"B16"'))


@pytest.mark.parametrize("version", [True, 1.0, "1", None, [1]])
def test_a_version_is_an_integer(version):
    """What merely equals a version is none."""
    inner = json.dumps({"kind": "k", "version": version})
    raw = json.dumps({"__metadata__": {"squash": inner}}).encode()
    with pytest.raises(UnsupportedFormatError):
        opened(len(raw).to_bytes(8, "little") + raw)
