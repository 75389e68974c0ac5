"""Saying that a fold or a build has begun, so that nobody's work is wasted against another's."""

from __future__ import annotations

from squash.errors import ConflictError
from squash.index.commits import Operation, Replace
from squash.index.live import Opened
from squash.index.log import IndexLog
from squash.index.state import Claim, State, building
from squash.limits import BUILD_CLAIM_MS


def refuse_while_building(state: State, now_ms: int) -> None:
    """Refuse to fold what a running build will replace.

    Raises
    ------
    ConflictError
        If a build is running.

    """
    claim = building(state, now_ms)
    if claim is not None:
        raise ConflictError(
            f"build {claim.build} has begun, and will replace what was there then: nothing of it "
            "is folded until the build is published or given up. `squash build status` tells how "
            "far it is; `squash build resume` goes on with one that failed, `squash build cancel` "
            "gives it up"
        )


def claim(log: IndexLog, opened: Opened) -> Opened:
    """Say that a fold begins, of all that was put so far: for a while writers leave that to it.

    The fold is of what is returned.

    Raises
    ------
    ConflictError
        If a build is running.
    SquashError
        As `IndexLog.append`.

    """

    def decide(opened: Opened) -> Operation:
        refuse_while_building(opened.state, log.now_ms())
        return Replace((), (), (), None, opened.sequence)

    return log.append(opened, decide, commit_id=log.ids.new_id())


def claim_for_build(
    log: IndexLog,
    opened: Opened,
    build: str,
    *,
    base: int | None = None,
    lasts_ms: int = BUILD_CLAIM_MS,
) -> Opened:
    """Say that a build begins or goes on: until it is published nobody folds what it replaces.

    Writers go on, and flatten what they put later. Called again with the build's base it renews
    the claim, if less than half of it is left; else nothing is written. It ends with the commit
    that publishes the build, with `release_build`, and by itself.

    Parameters
    ----------
    log, opened:
        The index; it need not be the newest.
    build:
        The build's id.
    base:
        The build's base, to renew; None at its start: it is then the sequence of what is returned.
    lasts_ms:
        For how long nobody else folds.

    Raises
    ------
    ConflictError
        If another build is running.
    SquashError
        As `IndexLog.append`.

    """

    def decide(opened: Opened) -> Operation | None:
        now_ms = log.now_ms()
        there = building(opened.state, now_ms)
        if there is not None and there.build != build:
            raise ConflictError(
                f"build {there.build} of this index has begun: wait until it is published; if "
                "`squash build status` says that it runs no more, go on with it by `squash build "
                "resume`, or give it up by `squash build cancel`"
            )
        if there is not None and base is not None and _is_young(there, now_ms, lasts_ms):
            return None
        begun = opened.sequence if base is None else base
        return Replace((), (), (), None, begun, build=build, lasts_ms=lasts_ms)

    return log.append(opened, decide, commit_id=log.ids.new_id())


def release_build(log: IndexLog, opened: Opened, build: str) -> Opened:
    """End the claim of a build that was cancelled; nothing to do is fine.

    Raises
    ------
    SquashError
        As `IndexLog.append`.

    """

    def decide(opened: Opened) -> Operation | None:
        claim = opened.state.claim
        if claim is None or claim.build != build:
            return None
        return Replace((), (), (), None, claim.base, build=build, lasts_ms=0)

    return log.append(opened, decide, commit_id=log.ids.new_id())


def _is_young(claim: Claim, now_ms: int, lasts_ms: int) -> bool:
    return now_ms - claim.time_ms < min(claim.lasts_ms, lasts_ms) // 2
