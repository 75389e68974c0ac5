"""JSON that cannot be misread."""

from __future__ import annotations

import tracemalloc

import pytest

from squash import strict_json


def test_a_name_that_comes_twice_is_found_among_very_many():
    """In one pass: what takes the square of their number takes hours."""
    names = "".join(f'"{i}":0,' for i in range(400_000))
    with pytest.raises(strict_json.JsonError, match="'x' twice") as refused:
        strict_json.loads(f'{{{names}"x":0,"x":1}}')
    assert refused.value.place == "x"


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-32", "utf-32-be", "latin-1"])
def test_bytes_are_utf8(coding):
    with pytest.raises(strict_json.JsonError):
        strict_json.loads('{"é": 1}'.encode(coding))
    assert strict_json.loads('{"é": 1}'.encode()) == {"é": 1}
    assert strict_json.loads('{"é": 1}'.encode("utf-8-sig")) == {"é": 1}


def test_half_of_a_surrogate_pair_is_no_utf8():
    with pytest.raises(strict_json.JsonError):
        strict_json.loads(b'["\xed\xa0\x80"]')


def test_many_numbers_that_are_none_take_little_memory():
    """Vectors of NaN are what a client sends whose model failed."""
    text = "[1," + "NaN," * 200_000 + "Infinity]"
    tracemalloc.start()
    try:
        with pytest.raises(strict_json.JsonError, match="NaN") as refused:
            strict_json.loads(text)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(text)
    finally:
        tracemalloc.stop()
    assert refused.value.place == "[1]"
