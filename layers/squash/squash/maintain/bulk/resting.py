"""How long a build may rest, so that garbage collection never takes what it still needs.

Nothing names a build's segments until it is published. Garbage collection takes a build for active
while the newest object under `builds/<id>/` is younger than `GC_GRACE_MS`, and spares its segments
for as long. So whoever goes on with a build, or publishes it, looks back over all of its objects:
if there was ever a longer pause between two of them than `BUILD_RESTS_MS_MAX`, which is less, a
collection may have come in it. Objects of a build that is not published are never removed before
those of its segments, and the request, the first, is written once: rewriting others hides no pause,
it can only make one seem longer.
"""

from __future__ import annotations

from itertools import pairwise

from squash.clock import IdSource
from squash.errors import BuildStoppedError, NotFoundError
from squash.limits import BUILD_RESTS_MS_MAX
from squash.maintain.bulk.keys import folder
from squash.maintain.gc import store_time
from squash.storage import ObjectStore

_HOUR_MS = 3_600_000


def check_rested(store: ObjectStore, ids: IdSource, build: str) -> None:
    """Refuse to go on with a build that once rested so long that its objects may be gone.

    Ages are by the store's clock: an object is stored for a moment to read it.

    Parameters
    ----------
    store:
        The store below the index's own prefix.
    ids:
        Names that object.
    build:
        The build's id.

    Raises
    ------
    NotFoundError
        If there is no such build.
    BuildStoppedError
        If it rested for more than `BUILD_RESTS_MS_MAX`.

    """
    times = sorted(info.modified_ms for info in store.list(folder(build)))
    if not times:
        raise NotFoundError(
            f"there is no build {build[:64]!r}: `squash build list` names those there are"
        )
    times.append(max(store_time(store, ids), times[-1]))
    longest = max(later - earlier for earlier, later in pairwise(times))
    if longest > BUILD_RESTS_MS_MAX:
        raise BuildStoppedError(
            f"build {build} has rested for {longest // _HOUR_MS} hours, more than the "
            f"{BUILD_RESTS_MS_MAX // _HOUR_MS} for which its segments are sure to be spared by "
            "garbage collection: start a new build; the index is as it was"
        )
