"""Listing the inputs, and dealing their rows out to tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Final

from squash.errors import (
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    SquashError,
    TooLargeError,
)
from squash.limits import (
    BUILD_BATCHES_MAX,
    BUILD_ENCODE_ROWS,
    BUILD_FILES_MAX,
    BUILD_SAMPLE_PIECES_MAX,
)
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.estimates import WORKERS_ASSUMED, estimate_of, workers_here
from squash.maintain.bulk.files.choose import check_alike, probe
from squash.maintain.bulk.plan import InputFile, Piece, Plan
from squash.maintain.bulk.records import read_attempt, write_json
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.learning import sample_rows
from squash.model import IndexConfig
from squash.planning.building import (
    cut_pieces,
    deal,
    key_range_count,
    piece_rows_max,
    sample_pieces,
)
from squash.reports import Progress
from squash.storage import Reads
from squash.storage.inputs import InputInfo

_PROBED_AT_ONCE: Final = 64
_NAMED_MAX: Final = 100
# What is wrong with a file, and stays so until somebody does something about it.
_FAULTS: Final = (
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ConflictError,
    DataError,
    TooLargeError,
)


def run(context: BuildContext, request: BuildRequest, batch: int) -> TaskReport:  # noqa: ARG001
    """Do the only batch; what it leaves is the same however often, and wherever, it runs.

    Raises
    ------
    InvalidArgumentError
        If files cannot be built from; it names all of them, up to a hundred.
    TooLargeError
        If there are too many files.
    UnavailableError, ThrottledError
        If one cannot be read just now.

    """
    found = _probed(context, request, _listed(context, request))
    plan = make_plan(found, request, context.config)
    write_json(context.store, keys.plan_key(request.build), plan.to_json())
    workers = workers_here(
        read_attempt(context.store, request.build), context.memory_mb, wide=WORKERS_ASSUMED
    )
    return TaskReport(
        rows=plan.rows,
        detail=estimate_of(plan, request, context.config.dimension, workers),
    )


def make_plan(found: Sequence[InputFile], request: BuildRequest, config: IndexConfig) -> Plan:
    """Deal the rows of files out; the same for the same files, request and index.

    Parameters
    ----------
    found:
        The files, in the order of the rows; what they say of their first row is not looked at.
    request, config:
        What was asked, and the index's.

    Raises
    ------
    InvalidArgumentError
        If the files hold no rows, or some hold vectors and others texts, or some have keys and
        others none.

    """
    files, rows = [], 0
    for file in found:
        files.append(replace(file, first=rows))
        rows += file.rows
    if not rows:
        raise InvalidArgumentError("the files of this build hold no rows: name others")
    check_alike(files)
    texts = next((file.url for file in files if file.texts), None)
    vectors = next((file.url for file in files if not file.texts), None)
    if texts is not None and vectors is not None:
        raise InvalidArgumentError(
            f"{texts} is to be read for its texts, and {vectors} for its vectors: build of one kind"
        )
    encodes = texts is not None
    sizes, dimension = request.sizes, config.dimension
    pieces = list(_pieces(files, request, dimension, encodes=encodes))
    row_bytes = 4 * dimension
    weights = [piece.rows * row_bytes for piece in pieces]
    sampled = sample_pieces(len(pieces), pieces_max=BUILD_SAMPLE_PIECES_MAX, seed=config.seed)
    sampled_begins = deal(
        [weights[piece] for piece in sampled],
        target=sizes.batch_bytes,
        batches_max=BUILD_BATCHES_MAX,
    )
    keyed = any(file.keyed for file in files)
    sampled_rows = sum(pieces[piece].rows for piece in sampled)
    return Plan(
        files=tuple(files),
        pieces=tuple(pieces),
        rows=rows,
        encodes=encodes,
        keyed=keyed,
        # Texts take so long that no task has more than a piece of them.
        encode_batches=tuple(range(len(pieces) + 1)) if encodes else (0,),
        sample_batches=tuple(sampled[first:last] for first, last in pairwise(sampled_begins)),
        assign_batches=deal(weights, target=sizes.batch_bytes, batches_max=BUILD_BATCHES_MAX),
        sample_rows=min(sample_rows(rows, dimension, sizes), sampled_rows),
        key_ranges=key_range_count(rows) if keyed else 0,
        flat=rows <= sizes.exact_rows_max,
    )


def _pieces(
    files: Sequence[InputFile], request: BuildRequest, dimension: int, *, encodes: bool
) -> Iterator[Piece]:
    sizes = request.sizes
    rows_max = min(sizes.piece_rows_max, BUILD_ENCODE_ROWS) if encodes else sizes.piece_rows_max
    for number, file in enumerate(files):
        # An array has nothing but vectors; of other files all may be documents.
        row_bytes = file.bytes / max(file.rows, 1) if file.kind == "parquet" else 0.0
        most = piece_rows_max(
            dimension, rows_max=rows_max, bytes_max=sizes.piece_bytes_max, file_row_bytes=row_bytes
        )
        for first, rows in cut_pieces(
            file.row_groups or (file.rows,), first=file.first, rows_max=most
        ):
            yield Piece(number, first, rows)


def _listed(context: BuildContext, request: BuildRequest) -> list[InputInfo]:
    """List the files, in the order of the rows."""
    found: list[InputInfo] = []
    faults: list[SquashError] = []
    for url in request.inputs:
        try:
            for info in context.open_inputs(url).files(url):
                found.append(info)
                if len(found) > BUILD_FILES_MAX:
                    break
        except _FAULTS as error:
            faults.append(error)
    if len(found) > BUILD_FILES_MAX:
        raise TooLargeError(
            f"there are more than {BUILD_FILES_MAX:,} files to build from, the most that a build "
            "takes: make fewer, larger ones of them"
        )
    seen: set[str] = set()
    for info in found:
        if info.url in seen:
            faults.append(
                InvalidArgumentError(
                    f"{info.url} is among the inputs twice: name each file, or its folder, once"
                )
            )
        seen.add(info.url)
    _refuse(faults)
    return found


def _probed(
    context: BuildContext, request: BuildRequest, infos: Sequence[InputInfo]
) -> list[InputFile]:
    """Look at what each file holds, some of them at once."""
    reads = Reads()
    found: dict[int, InputFile] = {}
    faults: dict[int, SquashError] = {}

    def look(place: int) -> None:
        info = infos[place]
        try:
            found[place] = probe(context.open_inputs(info.url), info, request, context.config)
        except _FAULTS as error:
            faults[place] = error

    for first in range(0, len(infos), _PROBED_AT_ONCE):
        some = range(first, min(first + _PROBED_AT_ONCE, len(infos)))
        reads.run([partial(look, place) for place in some])
        context.report(Progress("plan", some.stop, len(infos), "files"))
        if len(faults) > _NAMED_MAX:
            break
    _refuse([faults[place] for place in sorted(faults)])
    return [found[place] for place in sorted(found)]


def _refuse(faults: Sequence[SquashError]) -> None:
    """Refuse files that cannot be built from, all at once: who asked corrects them all at once."""
    if not faults:
        return
    if len(faults) == 1:
        raise faults[0]
    words = "; ".join(str(fault) for fault in faults[:_NAMED_MAX])
    more = "" if len(faults) <= _NAMED_MAX else "; and there are more"
    raise InvalidArgumentError(
        f"{min(len(faults), _NAMED_MAX)} files cannot be built from: {words}{more}"
    )
