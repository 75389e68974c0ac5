"""What queries of a call have in common is the same whether it was asked before or not."""

import numpy as np
import pytest

from squash.database.arguments import query_options
from squash.errors import InvalidArgumentError

KNOWN = (1, 1, False, False, False, 1, False)  # top_k, recall_target, ..., timeout_ms, encoded


def test_what_is_equal_is_not_taken_for_what_was_asked():
    """True equals 1, and yet is no number of answers, share or time."""
    assert query_options((), *KNOWN) is query_options([], *KNOWN)
    for place in (0, 1, 5):
        given = [*KNOWN]
        given[place] = True
        with pytest.raises(InvalidArgumentError):
            query_options((), *given)
    assert query_options((), np.int64(1), *KNOWN[1:]) == query_options((), *KNOWN)
    assert type(query_options((), np.int64(1), *KNOWN[1:]).k) is int


def test_a_list_that_changes_is_read_again():
    """Options are known by what a list holds, not by the list."""
    include = ["vector"]
    assert query_options(include, *KNOWN).include_vector
    include[0] = "metadata"
    assert not query_options(include, *KNOWN).include_vector
    assert query_options(iter(include), *KNOWN).include_metadata
    assert query_options("metadata", *KNOWN) == query_options(include, *KNOWN)


@pytest.mark.parametrize("top_k", [[], {}, [1], 0, 10_001, 1.0, None])
def test_what_is_no_number_is_refused_as_such(top_k):
    """Also what cannot be kept, and each time."""
    for _ in range(2):
        with pytest.raises(InvalidArgumentError, match="top_k is"):
            query_options((), top_k, *KNOWN[1:])


def test_recall_that_nobody_asked_for():
    """It is another one of an index with an encoder."""
    of = [query_options((), 1, None, False, False, False, None, encoded) for encoded in (0, 1)]
    assert [one.recall_target for one in of] == [0.95, 0.99]
