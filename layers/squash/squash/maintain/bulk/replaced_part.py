"""Which segments of an index a build replaces: those of rows that were there when it began."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from squash.errors import ConflictError
from squash.index.commits import Commit, PutSegments, Replace
from squash.index.state import State

_WINDOW = 8


class SinceBase:
    """What commits after a build's base did, followed from one number to the next.

    A segment is *old* if its rows were put up to the base, however often they were folded since;
    *new* if all were put later. Only the commits tell: what a fold writes says up to which commit
    it read, not when its rows were put.

    Parameters
    ----------
    build, base, commit_id:
        The build's id, its base, and the id of the commit that publishes it.
    commit_at:
        Gives a commit; None if it is not there.

    """

    def __init__(
        self,
        build: str,
        base: int,
        commit_id: str,
        *,
        commit_at: Callable[[int], Commit | None],
    ) -> None:
        self._build = build
        self._base = base
        self._commit_id = commit_id
        self._commit_at = commit_at
        self._read_to = base
        self._new: set[str] = set()
        self.published: int | None = None
        """The commit that published the build, if one has."""

    def follow(self, sequence: int) -> None:
        """Read on up to a commit, unless one on the way has published the build.

        Raises
        ------
        ConflictError
            If one on the way changed the content, or mixed what was there at the base with what
            came later; or if one was collected.

        """
        with ThreadPoolExecutor(_WINDOW) as pool:
            for first in range(self._read_to + 1, sequence + 1, _WINDOW):
                some = range(first, min(first + _WINDOW, sequence + 1))
                for number, commit in zip(some, pool.map(self._commit_at, some), strict=True):
                    if self.published is not None:
                        return
                    if commit is None:
                        raise ConflictError(
                            f"commit {number} of the index, which came after build {self._build} "
                            f"began, is not there any more: {_ANEW}"
                        )
                    self._step(commit)
                    self._read_to = number

    def inputs(self, state: State) -> list[str]:
        """Return the ids of the live segments whose rows were put up to the base.

        `state` is the one up to which commits were followed.
        """
        return [segment.id for segment in state.segments if segment.id not in self._new]

    def _step(self, commit: Commit) -> None:
        if commit.commit_id == self._commit_id:
            self.published = commit.sequence
            return
        operation = commit.operation
        if isinstance(operation, PutSegments):
            self._new.update(segment.id for segment in operation.segments)
        elif isinstance(operation, Replace) and not operation.begins:
            if operation.changes:
                raise ConflictError(
                    f"a {_NAMES[operation.content or 'build']} has replaced the content of the "
                    f"index in commit {commit.sequence}, after build {self._build} began: {_ANEW}"
                )
            self._fold(commit.sequence, operation)

    def _fold(self, sequence: int, operation: Replace) -> None:
        kinds = {one in self._new for one in operation.inputs}
        kinds |= {one > self._base for one in operation.fresh}
        if len(kinds) > 1:
            raise ConflictError(
                f"a fold, commit {sequence}, has mixed records from before and after build "
                f"{self._build} began, which cannot be told apart any more: {_ANEW}"
            )
        if True in kinds:
            self._new.update(segment.id for segment in operation.outputs)


_NAMES = {"build": "build", "restore": "restoration"}
_ANEW = "nothing was changed by the build; start it anew"


def fresh_replaced(state: State, base: int) -> Sequence[int]:
    """Return the commits up to the base whose rows are in no segment."""
    return [sequence for sequence in state.fresh if sequence <= base]
