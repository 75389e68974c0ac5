"""What queries of a call have in common is the same whether it was asked before or not."""

from uuid import uuid4

import numpy as np
import pytest

import squash
from squash.database.arguments import query_options
from squash.errors import FilterError, InvalidArgumentError, SquashError

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


@pytest.mark.parametrize("place", [2, 3, 4])
@pytest.mark.parametrize("wrong", ["false", "no", 0, 1, None, []])
def test_what_is_neither_true_nor_false_is_refused(place, wrong):
    """`exact="false"` would be exact."""
    given = [*KNOWN]
    given[place] = wrong
    with pytest.raises(InvalidArgumentError, match="is true or false, not"):
        query_options((), *given)
    given[place] = np.bool_(True)
    assert query_options((), *given) == query_options((), *KNOWN[:place], True, *KNOWN[place + 1 :])


@pytest.mark.parametrize("place", [0, 1, 2, 5])
def test_integers_of_thousands_of_digits_are_refused(place):
    """Python writes none of them out."""
    given = [*KNOWN]
    given[place] = 10**5_000
    with pytest.raises(InvalidArgumentError, match="not an integer of thousands of digits"):
        query_options((), *given)


@pytest.mark.parametrize(
    "number", [10**5_000, -(10**5_000), 1 << 128], ids=["long", "negative", "wide"]
)
@pytest.mark.parametrize(
    "call",
    [
        lambda database, _, number: database.create_index("wide", dimension=number),
        lambda database, _, number: database.create_index("seeded", dimension=2, seed=number),
        lambda _, index, number: index.put(keys=["a"], vectors=[[1, 0]], if_snapshot=number),
        lambda _, index, number: index.query([1, 0], as_of=number),
        lambda _, index, number: index.restore(as_of=number),
        lambda _, index, number: index.snapshots(limit=number),
        lambda _, index, number: index.build([], dollars_max=-abs(number)),
        lambda _, index, number: index.gc(-abs(number)),
    ],
)
def test_whole_numbers_that_no_store_holds_are_refused_wherever_they_are_given(call, number):
    """None is written out, in a message or to the store."""
    database = squash.connect(f"memory://{uuid4().hex}")
    index = database.create_index("x", dimension=2)
    with pytest.raises(InvalidArgumentError):
        call(database, index, number)


@pytest.mark.parametrize(
    "call",
    [
        lambda index: index.gc(dry_run="no"),
        lambda index: index.repair(dry_run="no"),
        lambda index: index.repair(drop_lost=1),
        lambda index: index.optimize(full="no"),
        lambda index: index.optimize(options=5),
    ],
)
def test_what_would_count_as_true_is_refused(call):
    """Also where nothing is there to be done."""
    index = squash.connect("memory://arguments").create_index(f"i{uuid4().hex}", dimension=2)
    with pytest.raises(InvalidArgumentError, match=r"true or false|BuildOptions"):
        call(index)


NO_LISTS = {
    "include": lambda index, value: index.query([1, 2], include=value),
    "vectors": lambda index, value: index.query_many(value),
    "filters": lambda index, value: index.query_many([[1, 2]], filters=value),
    "texts": lambda index, value: index.query_many(texts=value),
    "keys": lambda index, value: index.get(keys=value),
    "keys ": lambda index, value: index.put(keys=value, vectors=[[1, 2]]),
    "vectors ": lambda index, value: index.put(keys=["a"], vectors=value),
    "metadata": lambda index, value: index.put(keys=["a"], vectors=[[1, 2]], metadata=value),
    "metadata ": lambda index, value: index.patch(keys=["a"], metadata=value),
    "batches": lambda index, value: index.import_batches(value),
}


@pytest.mark.parametrize("call", NO_LISTS)
def test_an_array_of_no_dimension_is_no_list(call):
    """It is a number in an array's clothes, as NumPy's functions return, and has no members."""
    index = squash.connect("memory://no-lists").create_index(f"x{uuid4().hex}", dimension=2)
    with pytest.raises(InvalidArgumentError, match=call.strip()):
        NO_LISTS[call](index, np.array(3.0))


@pytest.mark.parametrize("number", [np.int8(100), np.uint16(100), np.int32(100), np.int64(100)])
def test_a_time_of_any_width_is_added_to_that_of_day(number):
    """Which 32 bits do not hold."""
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=2)
    index.put(keys=["a"], vectors=[[1, 0]])
    assert index.query([1, 0], timeout_ms=number).matches
    assert index.query_many([[1, 0]], timeout_ms=number)[0].matches


@pytest.mark.parametrize("span", [np.timedelta64(1), np.timedelta64(1, "s")])
def test_a_span_of_time_is_no_whole_number(span):
    """Though to NumPy it is a signed integer."""
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=2)
    for name in ("top_k", "timeout_ms", "as_of", "matches_max"):
        for _ in range(2):
            with pytest.raises(InvalidArgumentError, match=f"{name} is"):
                index.query([1, 0], **{name: span})
    with pytest.raises(InvalidArgumentError, match="limit is"):
        index.list(limit=span)


@pytest.mark.parametrize("said", [np.array([]), np.ones(2), None, 1, "weak"])
def test_a_consistency_is_one_of_two_words(said):
    """Whatever is given; also where `as_of` says which snapshot is read."""
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=2)
    for more in ({}, {"as_of": 0}):
        with pytest.raises(InvalidArgumentError, match="consistency is 'strong' or 'eventual'"):
            index.query([1, 0], consistency=said, **more)
        with pytest.raises(InvalidArgumentError, match="consistency is 'strong' or 'eventual'"):
            index.query_many([], consistency=said, **more)


@pytest.mark.parametrize("name", ["text_key", "tags", "attributes", "codec", "name"])
@pytest.mark.parametrize("given", [np.array([]), np.ones(2)])
def test_an_array_is_nothing_that_an_index_is_made_with(name, given):
    """Nor is an integer that Python does not write out."""
    database = squash.connect(f"memory://{uuid4().hex}")
    for one in (given, 10**5000):
        with pytest.raises(InvalidArgumentError):
            database.create_index(**{"name": "x", "dimension": 2, name: one})


def test_recall_that_nobody_asked_for():
    """It is another one of an index with an encoder."""
    of = [query_options((), 1, None, False, False, False, None, encoded) for encoded in (0, 1)]
    assert [one.recall_target for one in of] == [0.95, 0.99]


@pytest.mark.parametrize("given", ["x", None, -1, 1.5, True])
def test_what_is_no_number_of_bytes_is_refused_before_anything_is_written(given):
    """Else a put is durable, and what is read after it fails."""
    with pytest.raises(InvalidArgumentError, match="retained_bytes_max") as caught:
        squash.connect("memory://", retained_bytes_max=given)
    assert caught.value.field == "retained_bytes_max"


@pytest.mark.parametrize("name", ["endpoint_url", "region"])
def test_where_s3_is_said_in_texts(name):
    with pytest.raises(InvalidArgumentError, match=name) as caught:
        squash.connect("s3://bucket/prefix", **{name: 5})
    assert caught.value.field == name


@pytest.mark.parametrize("call", ["optimize", "gc", "verify", "repair", "export_batches"])
def test_who_is_told_of_a_long_job_is_a_function(call):
    """It is refused before anything is done."""
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=2)
    with pytest.raises(InvalidArgumentError, match="progress") as caught:
        getattr(index, call)(progress="yes")
    assert caught.value.field == "progress"


def test_a_folder_for_temporary_files_is_one():
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=2)
    with pytest.raises(InvalidArgumentError, match="scratch is a folder") as caught:
        index.optimize(scratch=5)
    assert caught.value.field == "scratch"


def test_of_several_filters_the_bad_one_is_named():
    """A list of them may be long: which one it is stands in the message and in the field."""
    store = f"memory://{uuid4().hex}"
    index = squash.connect(store).create_index("x", dimension=2, metric="dot")
    with pytest.raises(FilterError) as caught:
        index.query_many([[1, 0]] * 3, filters=[None, {"a": 1}, {"a": {"$x": 1}}])
    assert caught.value.field == "filters[2].a.$x"
    assert str(caught.value).startswith("filters[2]: the filter is not well formed at a.$x: ")
    with pytest.raises(FilterError) as caught:
        index.query_many([[1, 0]] * 2, filters=[{"a": 1}, 5])
    assert caught.value.field == "filters[1]"
    with pytest.raises(FilterError) as caught:
        index.query_many([[1, 0]] * 2, filters={"a": {"$x": 1}})
    assert caught.value.field == "a.$x"


def test_a_key_that_may_hold_anything_has_no_type():
    """Nobody would hold its values against the type."""
    database = squash.connect(f"memory://{uuid4().hex}")
    with pytest.raises(InvalidArgumentError, match="declare one of the two") as caught:
        database.create_index("x", dimension=2, attributes={"a": "number"}, non_filterable=["a"])
    assert caught.value.field == "non_filterable"
    assert database.list_indexes() == []


@pytest.mark.parametrize(
    ("name", "value"), [("expires", ["gone"]), ("non_filterable", [["body"]]), ("expires", {})]
)
def test_a_list_names_no_metadata_key(name, value):
    """Neither can be remembered among names, which are strings."""
    database = squash.connect(f"memory://{uuid4().hex}")
    with pytest.raises(InvalidArgumentError) as caught:
        database.create_index("x", dimension=2, **{name: value})
    assert caught.value.field == name
    assert database.list_indexes() == []


@pytest.mark.parametrize("name", [10**5000, "n" * 1_000_000], ids=["number", "long"])
def test_of_a_metadata_key_that_is_refused_a_message_has_the_beginning(name):
    """Python does not write out the one, and the other would be all of the answer."""
    index = squash.connect(f"memory://{uuid4().hex}").create_index("x", dimension=2)
    with pytest.raises(SquashError, match="metadata") as caught:
        index.put(keys=["a"], vectors=[[1, 0]], metadata=[{name: 1}])
    assert len(str(caught.value)) < 300
