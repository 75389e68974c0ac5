"""Running one task: once, whoever asks how often, and with a report of what it took."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from squash.maintain.bulk import keys
from squash.maintain.bulk.batches import check_task
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.opened import OpenedInputs
from squash.maintain.bulk.records import (
    check_running,
    read_report,
    read_request,
    write_json_if_absent,
)
from squash.maintain.bulk.request import BuildRequest
from squash.maintain.bulk.stages import Stage, Task
from squash.maintain.bulk.tasks import (
    assemble,
    assign,
    calibrate,
    encode,
    plan,
    publish,
    sample,
    train,
)
from squash.maintain.bulk.tasks import keys as keys_task
from squash.maintain.bulk.watching import DoneByAnotherError, WatchedStore
from squash.maintain.one_thread import one_blas_thread

_STATUS: Final = Path("/proc/self/status")
_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)

RunBatch = Callable[[BuildContext, BuildRequest, int], TaskReport]

_TASKS: Final[dict[Stage, RunBatch]] = {
    Stage.PLAN: plan.run,
    Stage.ENCODE: encode.run,
    Stage.SAMPLE: sample.run,
    Stage.TRAIN: train.run,
    Stage.ASSIGN: assign.run,
    Stage.KEYS: keys_task.run,
    Stage.ASSEMBLE: assemble.run,
    Stage.CALIBRATE: calibrate.run,
    Stage.PUBLISH: publish.run,
}


def run_task(context: BuildContext, task: Task) -> TaskReport:
    """Run a task, unless it is done; its report is stored last, and says that it is.

    Raises
    ------
    NotFoundError
        If there is no such build.
    InvalidArgumentError
        If its stage has no such batch.
    BuildStoppedError
        If the build was stopped; a task that takes long looks on its way, too.
    SquashError
        As the task does; what it has stored by then does no harm.

    """
    done = read_report(context.store, task)
    if done is not None:
        return done
    request = read_request(context.store, task.build)
    check_running(context.store, task.build)
    check_task(context.store, task)
    begun_ms, cpu_s, counts = context.clock.now_ms(), time.process_time(), context.store.counts()
    inputs = OpenedInputs(context.open_inputs)
    # A commit is made once, however often, and whoever made it goes on to the end.
    commits = task.stage is Stage.PUBLISH
    store = context.store if commits else WatchedStore(context.store, task, context.clock)
    try:
        with one_blas_thread():
            found = _TASKS[task.stage](
                replace(context, store=store, open_inputs=inputs), request, task.batch
            )
    except DoneByAnotherError as other:
        return other.report
    spent, read = context.store.counts() - counts, inputs.counts()
    requests = Counter(found.requests)
    requests.update(spent.by_kind)
    requests.update(read.by_kind)
    report = replace(
        found,
        begun_ms=begun_ms,
        ended_ms=context.clock.now_ms(),
        cpu_ms=round(1000 * (time.process_time() - cpu_s)),
        memory_mb=context.memory_mb,
        peak_mb=_peak_mb(),
        requests=dict(requests),
        bytes_in=found.bytes_in + spent.bytes_in + read.bytes_in,
        bytes_out=found.bytes_out + spent.bytes_out,
    )
    first = write_json_if_absent(
        context.store, keys.done_key(task.build, task.stage, task.batch), report.to_json()
    )
    # Of two at once the first to report it has done it: later stages may have gone by that.
    return report if first else read_report(context.store, task) or report


def _peak_mb() -> int:
    """Return the most memory that this process ever had."""
    if _STATUS.exists():
        # What rusage tells begins with what the parent had when it forked.
        found = _PEAK.search(_STATUS.read_text())
        if found is not None:
            return int(found[1]) >> 10
    found_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found_bytes >> (20 if sys.platform == "darwin" else 10)
