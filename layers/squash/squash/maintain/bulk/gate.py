"""The gate before each stage: what came before is done, the limits hold, and what is left to do."""

from __future__ import annotations

from collections.abc import Sequence

from squash.errors import BuildStoppedError, UnavailableError
from squash.limits import BUILD_REPLACED_ROWS_MAX
from squash.maintain.bulk import keys
from squash.maintain.bulk.estimates import read_estimates
from squash.maintain.bulk.progress import StageState, stage_states, workers_of
from squash.maintain.bulk.records import check_running, read_attempt, read_request, write_json
from squash.maintain.bulk.request import Limits
from squash.maintain.bulk.stages import STAGES, Stage, Task
from squash.maintain.bulk.tasks.keys import too_many_replaced
from squash.storage import ObjectStore


def open_stage(
    store: ObjectStore,
    index: str,
    build: str,
    stage: Stage,
    *,
    billed: bool = True,
    attempt: int | None = None,
) -> list[Task]:
    """Check that a stage may begin, and return which of its tasks are left to do.

    They are listed in ``items/<stage>``, too, for a map to read. Safe to ask again at any time.

    Parameters
    ----------
    store:
        Below the index's own prefix.
    index, build, stage:
        Which stage of which build.
    billed:
        Whether requests of the store cost anything.
    attempt:
        Of which attempt who asks is; None if that is not known.

    Raises
    ------
    NotFoundError
        If there is no such build.
    UnavailableError
        If a stage before it is not done.
    BuildStoppedError
        If the build was stopped, or resumed by another, or goes beyond its limits of bad rows or
        dollars.
    DataError
        If something that earlier tasks left cannot be read.

    """
    read_request(store, build)
    check_running(store, build)
    latest = read_attempt(store, build)
    if attempt is not None and attempt != latest.number:
        raise BuildStoppedError(
            f"build {build} was resumed: attempt {latest.number} goes on with it, and attempt "
            f"{attempt} does not"
        )
    states = stage_states(store, index, build, keep=True)
    before = states[: STAGES.index(stage)]
    _check_done(build, stage, before)
    state = states[len(before)]
    if state.left:
        _check_rows(latest.limits, before)
        workers = workers_of(latest, billed=billed)
        spent = sum(one.sums.cost_usd(workers) for one in states)
        estimates = read_estimates(store, index, build).stages
        share = len(state.left) / len(state.tasks)
        wanted = share * estimates[stage].cost_usd if stage in estimates else 0.0
        _check_dollars(stage, latest.limits, spent, wanted)
    listed = [task.to_json() for task in state.left]
    write_json(store, keys.items_key(build, stage), listed)
    return list(state.left)


def _check_done(build: str, stage: Stage, before: Sequence[StageState]) -> None:
    for state in before:
        if state.left:
            raise UnavailableError(
                f"build {build} cannot begin {stage}: {len(state.left)} of {len(state.tasks)} "
                f"tasks of {state.stage} are not done; run those first"
            )
    if len(before) < STAGES.index(stage):
        raise UnavailableError(
            f"build {build} cannot begin {stage}: {STAGES[len(before)]} is not done; run it first"
        )


def _check_rows(limits: Limits, before: Sequence[StageState]) -> None:
    # What is bad in the eyes of `encode` comes by in `assign` again.
    bad = max((state.sums.bad for state in before), default=0)
    if bad > limits.bad_rows_max:
        raise BuildStoppedError(
            f"{bad:,} of the rows cannot be kept, and {limits.bad_rows_max:,} may be left out. "
            "They are listed beside the build, and its status shows the first: correct the "
            f"files and start anew, or resume with a limit of {bad:,} bad rows or more"
        )
    replaced = sum(state.sums.replaced for state in before)
    if replaced > BUILD_REPLACED_ROWS_MAX:
        raise too_many_replaced(replaced)


def _check_dollars(stage: Stage, limits: Limits, spent: float, wanted: float) -> None:
    most = limits.dollars_max
    if most is not None and spent + wanted > most:
        raise BuildStoppedError(
            f"{spent:.4f} dollars are spent and {stage} will take about {wanted:.4f} more, and "
            f"{most:.4f} may be spent: resume with a higher limit, {spent + wanted:.4f} or more, "
            "or cancel the build"
        )
