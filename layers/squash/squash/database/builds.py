"""The part of `Index` that builds it whole from files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squash.database.arguments import flag, scratch_of, told, whole_number
from squash.errors import DataError, InvalidArgumentError, shown
from squash.limits import BUILD_WORKERS_MAX
from squash.reports import BuildStatus, Progress
from squash.runtime.session import IndexSession

if TYPE_CHECKING:
    from squash.maintain.bulk.request import BuildSizes, InputColumns, Limits
    from squash.runtime.building import IndexBuilds

_COLUMNS = ("vector", "text", "key")


class IndexBulk:
    """What builds an index from files; see `Index`."""

    _session: IndexSession

    def bulk_builds(self) -> IndexBuilds:
        """Return what begins builds whose tasks run elsewhere, and runs single tasks."""
        return self._session.builds()

    def build(
        self,
        inputs: Sequence[str],
        *,
        replace: bool = False,
        columns: Mapping[str, str] | None = None,
        encoder: str | None = None,
        workers: int = 1,
        bad_rows_max: int = 0,
        dollars_max: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        build: str | None = None,
        scratch: str | Path | None = None,
        sizes: BuildSizes | None = None,
    ) -> BuildStatus:
        """Build the index from files, on this machine, and publish it by one commit.

        Until that commit nothing of it is seen, and after it all of it. Files are read where they
        are, some MB at a time; of several rows with the same key the last one stays. What was
        written to the index after the build began stays, and wins. A build that was cut off is gone
        on with by `resume_build`; what is done is not done again.

        Parameters
        ----------
        inputs:
            URLs of .npy and .parquet files, and of folders, which end with "/", in the order of the
            rows: ``s3://bucket/key`` or ``file:///path``. A folder's files come by their names.
        replace:
            Whether the index's records give way. Else it must have none.
        columns:
            Of Parquet files: names under "vector" (default "vector"), "text" (strings, for the
            index's encoder, in the place of vectors) and "key" (default "key" if there is one).
            Rows without a key have their number as key, counted through all files.
        encoder:
            Which encoder made the vectors, as in `put`.
        workers:
            1 for this process; else so many processes. The same files give the same index.
        bad_rows_max:
            So many rows may be left out because they cannot be kept; they are listed in objects
            that the status's `bad_key` names. With more of them nothing is published.
        dollars_max:
            Stops the build before a stage once so much was spent, where tasks cost money.
        progress:
            Told of every task that is done.
        build:
            32 hexadecimal digits, the build's id: who repeats the call with it goes on with the
            same build. A new one if None.
        scratch:
            A local folder with room for some hundred MB a worker; the system's temporary one if
            None.
        sizes:
            Of partitions and tasks.

        Returns
        -------
        The build as it is then: published.

        Raises
        ------
        InvalidArgumentError
            If an argument is out of its range, or files cannot be built from: all such are named.
        NotFoundError, PermissionDeniedError
            If there is no such file, or it may not be read.
        ConflictError
            If the index has records and they may not be replaced, or a file changed meanwhile.
        BuildStoppedError
            If the build was cancelled, or passed one of its limits.

        """
        builds, count = self.bulk_builds(), _workers(workers)
        builds.check_workers(count)
        request = builds.prepare(
            inputs,
            columns=_columns(columns),
            encoder=encoder,
            replaces=flag(replace, "replace"),
            limits=_limits(bad_rows_max, dollars_max),
            build_id=build,
            sizes=sizes,
        )
        return builds.run(
            request.build,
            workers=count,
            report=told(progress),
            scratch=scratch_of(scratch),
        )

    def builds(self, *, unreadable: dict[str, DataError] | None = None) -> list[BuildStatus]:
        """Return the index's builds, the newest first; those of long ago are collected by `gc`.

        Parameters
        ----------
        unreadable:
            A dict that gets, by id, the errors of builds that cannot be described; the others are
            returned. Without it, the first such error is raised. `cancel_build` gives one up.

        Raises
        ------
        DataError, UnsupportedFormatError
            If what one noted is damaged, or a newer release's, and there is no `unreadable`.

        """
        return self.bulk_builds().list(unreadable)

    def build_status(self, build: str) -> BuildStatus:
        """Return how far a build is, what it took and what went wrong, by its id.

        Raises
        ------
        NotFoundError
            If there is no such build.

        """
        return self.bulk_builds().status(build)

    def cancel_build(self, build: str) -> BuildStatus:
        """Stop a build, wherever it runs: its tasks end soon. It can be resumed.

        Raises
        ------
        NotFoundError
            If there is no such build.
        ConflictError
            If it is published.
        DataError
            If what it noted is damaged, or a newer release's; another can begin all the same.

        """
        return self.bulk_builds().cancel(build)

    def resume_build(
        self,
        build: str,
        *,
        workers: int = 1,
        bad_rows_max: int | None = None,
        dollars_max: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        scratch: str | Path | None = None,
    ) -> BuildStatus:
        """Go on with a build that was cut off, failed or stopped, on this machine, to its end.

        Parameters
        ----------
        build:
            Its id.
        bad_rows_max, dollars_max:
            Limits in the place of those it had; None keeps each.
        workers, progress, scratch:
            As in `build`.

        Returns
        -------
        The build as it is then: published.

        Raises
        ------
        NotFoundError
            If there is no such build.
        ConflictError
            If it is published, or rested so long that it is to be started anew.
        SquashError
            As `build`.

        """
        count = _workers(workers)
        asked = _limits(bad_rows_max or 0, dollars_max)
        builds = self.bulk_builds()
        builds.check_workers(count)
        builds.resume(
            build,
            bad_rows_max=None if bad_rows_max is None else asked.bad_rows_max,
            dollars_max=asked.dollars_max,
        )
        return builds.run(
            build,
            workers=count,
            report=told(progress),
            scratch=scratch_of(scratch),
        )


def _columns(columns: Any) -> InputColumns:
    from squash.maintain.bulk.request import InputColumns  # noqa: PLC0415 - who builds loads it

    given = {} if columns is None else columns
    if not isinstance(given, Mapping) or set(given) - set(_COLUMNS):
        raise InvalidArgumentError(
            f"columns names columns under {', '.join(_COLUMNS)}, unlike {columns!r:.200}",
            field="columns",
        )
    for name, value in given.items():
        if value is not None and (not isinstance(value, str) or not value):
            raise InvalidArgumentError(
                f"the column of {name} is a name, not {shown(value)}", field=f"columns.{name}"
            )
    return InputColumns(**given)


def _limits(bad_rows_max: Any, dollars_max: Any) -> Limits:
    from squash.maintain.bulk.request import Limits  # noqa: PLC0415 - likewise

    rows = whole_number(bad_rows_max, "bad_rows_max")
    if rows < 0:
        raise InvalidArgumentError(f"bad_rows_max is 0 or more, not {rows}", field="bad_rows_max")
    if dollars_max is not None and (
        isinstance(dollars_max, bool)
        or not isinstance(dollars_max, int | float)
        or not dollars_max > 0
    ):
        raise InvalidArgumentError(
            f"dollars_max is a number above 0, not {shown(dollars_max)}", field="dollars_max"
        )
    return Limits(rows, None if dollars_max is None else float(dollars_max))


def _workers(workers: Any) -> int:
    count = whole_number(workers, "workers")
    if not 1 <= count <= BUILD_WORKERS_MAX:
        raise InvalidArgumentError(
            f"workers is from 1 to {BUILD_WORKERS_MAX}, not {count}", field="workers"
        )
    return count
