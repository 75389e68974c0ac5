"""Keys are found by their hashes, and pages of documents come back as they were."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash.errors import ChecksumError
from squash.segment import KeyTable, hash_keys, pack_documents, parse_page

KEYS = st.lists(
    st.text(min_size=1, max_size=20).filter(lambda s: s.isprintable()), unique=True, max_size=200
)


@settings(max_examples=60, deadline=None)
@given(keys=KEYS, others=KEYS)
def test_every_key_is_found_and_no_other(keys, others) -> None:
    """A key's row is its position; a key that is not there gives -1."""
    table = KeyTable.build(keys)
    asked = [*keys, *others]
    expected = [keys.index(k) if k in keys else -1 for k in asked]
    assert table.lookup(hash_keys(asked)).tolist() == expected


def test_equal_first_halves_are_told_apart() -> None:
    """The second half of a hash counts too."""
    hashes = np.array([[5, 1], [5, 2], [5, 3], [9, 0]], dtype=np.uint64)
    table = KeyTable(hashes, np.array([10, 11, 12, 13], dtype=np.uint32))
    wanted = np.array([[5, 3], [5, 1], [5, 4], [9, 0], [1, 1], [99, 0]], dtype=np.uint64)
    assert table.lookup(wanted).tolist() == [12, 10, -1, 13, -1, -1]


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 200])
def test_documents_come_back_from_their_pages(rows: int) -> None:
    """Every page parses to its records; a flipped bit is refused."""
    keys = [f"k{i}" for i in range(rows)]
    metadata = [{"n": i, "t": "ä" * (i % 5), "l": [1, "x"]} for i in range(rows)]
    packed = pack_documents(keys, metadata)
    back = []
    for page in range(len(packed.crc32)):
        start, stop = int(packed.offsets[page]), int(packed.offsets[page + 1])
        data = bytearray(packed.data[start:stop])
        back += parse_page(data, crc32=int(packed.crc32[page]), where="x")
        data[len(data) // 2] ^= 4
        with pytest.raises(ChecksumError):
            parse_page(data, crc32=int(packed.crc32[page]), where="x")
    assert back == list(zip(keys, metadata, strict=True))
