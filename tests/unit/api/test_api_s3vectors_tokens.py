"""Paging tokens: what was put in comes out, for the request that it was made for alone."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.api.s3vectors.problems import ServiceError
from squash.api.s3vectors.tokens import decode, encode

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
_FIELDS = st.lists(_TEXT, max_size=4)
_BOUND = st.lists(st.binary(max_size=40), max_size=3)
_OURS = set(string.ascii_letters + string.digits + "-_")
# A key of the most bytes, and what else a page of a listing tells, must fit the service's limit.
_KEY_BYTES_MAX = 1_024
_LIST_TOKEN_CHARACTERS_MAX = 2_048


@given(fields=_FIELDS, bound=_BOUND)
def test_a_token_gives_back_what_it_was_made_of(fields: list[str], bound: list[bytes]) -> None:
    """And it is text that needs no escape, in a URL or in JSON."""
    token = encode("ListVectors", fields, bound=bound)
    assert set(token) <= _OURS
    assert decode("ListVectors", token, fields=len(fields), bound=bound) == tuple(fields)


@given(fields=_FIELDS, bound=_BOUND, other=_BOUND)
def test_a_token_continues_no_other_request(
    fields: list[str], bound: list[bytes], other: list[bytes]
) -> None:
    """Neither of another operation, nor one that asked for something else."""
    token = encode("ListVectors", fields, bound=bound)
    with pytest.raises(ServiceError, match="Invalid nextToken"):
        decode("ListIndexes", token, fields=len(fields), bound=bound)
    if bound != other:
        with pytest.raises(ServiceError, match="Invalid nextToken"):
            decode("ListVectors", token, fields=len(fields), bound=other)


@given(fields=_FIELDS, data=st.data())
def test_a_token_that_was_changed_is_refused(fields: list[str], data: st.DataObject) -> None:
    """At any one character, also where only bits differ that carry nothing."""
    token = encode("ListVectors", fields)
    at = data.draw(st.integers(0, len(token) - 1))
    put = data.draw(st.sampled_from(sorted(_OURS | {"=", "é", " ", "\n", "\ud800"})))
    changed = token[:at] + put + token[at + 1 :]
    if changed == token:
        return
    with pytest.raises(ServiceError) as caught:
        decode("ListVectors", changed, fields=len(fields))
    assert caught.value.code == "ValidationException"


@given(token=st.text(max_size=100))
def test_any_text_is_refused_as_a_wrong_request(token: str) -> None:
    """Whatever it is: a client's error, never the server's."""
    with pytest.raises(ServiceError) as caught:
        decode("ListVectors", token, fields=1)
    assert caught.value.code == "ValidationException"


def test_a_token_of_the_longest_key_fits_the_services_limit() -> None:
    """With room for a number or two beside it."""
    token = encode("ListVectors", ["k" * _KEY_BYTES_MAX, str(2**63), str(2**63)])
    assert len(token) <= _LIST_TOKEN_CHARACTERS_MAX
