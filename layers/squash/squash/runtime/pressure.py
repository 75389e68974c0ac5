"""What keeps the fresh part of an index small: flattening, asking for folds, slowing writers."""

from __future__ import annotations

import logging
from collections.abc import Callable

from squash.errors import ConflictError, SquashError, ThrottledError
from squash.index.fresh import PassedLimit, flatten_due, fresh_part, passed_limit
from squash.index.live import Opened
from squash.limits import FRESH_RETRY_AFTER_MS, IMPORT_FRESH_TIMES
from squash.model import IndexConfig
from squash.runtime.retained import RetainedObjects
from squash.runtime.views import IndexViews

_LOG = logging.getLogger("squash")


class FreshGuard:
    """Watches the writes of one session.

    Parameters
    ----------
    views, config:
        The index.
    passing_loader:
        Makes what reads segments and keeps nothing of them.
    fold_soon:
        Told of an index, by its name, that should be folded; without it a line is logged, once.

    """

    def __init__(
        self,
        views: IndexViews,
        config: IndexConfig,
        *,
        passing_loader: Callable[[], RetainedObjects],
        fold_soon: Callable[[str], None] | None = None,
    ) -> None:
        self._views = views
        self._config = config
        self._passing_loader = passing_loader
        self._fold_soon = fold_soon or self._warn
        self._warned = False

    def admit(self, commit_id: str | None = None) -> None:
        """Refuse a put where too much is fresh already; deletes are not asked for.

        Parameters
        ----------
        commit_id:
            Of a call that is repeated: it is admitted if its commit is there.

        Raises
        ------
        ThrottledError
            With the limit, and what to do.

        """
        if passed_limit(fresh_part(self._views.known())) is None:
            return
        # What is known may be of before a fold.
        opened = self._views.refresh()
        passed = passed_limit(fresh_part(opened))
        if passed is not None and passed.name == "FRESH_COMMITS_MAX":
            opened = self._flatten(opened)
            passed = passed_limit(fresh_part(opened))
        if passed is None or (commit_id is not None and commit_id in opened.state.recent):
            return
        self._ask(self._config.name)
        raise _refusal(passed, self._config.name)

    def written(self, opened: Opened, *, importing: bool = False) -> None:
        """Do what a durable commit makes due: its writer's answer does not depend on it.

        Parameters
        ----------
        opened:
            The index with the commit in it.
        importing:
            Whether it is one of an import, which folds by itself and asks nobody to.

        """
        if flatten_due(opened):
            opened = self._flatten(opened)
        if not importing and passed_limit(fresh_part(opened), soon=True) is not None:
            self._ask(self._config.name)

    def fold_due(self, *, brought: int) -> bool:
        """Tell if an import should fold before it goes on.

        Parameters
        ----------
        brought:
            How many rows it had brought when it folded last. It folds when `IMPORT_FRESH_TIMES` a
            limit is reached and as many rows are fresh again: all its folds together then rewrite
            what it brings about twice.

        """
        part = fresh_part(self._views.known())
        return passed_limit(part, times=IMPORT_FRESH_TIMES) is not None and part.rows >= brought

    def _flatten(self, opened: Opened) -> Opened:
        # Who only reads never comes here.
        from squash.runtime.flattening import flatten_fresh  # noqa: PLC0415

        try:
            flat = flatten_fresh(self._views, opened, self._config, self._passing_loader())
        except ConflictError:
            return self._views.known()  # Another fold was first, and its result stands.
        except SquashError as error:
            _LOG.warning("commits could not be flattened; a later writer tries again: %s", error)
            return opened
        return self._views.install(flat)

    def _ask(self, index: str) -> None:
        try:
            self._fold_soon(index)
        except SquashError as error:
            _LOG.warning("a fold of index %s could not be asked for: %s", index, error)

    def _warn(self, index: str) -> None:
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "index %s has much that is in no partition, which makes queries slower: call "
                "optimize()",
                index,
            )


def _refusal(passed: PassedLimit, index: str) -> ThrottledError:
    return ThrottledError(
        f"index {index!r} has {passed.value} of {passed.limit} ({passed.name}) that are in no "
        "partition: call optimize, or wait until the compactor has folded them, and repeat",
        retry_after_ms=FRESH_RETRY_AFTER_MS,
        index=index,
        limit=passed.name,
    )
