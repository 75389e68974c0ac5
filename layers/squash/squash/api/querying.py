"""`POST …/query`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from squash.api import rows
from squash.api.access import Caller
from squash.api.bodies import QueryBody, query_body
from squash.api.contents import check_dimensions
from squash.api.documents import answer_document, least_bytes, matches_max
from squash.api.requests import Reply, refuse_longer, too_long
from squash.api.services import Call, Endpoint, Services
from squash.attributes import parse_filter
from squash.database import Index
from squash.errors import FilterError, InvalidArgumentError, SquashError, TooLargeError
from squash.index.checking import check_vector
from squash.limits import ANSWER_MS, HTTP_ANSWER_BYTES_MAX, QUERY_TIMEOUT_MS
from squash.model import Answer, Filter, IndexConfig, Usage
from squash.planning.prices import request_cost_usd
from squash.storage import StoreCounts


def query(services: Services, call: Call) -> Reply:
    """Find the records nearest to one vector, or to each of several."""
    body = query_body(call.document)
    if body.explain:
        call.caller.check_unrestricted("explain")
    before = services.catalogue_store.counts()
    answers = services.opened.read(
        call.index,
        lambda index: _answers(index, body, call),
    )
    spent = services.catalogue_store.counts() - before
    usage = _charged(answers[0].usage, spent, billed=services.database.settings.billed)
    answers = [replace(answers[0], usage=usage), *answers[1:]]
    refuse_longer(sum(least_bytes(answer.matches) for answer in answers))
    documents = [_document(answer, call.caller) for answer in answers]
    document = documents[0] if body.single else {"answers": documents}
    return Reply(document, spent=_spent(usage))


def _answers(index: Index, body: QueryBody, call: Call) -> Sequence[Answer]:
    check_dimensions(body.contents, index.config)
    filters = _filters(index, body, call.caller)
    options: dict[str, Any] = {
        "encoder": body.encoder,
        "top_k": body.top_k,
        "recall_target": body.recall_target,
        "exact": body.exact,
        "consistency": body.consistency,
        "as_of": body.as_of,
        "include": body.include,
        "explain": body.explain,
        "allow_partial": body.allow_partial,
        "timeout_ms": _timeout_ms(body, call),
        "matches_max": matches_max(
            body.include, index.config.dimension, bytes_max=HTTP_ANSWER_BYTES_MAX
        ),
    }
    try:
        if body.single:
            return [index.query(**body.contents.argument(), filter=filters[0], **options)]
        # One filter for all is prepared once, if it is told to be one.
        alike = all(one is filters[0] for one in filters)
        return index.query_many(
            **body.contents.arguments(), filters=filters[0] if alike else filters, **options
        )
    except (InvalidArgumentError, TooLargeError) as error:
        if error.field == "matches_max":
            raise too_long() from error
        _locate(error, body, index.config)
        raise


def _timeout_ms(body: QueryBody, call: Call) -> int | None:
    """Return how long the query may take, so that there is time to answer before Lambda ends it.

    Opening the index may have taken some of it already, where the container is cold.
    """
    if call.left_ms is None:
        return body.timeout_ms
    most = max(call.left_ms() - ANSWER_MS, 1)
    return min(QUERY_TIMEOUT_MS if body.timeout_ms is None else body.timeout_ms, most)


def _filters(index: Index, body: QueryBody, caller: Caller) -> Sequence[Filter | None]:
    made: dict[int, Filter | None] = {}
    for i, filter_ in enumerate(body.filters):
        if id(filter_) in made:
            continue
        try:
            made[id(filter_)] = rows.query_filter(caller, filter_, index.config)
        except InvalidArgumentError as error:
            error.field = _filter_place(body, i, error.field)
            raise
    return [made[id(filter_)] for filter_ in body.filters]


def _locate(error: SquashError, body: QueryBody, config: IndexConfig) -> None:
    """Let an error name the place in the body: which of the queries it was is found by trying."""
    vectors = body.contents.kind == "vector"
    if body.contents.locate(error):
        return
    for i, (item, filter_) in enumerate(zip(body.contents.items, body.filters, strict=True)):
        try:
            if vectors:
                check_vector(item, config)
            parse_filter(filter_, non_filterable=config.non_filterable)
        except FilterError as found:
            error.args, error.field = found.args, _filter_place(body, i, found.field)
            return
        except InvalidArgumentError:
            error.field = body.contents.places[i]
            return


def _filter_place(body: QueryBody, i: int, inside: str | None) -> str:
    return f"{body.filter_places[i]}.{inside}" if inside else body.filter_places[i]


def _charged(usage: Usage, spent: StoreCounts, *, billed: bool) -> Usage:
    """Add what looking into the catalogue cost, where an index was opened for this."""
    return replace(
        usage,
        store_requests=usage.store_requests + spent.requests,
        store_bytes=usage.store_bytes + spent.bytes_in,
        cost_usd=usage.cost_usd + (request_cost_usd(spent.by_kind) if billed else 0.0),
    )


def _spent(usage: Usage) -> dict[str, float]:
    """Return what the log has of a query's usage: a line is paid for by its length."""
    found = {
        "calls": usage.invocations,
        "cold": usage.invocations_cold,
        "s3": usage.store_requests,
        "bytes": usage.store_bytes,
        "usd": float(f"{usage.cost_usd:.3g}"),
    }
    return {name: value for name, value in found.items() if value}


def _document(answer: Answer, caller: Caller) -> dict[str, Any]:
    document = answer_document(answer)
    if caller.row_filter is not None:
        # How many rows were looked at tells how many there are.
        for name in ("rows_scanned", "vectors_read", "levels"):
            del document["usage"][name]
    return document


ENDPOINTS: Final[Mapping[str, Endpoint]] = {"query": query}
