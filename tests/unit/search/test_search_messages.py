"""Messages say what they were made of; what is damaged or hostile is refused, never carried out."""

from dataclasses import replace
from functools import cache
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import squash
from amounts import examples
from dividing import PREFIX, Division, session_of
from forcing import codes_only
from squash.attributes import filter_from_json, filter_to_json, parse_filter
from squash.errors import DataError, InternalError, PartialAnswerError, SquashError
from squash.index.entries import Entry
from squash.maintain import BuildOptions
from squash.search import Query
from squash.search.allocating import allocate, tasks_of
from squash.search.gathering import gather
from squash.search.messages import (
    TASK,
    read_task,
    read_task_answer,
    split_task,
    task_answer_bytes_max,
    task_bytes_max,
    write_task,
    write_task_answer,
)
from squash.search.processing import process
from squash.search.requests import (
    Request,
    RequestAnswer,
    answer_request,
    found_answered,
    read_request,
    read_request_answer,
    request_bytes_max,
    write_request,
    write_request_answer,
)
from squash.search.tasks import TaskAnswer
from squash.search.wire import Reader, open_message, write_message
from strategies import filters_for, metadata_rows

OPTIONS = BuildOptions(
    partition_rows_target=150,
    partition_rows_max=200,
    cluster_rows_target=40,
    calibration_queries=20,
    exact_rows_max=8,
)
DIMENSION = 6
SLACK = 6_000


@cache
def scene(codec):
    """Return an index, its queries, their allocation, and its task for a single slot."""
    rng = np.random.default_rng(4)
    index = squash.connect(f"memory://{uuid4().hex}").create_index(
        "x", dimension=DIMENSION, metric="euclidean", codec=codec
    )
    index.put(
        keys=[f"k{i}" for i in range(900)],
        vectors=rng.standard_normal((900, DIMENSION)),
        metadata=[
            {"u": float(rng.random()), "n": i % 3, "text": "é" * (i % 9)} for i in range(900)
        ],
    )
    index.optimize(options=OPTIONS)
    index.delete(keys=["k1", "k100"])
    filters = [None, {"u": {"$lt": 0.4}}, {"u": {"$lt": 0.02}}, {"n": 1}]
    nodes = [session_of(index).parse(filter_) for filter_ in filters]
    queries = [
        Query(
            rng.standard_normal(DIMENSION).astype(np.float32),
            k=3,
            node=nodes[place % 4],
            exact=place >= 8,
            explain=place % 3 == 0,
            include_vector=place % 2 == 0,
        )
        for place in range(12)
    ]
    view = session_of(index).view("strong")
    with codes_only():
        allocation = allocate(view, queries[:6] + queries[8:])
    measured = allocate(view, queries[6:8])
    allocation = replace(allocation, queries=allocation.queries + measured.queries)
    [task] = tasks_of(allocation, ["here"] * len(view.partitions), prefix=PREFIX).values()
    return index, allocation, task


def slot_for(index):
    return Division().slot(session_of(index)._store, "here")


CODECS = pytest.mark.parametrize("codec", ["residual", "osq"])


@CODECS
def test_a_task_and_its_answer_are_written_as_they_were_read(codec):
    """Reading and writing again gives the same bytes; sizes are bounds, and near."""
    index, _, task = scene(codec)
    sent = write_task(task)
    assert write_task(read_task(sent)) == sent
    assert len(sent) <= task_bytes_max(task) <= len(sent) + SLACK
    answer = write_task_answer(process(read_task(sent), slot_for(index)), DIMENSION)
    assert write_task_answer(read_task_answer(answer), DIMENSION) == answer
    assert len(answer) <= task_answer_bytes_max(task)
    told = replace(read_task_answer(answer), spent={"requests": 3, "bytes": 1.5})
    assert read_task_answer(write_task_answer(told, DIMENSION)).spent == told.spent
    with pytest.raises(InternalError):
        write_task_answer(replace(told, spent={"x" * 3_000: 1}), DIMENSION)


@CODECS
@pytest.mark.parametrize("task_bytes", [1, 5_000, 9_000, 1 << 40])
def test_a_split_task_is_all_of_it(codec, task_bytes):
    """Every query of every partition is in just one of the parts, which are as small as asked."""
    _, _, task = scene(codec)
    parts = split_task(task, task_bytes=task_bytes, answer_bytes=1 << 40)
    pairs = [
        (query.number, part.parts[part.admitted[at].part].number)
        for part in parts
        for query in part.queries
        for at in query.admitted
    ]
    assert sorted(pairs) == sorted(
        (query.number, task.parts[task.admitted[at].part].number)
        for query in task.queries
        for at in query.admitted
    )
    for part in parts:
        least = len(part.queries) == 1 and len(part.parts) == 1
        assert least or task_bytes_max(part) <= task_bytes
        assert {at for query in part.queries for at in query.admitted} == set(
            range(len(part.admitted))
        )


def altered(data, changes):
    """Return bytes with some of them changed."""
    found = bytearray(data)
    for place, value in changes:
        found[place % len(found)] = value
    return bytes(found)


CHANGES = st.lists(
    st.tuples(st.integers(0, 1 << 30), st.sampled_from([0, 1, 2, 127, 128, 255])),
    min_size=1, max_size=4,
)  # fmt: skip


@CODECS
@settings(max_examples=examples(300), deadline=None)
@given(changes=CHANGES)
def test_an_altered_task_is_refused_or_a_task(codec, changes):
    """It is refused as damaged, or carried out as another task would be: nothing else happens."""
    index, _, task = scene(codec)
    try:
        read = read_task(altered(write_task(task), changes))
    except DataError:
        return
    try:
        found = process(read, slot_for(index))
    except SquashError:
        return
    assert len(found.queries) == len(read.queries)


@CODECS
@pytest.mark.parametrize("what", ["task", "answer"])
def test_a_truncated_message_is_refused(codec, what):
    """Wherever it is cut."""
    index, _, task = scene(codec)
    data, read = write_task(task), read_task
    if what == "answer":
        data = write_task_answer(process(task, slot_for(index)), DIMENSION)
        read = read_task_answer
    for length in {0, 1, 7, 8, 9, 64, len(data) // 2, len(data) - 64, len(data) - 1}:
        with pytest.raises(DataError):
            read(data[:length])


HOSTILE = {
    "admitted_of": [(0, 0, 1 << 30), (0, 1, 9), ("words", 2, 1 << 30)],
    "admitted_begins": [(1, 1 << 62), (1, -5)],
    "admitted_clusters": [(0, 1 << 31)],
    "queries": [(0, 1, 99), (0, 2, 7), (0, 2, 2)],
    "query_admitted": [(0, 1 << 20), (0, 1)],
    "taken": [(0, 1 << 31), ("again", None)],
    "taken_parts": [(0, 9_999)],
    "vectors": [(0, 0, np.nan)],
    "projected": [(0, 0, np.inf)],
    "scalars": [(0, 0, np.nan)],
}


@pytest.mark.parametrize(
    ("name", "change"), [(name, one) for name, changes in HOSTILE.items() for one in changes]
)
def test_a_hostile_task_is_refused(name, change):
    """Numbers beyond what there is, lists that end beyond their values, clusters twice."""
    _, _, task = scene("residual")
    message = open_message(write_task(task), TASK)
    header = {k: v for k, v in message.header.items() if k not in {"kind", "version", "arrays"}}
    arrays = {
        one: Reader(message).array(one, dtype, *shape).copy()
        for one, (dtype, *shape) in message.header["arrays"].items()
    }
    *place, value = change
    if place[0] == "words":
        place[0] = np.flatnonzero(arrays["admitted_of"][:, 2])[0]
    if place[0] == "again":  # the second cluster of a part
        parts = arrays["taken_parts"][: arrays["taken_begins"][1]]
        first, second = np.flatnonzero(parts == parts[0])[:2]
        place, value = [second], arrays["taken"][first]
    arrays[name][tuple(place)] = value
    with pytest.raises(DataError):
        read_task(write_message(TASK, header, arrays))


def test_what_is_quoted_of_a_message_is_short():
    """A refusal goes back in an answer, which must not be as long as what it refuses."""
    _, _, task = scene("residual")
    message = open_message(write_task(task), TASK)
    header = {k: v for k, v in message.header.items() if k not in {"kind", "version", "arrays"}}
    arrays = {
        one: Reader(message).array(one, dtype, *shape)
        for one, (dtype, *shape) in message.header["arrays"].items()
    }
    with pytest.raises(DataError) as caught:
        read_task(write_message(TASK, header | {"metric": "x" * 5_000_000}, arrays))
    assert len(str(caught.value)) < 500


def test_a_task_that_does_not_fit_its_segments_is_refused():
    """Clusters that a segment lacks, words of other clusters, another codec, other rows."""
    index, _, task = scene("residual")
    query = next(one for one in task.queries if one.rotated is not None)
    wrong = [
        replace(task, queries=(replace(query, clusters=query.clusters + 50),)),
        replace(task, codec_version=1),
        replace(task, codec="osq"),
        replace(task, dimension=DIMENSION + 1),
        replace(task, projected_dimension=DIMENSION + 1),
        replace(
            task,
            admitted=tuple(
                one if one.words is None else replace(one, words=one.words[:-1])
                for one in task.admitted
            ),
        ),
        replace(
            task,
            parts=tuple(
                replace(part, segment=replace(part.segment, rows=part.segment.rows + 1))
                for part in task.parts
            ),
        ),
    ]
    for one in wrong:
        with pytest.raises(DataError):
            process(one, slot_for(index))
    by_pages = Division(whole_bytes_max=0).slot(session_of(index)._store, "here")
    with pytest.raises(DataError, match="names a cluster that its segment does not have"):
        process(wrong[0], by_pages)


def test_bits_beyond_a_cluster_s_rows_admit_nothing():
    """Words full of ones find the rows that there are, no others."""
    index, _, task = scene("residual")
    full = tuple(
        one if one.words is None else replace(one, words=np.full_like(one.words, 0xFFFFFFFF))
        for one in task.admitted
    )
    query = next(
        one
        for one in task.queries
        if one.rotated is not None and task.admitted[one.admitted[0]].words is not None
    )
    everything = replace(query.asked, keep=5_000, k=3)
    wide = replace(task, admitted=full, queries=(replace(query, asked=everything),))
    [kept] = process(wide, slot_for(index)).queries
    counts = {part.number: part.segment.rows for part in task.parts}
    assert all(
        row < counts[number]
        for number, row in zip(kept.partition.tolist(), kept.row.tolist(), strict=True)
    )
    assert len(set(zip(kept.partition.tolist(), kept.row.tolist(), strict=True))) == len(kept.row)


@CODECS
def test_answers_that_do_not_fit_are_refused(codec):
    """What nobody asked, twice the same, rows that there are not; and what is missing is named."""
    index, allocation, task = scene(codec)
    answer = process(task, slot_for(index))
    gather(allocation, [answer])
    first = answer.queries[0]
    wrong = [
        [answer, answer],
        [TaskAnswer((replace(first, number=999),))],
        [TaskAnswer((replace(first, row=first.row + 10_000), *answer.queries[1:]))],
        [TaskAnswer((replace(first, searched=first.searched + 90), *answer.queries[1:]))],
    ]
    for answers in wrong:
        with pytest.raises(DataError):
            gather(allocation, answers)
    with pytest.raises(PartialAnswerError, match="partitions were not searched"):
        gather(allocation, [TaskAnswer(answer.queries[1:])])
    partial = gather(allocation, [TaskAnswer(answer.queries[1:])], allow_partial=True)
    assert not partial[0][1].certified
    assert partial[0][0].rows == []


@settings(max_examples=examples(80, least=25), deadline=None)
@given(data=st.data(), rows=metadata_rows(max_size=4))
def test_a_filter_is_read_as_it_was_written(data, rows):
    """As the same nodes, types and all."""
    node = parse_filter(data.draw(filters_for(rows)))
    assert repr(filter_from_json(filter_to_json(node))) == repr(node)


@pytest.mark.parametrize(
    "value",
    [None, [], ["or", []], ["exists"], ["exists", 1], ["one of", "a", []], ["one of", "a", [None]],
     ["one of", "a", [1]], ["one of", "a", [[]]], ["within", "a", "list", None, True, None, True],
     ["within", "a", "number", "x", True, None, True], ["not", ["not", 3]], ["nor", "a"],
     ["within", "a", "number", float("inf"), True, None, True]],
)  # fmt: skip
def test_a_filter_that_is_none_is_refused(value):
    """Whatever else stands where a filter should."""
    with pytest.raises((ValueError, TypeError, KeyError)):
        filter_from_json(value)


def test_a_filter_nests_only_so_deep():
    """What no filter of the language becomes is refused before it is followed down."""
    value = ["exists", "a"]
    for _ in range(500):
        value = ["not", value]
    with pytest.raises(ValueError, match="without end"):
        filter_from_json(value)


def request():
    index, allocation, _ = scene("residual")
    session = session_of(index)
    queries = tuple(planned.query for planned in allocation.queries)
    return Request(Entry(session.config, PREFIX), allocation.view.snapshot, queries), allocation


def test_a_request_and_its_answer_are_written_as_they_were_read():
    """Reading and writing again gives the same bytes; one filter stays one object."""
    asked, allocation = request()
    sent = write_request(asked)
    read = read_request(sent)
    assert write_request(read) == sent
    assert len(sent) <= request_bytes_max(asked) <= len(sent) + SLACK
    assert read.entry == asked.entry
    assert len({id(query.node) for query in read.queries}) == 4
    index, _, task = scene("residual")
    gathered = gather(allocation, [process(task, slot_for(index))])
    answer = write_request_answer(answer_request(asked, allocation.view, gathered), DIMENSION)
    assert write_request_answer(read_request_answer(answer), DIMENSION) == answer
    for data, reader in ((sent, read_request), (answer, read_request_answer)):
        for length in (0, 9, len(data) // 2, len(data) - 1):
            with pytest.raises(DataError):
                reader(data[:length])


@settings(max_examples=examples(150), deadline=None)
@given(changes=CHANGES, which=st.booleans())
def test_altered_requests_and_answers_are_refused_or_read(changes, which):
    """A DataError is raised, or queries that an answer does not name any more are missing."""
    asked, allocation = request()
    if which:
        data, read = write_request(asked), read_request
    else:
        index, _, task = scene("residual")
        answer = process(task, slot_for(index))
        data, read = write_task_answer(answer, DIMENSION), read_task_answer
    try:
        found = read(altered(data, changes))
        if isinstance(found, TaskAnswer):
            answer_request(asked, allocation.view, gather(allocation, [found]))
    except (DataError, PartialAnswerError):
        pass


def test_answers_of_other_snapshots_are_refused():
    """What an allocator answers is of one snapshot, which is the coordinator's."""
    _, allocation = request()
    view = allocation.view
    assert found_answered(view, RequestAnswer(view.snapshot, ())) == []
    with pytest.raises(DataError, match="was searched"):
        found_answered(view, RequestAnswer(view.snapshot + 1, ()))
