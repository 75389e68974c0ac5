"""Builds by hand: begun in the log, their segments made by the real writers, and published."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from squash.database import Index
from squash.index.claims import claim_for_build, release_build
from squash.maintain.bulk import keys
from squash.maintain.bulk.context import BuildContext, TaskReport
from squash.maintain.bulk.outcome import Outcome, write_outcome
from squash.maintain.bulk.request import Attempt, BuildRequest, BuildSizes, InputColumns
from squash.maintain.bulk.tasks import publish
from squash.storage import CountingStore, MemoryStore, ObjectStore

SIZES = BuildSizes(24, 40, 6, 1000, 1 << 20, 20, 8, 100, 1 << 20, 1 << 20, 1 << 20)


class BuildIds:
    """Names segments and trained objects as a build does: its own id first."""

    def __init__(self, build: str) -> None:
        self._build = build
        self._next = 0

    def new_id(self) -> str:
        self._next += 1
        return self._build[:16] + f"{self._next:016x}"

    def jitter(self) -> float:
        return 0.5


def below(index: Index) -> ObjectStore:
    """Return the store below an index's own prefix."""
    return index._session._views.log.store


@dataclass
class HandBuild:
    """A build of an index by hand."""

    index: Index
    request: BuildRequest

    @classmethod
    def begin(
        cls, index: Index, number: int, *, replaces: bool = True, claims: bool = True
    ) -> HandBuild:
        """Begin a build, as its driver does: the claim, the request, and the first attempt."""
        build = f"{number:08x}" * 4
        views = index._session._views
        opened = views.refresh()
        if claims:
            opened = views.install(claim_for_build(views.log, opened, build))
        request = BuildRequest(
            build=build,
            index=index.config.name,
            inputs=("file:///none",),
            columns=InputColumns(),
            encoder=None,
            replaces=replaces,
            base=opened.sequence,
            sizes=SIZES,
            created_ms=views.log.now_ms(),
        )
        made = cls(index, request)
        made.leave("request", request.to_json())
        attempt = Attempt(1, "local", request.created_ms)
        made.leave("attempts/000001", asdict(attempt))
        return made

    @property
    def id(self) -> str:
        return self.request.build

    def leave(self, name: str, value: Any) -> None:
        """Leave an object of the build, as its tasks do."""
        below(self.index).put(keys.folder(self.id) + name, json.dumps(value).encode())

    def make(self, rows: dict[str, Any] | None, *, options: Any, connect: Any) -> Outcome:
        """Make segments of rows in an index of their own, and copy them to where they belong."""
        self.leave("runs/00000000", [])
        scratch = MemoryStore()
        config = self.index.config
        other = connect(scratch, BuildIds(self.id)).create_index(
            "scratch",
            dimension=config.dimension,
            metric=config.metric,
            expires=config.expires,
        )
        outcome = Outcome((), None, 0)
        if rows and rows["keys"]:
            other.put(**rows)
            other.optimize(options=options, full=True)
            state = other._session._views.refresh().state
            source, target = below(other), below(self.index)
            for prefix in ("segments/", "trained/"):
                for info in source.list(prefix):
                    target.put(info.key, bytes(source.get(info.key) or b""))
            outcome = Outcome(state.segments, state.trained, len(rows["keys"]))
        write_outcome(below(self.index), self.id, outcome)
        return outcome

    def publish(self, index: Index | None = None, *, clock: Any, ids: Any) -> TaskReport:
        """Run the last task, by way of the index as another process has it open."""
        context = BuildContext(
            store=CountingStore(below(index or self.index)),
            config=self.index.config,
            open_inputs=lambda _: (_ for _ in ()).throw(NotImplementedError),
            clock=clock,
            ids=ids,
            scratch=Path("none"),
        )
        return publish.run(context, self.request, 0)

    def cancel(self) -> None:
        """Let others fold again."""
        views = self.index._session._views
        views.install(release_build(views.log, views.refresh(), self.id))
