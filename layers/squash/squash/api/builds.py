"""`/v1/indexes/{index}/builds`: begin, list, describe, cancel and resume bulk builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from squash.api.build_bodies import ResumeBody, build_body, resume_body
from squash.api.documents import build_document
from squash.api.members import shown
from squash.api.problems import title_of, type_of
from squash.api.requests import Reply
from squash.api.routes import build_of
from squash.api.services import Call, Endpoint, Services
from squash.database import Index
from squash.errors import ConflictError, DataError, InvalidArgumentError
from squash.limits import BUILD_UNBEGUN_MS_MAX

if TYPE_CHECKING:
    from squash.reports import BuildStatus
    from squash.runtime.building import IndexBuilds

_RUNNING: Final = "running"


def start(services: Services, call: Call) -> Reply:
    """Begin a build; asked again with the id of one that was begun, tell of that."""
    call.caller.check_unrestricted("a build")
    body = build_body(call.document)
    _refuse_the_store(services, body.inputs)
    builds = _builds(services, call)
    # Only now: what builds need takes its time to be loaded.
    from squash.maintain.bulk.request import InputColumns, Limits  # noqa: PLC0415

    request = builds.prepare(
        body.inputs,
        columns=InputColumns(**body.columns),
        encoder=body.encoder,
        replaces=body.replace,
        limits=Limits(body.bad_rows_max, body.dollars_max),
        build_id=body.build,
        runner=services.build_runner.runner(),
    )
    return _begun(services, builds, request.build)


def list_all(services: Services, call: Call) -> Reply:
    """List the builds of an index, the newest first."""
    call.caller.check_unrestricted("a list of builds")
    failed: dict[str, DataError] = {}
    found = _builds(services, call).list(failed)
    hidden = [
        {"build": build, "type": type_of(title_of(type(error)))} for build, error in failed.items()
    ]
    document = {"builds": [build_document(one) for one in found]}
    return Reply({**document, **({"unreadable": hidden} if hidden else {})})


def describe(services: Services, call: Call) -> Reply:
    """Say how far a build is."""
    call.caller.check_unrestricted("a build")
    builds = _builds(services, call)
    return Reply(build_document(_looked_after(services, builds, build_of(call.request.path))))


def cancel(services: Services, call: Call) -> Reply:
    """Stop a build: what it does at the moment is done for nothing."""
    call.caller.check_unrestricted("a build")
    found = _builds(services, call).cancel(build_of(call.request.path))
    services.build_runner.end(found)
    return Reply(build_document(found))


def resume(services: Services, call: Call) -> Reply:
    """Have a build go on that was stopped, from what is done of it."""
    call.caller.check_unrestricted("a build")
    body = ResumeBody() if call.document is None else resume_body(call.document)
    builds, build = _builds(services, call), build_of(call.request.path)
    if _runs(services, _looked_after(services, builds, build)):
        raise ConflictError(
            f"build {build} runs: there is nothing to resume; cancel it first to give it other "
            "limits",
            index=call.index,
        )
    builds.resume(
        build,
        bad_rows_max=body.bad_rows_max,
        dollars_max=body.dollars_max,
        runner=services.build_runner.runner(),
    )
    return _begun(services, builds, build)


def _refuse_the_store(services: Services, inputs: Sequence[str]) -> None:
    """Refuse inputs that are the service's own: what they are called tells of other indexes."""
    # Only now, as in `start`.
    from squash.storage.inputs import touches_store  # noqa: PLC0415

    place = services.database.settings.place
    for i, url in enumerate(inputs):
        if place is not None and touches_store(url, place.location):
            raise InvalidArgumentError(
                f"{shown(url)} is, or holds, where the service keeps its own data: name files that "
                "lie elsewhere",
                field=f"inputs[{i}]",
            )


def _builds(services: Services, call: Call) -> IndexBuilds:
    return services.opened.write(call.index, Index.bulk_builds)


def _begun(services: Services, builds: IndexBuilds, build: str) -> Reply:
    """Have a build run that was noted and has not ended, and tell of it."""
    status = builds.status(build)
    if status.state == _RUNNING:
        services.build_runner.begin(builds, status)
    location = f"/v1/indexes/{status.index}/builds/{build}"
    return Reply(build_document(status), status=202, headers={"location": location})


def _looked_after(services: Services, builds: IndexBuilds, build: str) -> BuildStatus:
    """Return how far a build is; where nothing runs it any more, that is noted first."""
    status = builds.status(build)
    if status.state != _RUNNING:
        return status
    became = services.build_runner.lost(status)
    if became is None:
        return status
    if not became:
        # Of the latest attempt: the build itself may have begun days before it was resumed.
        age_ms = services.opened.now_ms() - status.updated_ms
        if 0 <= age_ms < BUILD_UNBEGUN_MS_MAX:
            return status  # who noted it may be about to begin it
        became = "nothing ever ran it"
    builds.note_failure({"build": build, "failed": {"error": "", "cause": became}})
    return builds.status(build)


def _runs(services: Services, status: BuildStatus) -> bool:
    """Tell if a build runs: one of a process on a laptop, if that process is known to."""
    if status.state != _RUNNING:
        return False
    return services.build_runner.running(status)


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "start_build": start,
    "builds": list_all,
    "build": describe,
    "cancel_build": cancel,
    "resume_build": resume,
}
