"""Reading several objects at once, on threads that others read on, too."""

from functools import partial

import pytest

from squash.storage import Reads
from squash.storage.threads import Threads


def test_jobs_that_run_jobs_wait_for_no_thread():
    """Each of two threads has a job that runs two more: none is left for these."""
    reads = Reads(Threads("few", 2))
    done: list[int] = []

    def outer(number: int) -> None:
        reads.run([partial(done.append, 10 * number + i) for i in range(2)])

    reads.run([partial(outer, number) for number in range(2)])
    assert sorted(done) == [0, 1, 10, 11]


def test_all_jobs_run_and_the_first_error_is_raised():
    """More jobs than threads, and some of them fail."""
    reads = Reads(Threads("few", 3))
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        if number in {7, 31}:
            raise ValueError(number)

    with pytest.raises(ValueError, match="7"):
        reads.run([partial(work, number) for number in range(40)])
    assert sorted(done) == list(range(40))
