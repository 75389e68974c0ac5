"""PyTorch's older files: tensors are read by hand, and nothing that is in them is run."""

import numpy as np
import pytest

from squash.encoders.export.torch_file import read_torch_file
from squash.errors import DataError

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."
SIZES = b"\x80\x02}."
FLOATS = b"ctorch\nFloatStorage\n"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
DICTIONARY = b"ccollections\nOrderedDict\n)R"


def word(text):
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def numbers(*values):
    return (
        b"(" + b"".join(b"J" + value.to_bytes(4, "little", signed=True) for value in values) + b"t"
    )


def tensor(key, length, *, offset=0, shape=(2, 3), strides=(3, 1), kind=FLOATS, make=TENSOR):
    storage = b"((" + word("storage") + kind + word(key) + word("cpu")
    storage = storage[1:] + b"J" + length.to_bytes(4, "little") + b"NtQ"
    start = b"J" + offset.to_bytes(4, "little", signed=True)
    return make + b"(" + storage + start + numbers(*shape) + numbers(*strides) + b"\x89NtR"


def torch_file(tensors, runs, *, head=MAGIC + PROTOCOL + SIZES):
    items = b"".join(word(name) + made for name, made in tensors.items())
    content = b"\x80\x02" + DICTIONARY + b"(" + items + b"u."
    keys = b"\x80\x02](" + b"".join(word(key) for key in runs) + b"e."
    data = b"".join(len(run).to_bytes(8, "little") + run.tobytes() for run in runs.values())
    return head + content + keys + data


RUN = np.arange(8, dtype=np.float32)


def test_tensors_are_read_with_their_offsets_and_strides():
    made = {
        "plain": tensor("a", 8),
        "later": tensor("a", 8, offset=2),
        "turned": tensor("b", 8, shape=(3, 2), strides=(1, 3)),
        "number": tensor("b", 8, offset=5, shape=(), strides=()),
    }
    found = read_torch_file(torch_file(made, {"a": RUN, "b": RUN * 2}))
    np.testing.assert_array_equal(found["plain"], RUN[:6].reshape(2, 3))
    np.testing.assert_array_equal(found["later"], RUN[2:].reshape(2, 3))
    np.testing.assert_array_equal(found["turned"], RUN[:6].reshape(2, 3).T * 2)
    assert found["number"].shape == ()
    assert found["number"] == 10


def test_every_truncation_is_damage():
    data = torch_file({"plain": tensor("a", 8)}, {"a": RUN})
    for length in range(len(data)):
        with pytest.raises(DataError):
            read_torch_file(data[:length])


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": 3},
        {"offset": -1},
        {"shape": (2, 3, 1)},
        {"shape": (-2, 3)},
        {"strides": (3, -1)},
        {"shape": (0, 3)},
        {"shape": (2**30, 2**30)},
    ],
)
def test_a_tensor_that_reaches_past_its_numbers_is_refused(changes):
    with pytest.raises(DataError):
        read_torch_file(torch_file({"odd": tensor("a", 8, **changes)}, {"a": RUN}))


@pytest.mark.parametrize("name", [b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nload\n"])
def test_a_name_that_makes_no_tensor_is_refused_and_not_called(name, tmp_path):
    target = tmp_path / "ran"
    attack = name + b"(" + word(f"touch {target}") + b"tR"
    with pytest.raises(DataError, match="which is not a tensor"):
        read_torch_file(torch_file({"odd": attack}, {"a": RUN}))
    assert not target.exists()


@pytest.mark.parametrize(
    "odd",
    [
        TENSOR + b"(tR",
        FLOATS + b"(tR",
        b"\x8c\x02os\x8c\x06system\x93",  # STACK_GLOBAL
        b"(" + word("x") + b"ios\nsystem\n",  # INST
        b"NN\x81",  # NEWOBJ
        b"0" * 20,  # POP
        b"h\x09",  # a value that was never kept
        b"N",
    ],
)
def test_opcodes_and_calls_that_no_tensor_needs_are_refused(odd):
    with pytest.raises(DataError):
        read_torch_file(torch_file({"odd": odd}, {"a": RUN}))


def test_another_form_of_file_is_refused():
    with pytest.raises(DataError, match="older form"):
        read_torch_file(torch_file({}, {}, head=PROTOCOL + PROTOCOL + SIZES))
    with pytest.raises(DataError):
        read_torch_file(b"PK\x03\x04 a zip archive")
    with pytest.raises(DataError, match="dictionary of tensors"):
        read_torch_file(MAGIC + PROTOCOL + SIZES + b"\x80\x02]." + b"\x80\x02].")


# pickletools warns of a backslash in a name, which is refused then.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_noise_is_damage_or_tensors_and_nothing_else():
    rng = np.random.default_rng(5)
    data = torch_file({"plain": tensor("a", 8), "more": tensor("b", 8)}, {"a": RUN, "b": RUN})
    for _ in range(2_000):
        noisy = bytearray(data)
        for place in rng.integers(0, len(data), 1 + rng.integers(3)).tolist():
            noisy[place] = int(rng.integers(256))
        try:
            found = read_torch_file(bytes(noisy))
        except DataError:
            continue
        assert all(isinstance(values, np.ndarray) for values in found.values())
