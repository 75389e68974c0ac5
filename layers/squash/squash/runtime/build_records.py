"""What is asked of an index's bulk builds before and after tasks run: begin, look, stop, go on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace

from squash.clock import Clock
from squash.errors import (
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    SquashError,
)
from squash.index.claims import claim_for_build, release_build
from squash.index.entries import Entry
from squash.index.state import building
from squash.maintain.bulk import keys
from squash.maintain.bulk.records import (
    attempt_from_json,
    read_attempt,
    read_json,
    read_report,
    read_request,
    write_json_if_absent,
)
from squash.maintain.bulk.replaced_part import SinceBase
from squash.maintain.bulk.request import (
    Attempt,
    BuildRequest,
    BuildSizes,
    InputColumns,
    Limits,
)
from squash.maintain.bulk.resting import check_rested
from squash.maintain.bulk.stages import Stage, Task
from squash.maintain.bulk.status import build_status, list_builds
from squash.maintain.bulk.stops import note_cancelled
from squash.reports import BuildStatus
from squash.runtime.build_requests import (
    BUILD_ID,
    Runner,
    check_build_id,
    check_columns,
    check_inputs,
    default_sizes,
    execution_arn,
    same,
)
from squash.runtime.content import Content
from squash.runtime.settings import Settings
from squash.runtime.views import IndexViews
from squash.search import live_count
from squash.storage import CountingStore, ObjectStore


class BuildRecords:
    """The part of `IndexBuilds` that runs no task; see there."""

    def __init__(
        self,
        store: ObjectStore,
        entry: Entry,
        views: IndexViews,
        *,
        content: Content,
        settings: Settings,
        clock: Clock,
    ) -> None:
        # One of its own: what a build asks for is no query's.
        self._store = CountingStore(store)
        self._prefix = entry.prefix
        self._config = entry.config
        self._views = views
        self._content = content
        self._settings = settings
        self._clock = clock
        self._ids = views.log.ids

    @property
    def index(self) -> str:
        """The index's name."""
        return self._config.name

    def prepare(
        self,
        inputs: Sequence[str],
        *,
        columns: InputColumns | None = None,
        encoder: str | None = None,
        replaces: bool = False,
        limits: Limits | None = None,
        build_id: str | None = None,
        sizes: BuildSizes | None = None,
        runner: Runner | None = None,
    ) -> BuildRequest:
        """Note what is asked for, and a first attempt at it; nothing is read of the inputs yet.

        Asked again with the same id for the same, it changes nothing.

        Parameters
        ----------
        inputs:
            URLs of files and folders, ``s3://`` or ``file://``, in the order of the rows.
        columns:
            Of Parquet files.
        encoder:
            Which encoder made the vectors, as in `Index.put`.
        replaces:
            Whether what is in the index gives way; else it must be empty.
        limits:
            What stops the first attempt.
        build_id:
            32 hexadecimal digits; a new one if None.
        sizes:
            Of partitions, samples and tasks.
        runner:
            Who will run the tasks; this machine if None.

        Raises
        ------
        InvalidArgumentError
            If an argument is out of its range, or the vectors are not of the index's encoder.
        ConflictError
            If the index has records and they are not to be replaced; or if there is a build of
            this id for another request.

        """
        columns, runner = check_columns(columns or InputColumns()), runner or Runner()
        build = self._ids.new_id() if build_id is None else check_build_id(build_id)
        urls = check_inputs(inputs, runner)
        of_texts = columns.text is not None
        if of_texts and columns.vector is not None:
            raise InvalidArgumentError(
                "a build makes vectors of texts or takes those of a column: name one of the two",
                field="columns.text",
            )
        request = BuildRequest(
            build=build,
            index=self._config.name,
            inputs=urls,
            columns=columns,
            encoder=self._content.encoder_of(encoder, of_texts=of_texts),
            replaces=replaces,
            base=0,
            sizes=sizes or default_sizes(self._config.dimension),
            created_ms=self._clock.now_ms(),
        )
        known = self._known(build)
        if known is not None:
            return self._noted(known, request, limits, runner)
        request = replace(request, base=self._begin(build, replaces=replaces))
        try:
            write_json_if_absent(self._store, keys.request_key(build), request.to_json())
            # Whoever was first: what lies there is what is built.
            return self._noted(self._known(build), request, limits, runner)
        except ConflictError:
            raise  # the build is another's, and runs
        except (SquashError, OSError) as error:
            self._let_go(build, error)
            raise

    def _noted(
        self,
        known: BuildRequest | None,
        request: BuildRequest,
        limits: Limits | None,
        runner: Runner,
    ) -> BuildRequest:
        """Return what is noted, with a first attempt, if it is what was asked for."""
        build = request.build
        if known is None or not same(known, request):
            raise ConflictError(
                f"there is a build {build} already, and it was asked for something else: take "
                "another id, or leave it out",
                index=self._config.name,
                field="build",
            )
        self._attempt(build, 1, limits or Limits(), runner)
        return known

    def _let_go(self, build: str, error: BaseException) -> None:
        """Let others fold and build, since a build was not noted: nobody would find it to do so."""
        try:
            self._release(build)
        except SquashError as unreleased:
            error.add_note(
                f"Others are kept from folding and building the index: {unreleased} `squash build "
                f"cancel {self._config.name} {build}` ends that"
            )

    def _known(self, build: str) -> BuildRequest | None:
        return read_json(self._store, keys.request_key(build), BuildRequest.from_json)

    def _begin(self, build: str, *, replaces: bool) -> int:
        """Return the snapshot that a build begins from; until it is published nobody folds.

        What gives way would come back by a fold; and of an empty index one would train partitions
        by what is written meanwhile, which the build's would then not fit.
        """
        if replaces:
            opened = claim_for_build(self._views.log, self._views.refresh(), build)
            return self._views.install(opened).sequence
        before = self._check_empty()
        opened = claim_for_build(self._views.log, self._views.refresh(), build)
        base = self._views.install(opened).sequence
        if base != before + 1:
            try:
                self._check_empty()
            except ConflictError:
                self._release(build)
                raise
        return base

    def _check_empty(self) -> int:
        """Refuse an index that has records; return the snapshot that has none."""
        view = self._views.view("strong")
        if any(live_count(one) for one in view.everything()):
            # How many is not for all who may write to know.
            raise ConflictError(
                f"index {self._config.name!r} has records already, and a build makes a whole "
                "index: let it replace them (`--replace`, replace=True), build into a new index, "
                "or add to this one with `squash import` without --workers",
                index=self._config.name,
                field="replace",
            )
        return view.snapshot

    def _attempt(self, build: str, number: int, limits: Limits, runner: Runner) -> Attempt:
        """Note an attempt; one of this number that is there stays, if it is no other's."""
        execution = None
        if runner.state_machine is not None:
            execution = execution_arn(runner.state_machine, build, number)
        attempt = Attempt(
            number=number,
            executor=runner.executor,
            started_ms=self._clock.now_ms(),
            limits=limits,
            memory_mb=runner.memory_mb,
            architecture=runner.architecture,
            execution=execution,
        )
        key = keys.attempt_key(build, number)
        if write_json_if_absent(self._store, key, asdict(attempt)):
            return attempt
        there = read_json(self._store, key, attempt_from_json)
        if there is None or (number > 1 and there != attempt):
            raise ConflictError(
                f"build {build} was resumed by somebody else just now: see `squash build status "
                f"{self._config.name} {build}`",
                index=self._config.name,
            )
        return there

    def status(self, build: str) -> BuildStatus:
        """Return how far a build is.

        Raises
        ------
        NotFoundError
            If there is no such build.

        """
        return build_status(
            self._store, self._config.name, self.there(build), billed=self._settings.billed
        )

    def list(self, unreadable: dict[str, DataError] | None = None) -> list[BuildStatus]:
        """Return all builds whose objects are still there, the newest first.

        Parameters
        ----------
        unreadable:
            Is told, by id, why a build cannot be described; without it that is raised.

        """
        return list_builds(
            self._store, self._config.name, billed=self._settings.billed, unreadable=unreadable
        )

    def there(self, build: str) -> str:
        """Refuse what is no id of a build; others are looked up by who reads them."""
        if not isinstance(build, str) or not BUILD_ID.fullmatch(build):
            raise NotFoundError(
                f"there is no build {str(build)[:64]!r}: an id has 32 of 0-9 and a-f; `squash "
                f"build list {self._config.name}` names those there are",
                index=self._config.name,
            )
        return build

    def attempt(self, build: str) -> Attempt:
        """Return the latest attempt of a build.

        Raises
        ------
        NotFoundError
            If there is no such build.

        """
        return read_attempt(self._store, self.there(build))

    def cancel(self, build: str) -> BuildStatus:
        """Stop a build: its tasks end with their next step; it can be resumed.

        Raises
        ------
        NotFoundError
            If there is no such build.
        ConflictError
            If it is published.
        DataError
            If what it noted is damaged, or a newer release's. It is stopped then all the same, as
            far as that can be, and keeps nobody from the index.

        """
        try:
            self._refuse_published(build, "there is nothing to cancel")
            note_cancelled(self._store, build, self._clock.now_ms())
        except NotFoundError as error:
            raise self._given_up(build) or error from error
        except DataError as error:
            with suppress(DataError):
                note_cancelled(self._store, build, self._clock.now_ms())
            self._release(build)
            raise type(error)(
                f"{error}. It keeps nobody from folding or building the index any more",
                index=self._config.name,
                object_key=error.object_key,
            ) from error
        self._release(build)
        return self.status(build)

    def _given_up(self, build: str) -> NotFoundError | None:
        """End the claim of a build whose process ended before it had noted what is to be built."""
        claim = building(self._views.refresh().state, self._clock.now_ms())
        if claim is None or claim.build != build:
            return None
        self._release(build)
        return NotFoundError(
            f"build {build} ended before it was noted, and there is nothing to cancel; it keeps "
            "nobody from folding or building the index any more",
            index=self._config.name,
        )

    def _release(self, build: str) -> None:
        log = self._views.log
        self._views.install(release_build(log, self._views.refresh(), build))

    def resume(
        self,
        build: str,
        *,
        bad_rows_max: int | None = None,
        dollars_max: float | None = None,
        runner: Runner | None = None,
    ) -> Attempt:
        """Begin a new attempt, which goes on from what is done.

        Parameters
        ----------
        build:
            Its id.
        bad_rows_max, dollars_max:
            Limits in the place of those of the attempt before; None keeps each.
        runner:
            Who will run the tasks; this machine if None.

        Raises
        ------
        NotFoundError
            If there is no such build.
        ConflictError
            If it is published, or another build of the index is running; or if what it would
            replace was folded together with later records while nothing kept others from it.
        BuildStoppedError
            If it rested so long that its objects may be gone.

        """
        self._refuse_published(build, "there is nothing to resume")
        check_rested(self._store, self._ids, build)
        claim = building(self._views.refresh().state, self._clock.now_ms())
        self.renew_claim(build)
        if claim is None:
            self._refuse_mixed(build)
        before = read_attempt(self._store, build)
        limits = Limits(
            before.limits.bad_rows_max if bad_rows_max is None else bad_rows_max,
            before.limits.dollars_max if dollars_max is None else dollars_max,
        )
        return self._attempt(build, before.number + 1, limits, runner or Runner())

    def renew_claim(self, build: str) -> None:
        """Keep others from folding for as long as a build runs.

        Raises
        ------
        ConflictError
            If another build of the index is running.

        """
        request = read_request(self._store, build)
        log = self._views.log
        opened = claim_for_build(log, self._views.refresh(), build, base=request.base)
        self._views.install(opened)

    def let_fold(self, build: str) -> None:
        """Let others fold while a build that was ended rests, where little is lost by it.

        Of one that replaces nothing no fold takes anything; one that was not even planned, as for
        a file that is not there, has done nothing that starting it anew would do again.
        """
        planned = read_report(self._store, Task(self._config.name, build, Stage.PLAN)) is not None
        if not (planned and read_request(self._store, build).replaces):
            self._release(build)

    def _refuse_mixed(self, build: str) -> None:
        """Refuse at once what would be refused when it is published; others may have folded.

        Raises
        ------
        ConflictError
            If it is so. Others may fold again.

        """
        request, log = read_request(self._store, build), self._views.log
        since = SinceBase(build, request.base, keys.commit_id(build), commit_at=log.commit_at)
        try:
            since.follow(self._views.known().sequence)
        except ConflictError:
            self._release(build)
            raise

    def _refuse_published(self, build: str, so: str) -> None:
        request = read_request(self._store, self.there(build))
        if self.published(build):
            raise ConflictError(
                f"build {build} is published: {so}. `squash restore {self._config.name} "
                f"--as-of {request.base}` takes the index back to what it was",
                index=self._config.name,
            )

    def published(self, build: str) -> bool:
        """Tell if a build is the index's content, or was."""
        return read_report(self._store, Task(self._config.name, build, Stage.PUBLISH)) is not None
