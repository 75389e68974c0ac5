"""Hostile containers: each is refused with a DataError, quickly, and without large allocations."""

import json
import tracemalloc

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load

from squash.container import Container, pack
from squash.errors import DataError

INNER = json.dumps({"kind": "k", "version": 1, "features": []})
HUGE = 1 << 62


def raw(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def one(dtype="U8", shape=(64,), offsets=(0, 64), **more):
    entry = {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}
    return {"__metadata__": {"squash": INNER}, "a": entry}


def two(first, second, body=b"\0" * 128):
    header = {"__metadata__": {"squash": INNER}}
    for name, (start, stop) in (("a", first), ("b", second)):
        header[name] = {"dtype": "U8", "shape": [stop - start], "data_offsets": [start, stop]}
    return raw(header, body)


BODY = b"\0" * 64
GOOD = raw(one(), BODY)
DUPLICATE = (
    b'{"__metadata__":{"squash":' + json.dumps(INNER).encode() + b"},"
    b'"a":{"dtype":"U8","shape":[64],"data_offsets":[0,64]},'
    b'"a":{"dtype":"I8","shape":[64],"data_offsets":[0,64]}}'
)
ATTACKS = {
    "nothing": b"",
    "seven bytes": b"\0" * 7,
    "no header": bytes(8),
    "a header of 2^64 - 1 bytes": b"\xff" * 8 + GOOD[8:],
    "a header of 2^63 bytes": (1 << 63).to_bytes(8, "little") + GOOD[8:],
    "a header one byte beyond the end": raw(one(), length=1 << 20),
    "a header that ends too early": raw(one(), BODY, length=40),
    "header is a list": raw([], BODY),
    "header is a number": raw(b"7", BODY),
    "header is null": raw(b"null", BODY),
    "header is no JSON": raw(b"{nonsense", BODY),
    "header is not UTF-8": raw(b'{"\xff\xfe":1}', BODY),
    "header is UTF-16": raw(json.dumps(one()).encode("utf-16"), BODY),
    "header with a byte order mark": raw(b"\xef\xbb\xbf" + json.dumps(one()).encode(), BODY),
    "nested lists": raw(b"[" * 200_000, BODY),
    "nested objects": raw(b'{"a":' * 200_000, BODY),
    "nested in the inner header": raw({"__metadata__": {"squash": "[" * 200_000}}, b""),
    "an integer of many digits": raw(b'{"a":' + b"9" * 100_000 + b"}", BODY),
    "no metadata": raw({"a": one()["a"]}, BODY),
    "metadata without ours": raw({"__metadata__": {"format": "np"}}),
    "metadata is a list": raw({"__metadata__": []}),
    "our metadata is no text": raw({"__metadata__": {"squash": {"kind": "k"}}}),
    "our metadata is a list": raw({"__metadata__": {"squash": "[1]"}}),
    "our metadata has NaN": raw({"__metadata__": {"squash": '{"kind":"k","version":NaN}'}}),
    "features is a number": raw(
        {"__metadata__": {"squash": '{"kind":"k","version":1,"features":5}'}}
    ),
    "features is an object": raw(
        {"__metadata__": {"squash": '{"kind":"k","version":1,"features":{"a":1}}'}}
    ),
    "a name twice": raw(DUPLICATE, BODY),
    "half a surrogate in a name": raw(
        json.dumps({**one(), "\ud800": one(shape=(0,), offsets=(64, 64))["a"]}).encode(), BODY
    ),
    "an entry is a list": raw({**one(), "a": [1, 2]}, BODY),
    "an entry is null": raw({**one(), "a": None}, BODY),
    "an entry lacks its dtype": raw({**one(), "a": {"shape": [64], "data_offsets": [0, 64]}}, BODY),
    "an unknown dtype": raw(one(dtype="BF16", shape=(32,)), BODY),
    "a dtype of Python's": raw(one(dtype="O", shape=(8,)), BODY),
    "a dtype that is a list": raw(one(dtype=["U8"]), BODY),
    "a shape that is a number": raw(
        {**one(), "a": {"dtype": "U8", "shape": 64, "data_offsets": [0, 64]}}, BODY
    ),
    "a shape that is text": raw(
        {**one(), "a": {"dtype": "U8", "shape": "64", "data_offsets": [0, 64]}}, BODY
    ),
    "a fractional length": raw(one(shape=(64.0,)), BODY),
    "fractional offsets": raw(one(offsets=(0.0, 64.0)), BODY),
    "true as a length": raw(one(shape=(True, 64)), BODY),
    "two negative lengths": raw(one(shape=(-8, -8)), BODY),
    "a negative start": raw(one(offsets=(-64, 0)), BODY),
    "stop before start": raw(one(shape=(0,), offsets=(64, 0)), BODY),
    "one offset": raw(one(offsets=(0,)), BODY),
    "three offsets": raw(one(offsets=(0, 32, 64)), BODY),
    "a shape larger than its bytes": raw(one(shape=(65,)), BODY),
    "a shape smaller than its bytes": raw(one(shape=(63,)), BODY),
    "a length that wraps 64 bits": raw(one(shape=(1 << 32, 1 << 32), offsets=(0, 0)), BODY),
    "a huge array that is not there": raw(one(shape=(HUGE,), offsets=(0, HUGE)), BODY),
    "huge, beside an axis of 0": raw(one(shape=(0, HUGE, HUGE), offsets=(0, 0)), b""),
    "long, beside an axis of 0": raw(one(shape=(0, 1 << 40, 1 << 40), offsets=(0, 0)), b""),
    "a thousand axes": raw(one(shape=(1,) * 1000, offsets=(0, 1)), b"\0"),
    "beyond the end": raw(one(offsets=(64, 128)), BODY),
    "truncated": GOOD[:-1],
    "a byte too many": GOOD + b"\0",
    "no body": raw(one()),
    "a hole at the front": raw(one(shape=(0,), offsets=(64, 64)), BODY),
    "overlapping": two((0, 64), (0, 64), BODY),
    "overlapping by half": two((0, 128), (64, 128)),
    "a hole between": two((0, 63), (64, 128)),
    "out of order": two((64, 128), (0, 64)),
    "not aligned": two((0, 10), (10, 128)),
    "pads that overlap": raw({**one(), "_pad.1": one()["a"]}, BODY),
    "infinity as an offset": raw(
        json.dumps(one()).replace("[0, 64]", "[0, Infinity]").encode(), BODY
    ),
}


def read_all(data):
    container = Container(data, kind="k", versions=(1,), where="the/object")
    return {name: container.array(name) for name in container.names()}


def test_the_sound_one_opens():
    """What the attacks are made from is a container, so that each fails for its own reason."""
    assert list(read_all(GOOD)) == ["a"]
    assert list(read_all(two((0, 64), (64, 128)))) == ["a", "b"]


@pytest.mark.parametrize("name", ATTACKS)
def test_refused(name):
    """A DataError that names the object, and no allocation much beyond what was given."""
    data = ATTACKS[name]
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="the/object") as caught:
            read_all(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.object_key == "the/object"
    assert peak < 64 * len(data) + (1 << 20)


# What the library lets pass and we do not: what is ours alone, and what Python would misread.
OURS_ALONE = {
    "no metadata", "metadata without ours", "our metadata is a list", "our metadata has NaN",
    "features is a number", "features is an object", "not aligned", "nested in the inner header",
    "a thousand axes", "out of order", "huge, beside an axis of 0", "long, beside an axis of 0",
    "a name twice",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - OURS_ALONE))
def test_the_library_refuses_too(name):
    """What breaks the safetensors specification is refused by its own library as well."""
    with pytest.raises((SafetensorError, ValueError, KeyError, TypeError, OverflowError)):
        load(ATTACKS[name])


def test_every_truncation():
    """A container cut anywhere is refused."""
    data = pack("k", 1, header={}, arrays={"a": np.arange(20), "b": np.zeros((3, 0), np.uint8)})
    for length in range(len(data)):
        with pytest.raises(DataError):
            Container(data[:length], kind="k", versions=(1,), where="x")
