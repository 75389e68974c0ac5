"""`encoder.json`: what is written is read, and every member that is wrong is named."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from squash.encoders.contract import (
    EncoderConfig,
    FileRef,
    ImagePart,
    OverLong,
    Pooling,
    TextPart,
    digest_of,
    read_config,
    write_config,
)
from squash.errors import InvalidArgumentError, SquashError, UnsupportedFormatError
from squash.limits import DIMENSION_MAX, ENCODER_FILE_BYTES_MAX, ENCODER_TOKENS_MAX
from squash.model import Metric, Modality

WORDS = st.text(st.characters(codec="utf-8"), max_size=40)
FILES = ("model.onnx", "tokenizer.json", "image.onnx")
SHA256 = st.text("0123456789abcdef", min_size=64, max_size=64)
THREE = st.tuples(*[st.floats(0.01, 1000)] * 3)

CONFIG = EncoderConfig(
    name="tiny",
    revision="1",
    dimension=16,
    metric=Metric.COSINE,
    licence="Apache-2.0",
    files={name: FileRef(9, "ab" * 32) for name in FILES},
    text=TextPart("model.onnx", "tokenizer.json", Pooling.MEAN, 12),
    image=ImagePart("image.onnx", 8, 9, (0.5, 0.5, 0.5), (1.0, 2.0, 3.0)),
    truncate_dimensions=(8,),
)


@st.composite
def configs(draw) -> EncoderConfig:
    text = st.builds(
        TextPart,
        st.just(FILES[0]),
        st.just(FILES[1]),
        st.sampled_from(Pooling),
        st.integers(3, ENCODER_TOKENS_MAX),
        st.sampled_from(OverLong),
        WORDS,
        WORDS,
        st.booleans(),
    )
    size = draw(st.integers(8, 1_000))
    scaled = draw(st.booleans())
    image = st.builds(
        ImagePart,
        st.just(FILES[2]),
        st.just(size),
        st.integers(size, 1_024),
        THREE if scaled else st.just(()),
        THREE if scaled else st.just(()),
        st.booleans(),
    )
    parts = draw(st.sampled_from([(True, False), (False, True), (True, True)]))
    dimension = draw(st.integers(2, DIMENSION_MAX))
    normalise = draw(st.booleans())
    cuts = st.lists(st.integers(1, dimension - 1), max_size=4).map(tuple)
    refs = st.builds(FileRef, st.integers(1, ENCODER_FILE_BYTES_MAX), SHA256)
    return EncoderConfig(
        name=draw(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}[a-z0-9]", fullmatch=True)),
        revision=draw(WORDS),
        dimension=dimension,
        metric=draw(st.sampled_from(Metric)),
        licence=draw(WORDS),
        files={name: draw(refs) for name in FILES},
        text=draw(text) if parts[0] else None,
        image=draw(image) if parts[1] else None,
        normalise=normalise,
        truncate_dimensions=draw(cuts) if normalise else (),
        source=draw(WORDS),
    )


@given(configs())
def test_round_trip(config):
    """A configuration comes back as it was written; the same one gives the same digest."""
    data = write_config(config)
    assert read_config(data) == config
    assert write_config(read_config(data)) == data
    assert digest_of(data) == hashlib.sha256(data).hexdigest()


def test_modalities():
    """An encoder has the modalities that it has parts of."""
    assert CONFIG.modalities == (Modality.TEXT, Modality.IMAGE)
    assert replace(CONFIG, image=None).modalities == (Modality.TEXT,)
    assert replace(CONFIG, text=None).modalities == (Modality.IMAGE,)


def changed(path: str, value) -> bytes:
    content = json.loads(write_config(CONFIG))
    *outer, last = path.split("/")
    place = content
    for name in outer:
        place = place[name]
    place[last] = value
    return json.dumps(content).encode()


WRONG = [
    ("name", ["", "A", "a b", "../a", "-a", "a" * 64, 7, None, ["a"]]),
    ("revision", [7, None, "x" * 1_025, "\ud800"]),
    ("licence", [None, {}]),
    ("source", [True]),
    ("dimension", [0, -1, 4_097, 1.5, 16.0, "16", None, True, 10**30]),
    ("metric", ["hamming", "", None, 1, [], {}]),
    ("normalise", [0, 1, "true", None]),
    ("truncate_dimensions", [[16], [17], [0], ["8"], 8, None, "8", [8] * 17, [True]]),
    ("text", [7, [], "x", {}]),
    ("text/model", ["", "absent.onnx", "../model.onnx", 7, None, "encoder.json"]),
    ("text/tokenizer", ["absent.json", "a/b", None]),
    ("text/pooling", ["max", None, 7, [], "MEAN"]),
    ("text/tokens_max", [2, 0, -1, 32_769, 12.0, None, True]),
    ("text/over_long", ["refuse", None]),
    ("text/query_prefix", [7, None, "x" * 4_097, "\udfff"]),
    ("text/document_prefix", [[], "é" * 2_049]),
    ("text/batch", [1, None, "yes"]),
    ("image", [7, [], {}]),
    ("image/model", ["absent.onnx", None]),
    ("image/size", [7, 1_025, 8.0, None, 10]),
    ("image/resize", [7, 1_025, None]),
    ("image/mean", [[1, 2], [1, 2, 3, 4], ["1", 2, 3], None, [1, 2, 1e7], [1, 2, 10**400], []]),
    ("image/deviation", [[1, 2, 0], [1, 2, -1], [1, 2, 1e-9], 7, [True, 1, 1]]),
    ("image/channels_first", [0, None]),
    ("files", [[], {}, None, {f"f{i}": {"bytes": 1, "sha256": "a" * 64} for i in range(17)}]),
    ("files/model.onnx", [None, [], "x", {"bytes": 1}]),
    ("files/model.onnx/bytes", [0, -1, 2**40, "9", 9.0, None]),
    ("files/model.onnx/sha256", ["AB" * 32, "ab" * 31, "", None, 7]),
    ("files/..", [{"bytes": 1, "sha256": "a" * 64}]),
    ("files/" + "a" * 129, [{"bytes": 1, "sha256": "a" * 64}]),
    ("odd", [1]),
    ("text/odd", [1]),
    ("image/odd", [1]),
    ("files/model.onnx/odd", [1]),
]


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, values in WRONG for value in values]
)
def test_wrong_member(path, value):
    """A member that is wrong is named, by itself or by the member that it does not go with."""
    with pytest.raises(InvalidArgumentError) as caught:
        read_config(changed(path, value))
    named = path.replace("/", ".")
    field = caught.value.field
    partners = {"image.size": "image.resize", "image.deviation": "image.mean"}
    assert field is not None
    assert field.startswith(named[:40]) or named.startswith(field) or field == partners.get(named)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "path", [path for path, _ in WRONG if "odd" not in path and "/" in path][:18]
)
def test_missing_member(path):
    """A member that is missing is named."""
    content = json.loads(write_config(CONFIG))
    *outer, last = path.split("/")
    place = content
    for name in outer:
        place = place[name]
    if last not in place or outer == ["files"]:
        return
    del place[last]
    with pytest.raises(InvalidArgumentError, match="is missing") as caught:
        read_config(json.dumps(content).encode())
    assert caught.value.field == path.replace("/", ".")


@pytest.mark.parametrize(
    "changes",
    [
        {"text": None, "image": None},
        {"truncate_dimensions": (16,)},
        {"normalise": False},
        {"image": replace(CONFIG.image, mean=())},
        {"image": replace(CONFIG.image, mean=(float("nan"), 0.0, 0.0))},
        {"image": replace(CONFIG.image, deviation=(float("inf"), 1.0, 1.0))},
        {"files": {}},
        {"name": "Not A Name"},
    ],
)
def test_not_written(changes):
    """What could not be read is not written."""
    with pytest.raises(InvalidArgumentError):
        write_config(replace(CONFIG, **changes))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"squash-encoder"',
        b"{}",
        b'{"format": "other"}',
        b"\xff\xfe\x00",
        b"[" * 60_000,
        b'{"format": "squash-encoder", "version": ' + b"9" * 5_000 + b"}",
        b" " * 70_000,
    ],
)
def test_no_config(data):
    """What is no JSON, or no object of this format, is refused."""
    with pytest.raises(InvalidArgumentError):
        read_config(data)


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None, 10**100])
def test_other_version(version):
    """A version that is not known is told from a broken file."""
    with pytest.raises(UnsupportedFormatError, match="newer release"):
        read_config(changed("version", version))


@pytest.mark.parametrize("member", ["name", "bytes", "pooling"])
def test_duplicate_member(member):
    """Of two members with one name readers differ in which they take: neither is."""
    data = write_config(CONFIG).replace(
        f'"{member}": '.encode(), f'"{member}": 1,\n"{member}": '.encode(), 1
    )
    with pytest.raises(InvalidArgumentError, match="two members of one name"):
        read_config(data)


@given(st.data())
def test_any_change(data):
    """A file with some bytes changed is refused, or is read and has another digest."""
    whole = write_config(CONFIG)
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_config(bytes(broken))
    except SquashError:
        return
    assert (digest_of(bytes(broken)) == digest_of(whole)) == (bytes(broken) == whole)
