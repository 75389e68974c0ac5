"""Every short cut over metadata agrees with the long way."""

import json
from collections import UserDict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from amounts import examples
from squash.attributes import Columns
from squash.attributes.metadata import _surely_plain, _surely_small, check_metadata
from squash.limits import METADATA_FILTERABLE_BYTES_MAX
from squash.model import AttributeType

SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=400),
)
NAMES = st.sampled_from(["a", "b", "\x1f" * 60, "é"])


@settings(max_examples=examples(200, least=25), deadline=None)
@given(metadata=st.dictionaries(NAMES, st.one_of(SCALARS, st.lists(SCALARS, max_size=3))))
def test_what_is_called_small_is_small(metadata: dict) -> None:
    """Metadata that is not written to be measured would be within the limit if it were."""
    text = json.dumps(metadata, separators=(",", ":"), ensure_ascii=False)
    assert not _surely_small(metadata) or len(text.encode()) <= METADATA_FILTERABLE_BYTES_MAX


@settings(max_examples=examples(200, least=25), deadline=None)
@given(
    metadata=st.dictionaries(
        NAMES | st.sampled_from(["$a", "", "x" * 300, "free", "said"]) | st.integers(0, 1),
        SCALARS | st.floats() | st.integers() | st.none() | st.lists(SCALARS, max_size=3),
        max_size=4,
    )
)
def test_what_is_called_plain_passes_every_check_as_it_is(metadata: dict) -> None:
    """Metadata that is looked at once only would be given back by the checks one by one."""
    about = {"non_filterable": ("free",), "declared": {"said": AttributeType.NUMBER}}
    if _surely_plain(metadata, **about):
        # Of another type of mapping nothing is called plain.
        checked = check_metadata(UserDict(metadata), key="k", **about)
        assert repr(checked) == repr(metadata)


@settings(max_examples=examples(100, least=25), deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({"a": SCALARS, "b": st.integers(-9, 9)}), min_size=1))
def test_rows_with_the_same_names_make_the_same_columns(rows: list[dict]) -> None:
    """Columns of rows with equal names are those they would be beside a row that has others."""
    plain = Columns.from_metadata(rows, non_filterable=["c"])
    mixed = Columns.from_metadata([*rows, {"c": 1}], non_filterable=["c"])
    assert plain.names == mixed.names == ("a", "b")
    for name in plain.names:
        one, other = plain.column(name), mixed.column(name)
        np.testing.assert_array_equal(one.numbers, other.numbers)
        assert one.strings == other.strings
        np.testing.assert_array_equal(one.ids, other.ids[:-1])
