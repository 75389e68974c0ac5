"""Which operations there are, which function serves each, and what a caller needs for it."""

from __future__ import annotations

from typing import Final

from squash.api.routes import Scope
from squash.values import dataclass

SERVICE: Final = "s3vectors"
TAGS: Final = "/tags/"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the service model.

    `on` is what it is about: "account", "bucket", "index", or "resource" for either of the last
    two, named by an ARN in the path.
    """

    name: str
    function: str
    scope: Scope
    on: str
    method: str = "POST"

    @property
    def path(self) -> str:
        """Where it is asked; a path that ends with "/" goes on with an ARN."""
        return TAGS if self.on == "resource" else f"/{self.name}"

    @property
    def creates(self) -> bool:
        """Whether what it is about is yet to be made."""
        return self.name.startswith("Create")

    @property
    def names_conflict(self) -> bool:
        """Whether a ConflictException is among the errors that its clients know."""
        return self.name in _CONFLICTING


_CONFLICTING: Final = frozenset(
    {
        "CreateVectorBucket", "DeleteVectorBucket", "CreateIndex", "UpdateMetadataConfiguration",
        "TagResource", "UntagResource",
    }
)  # fmt: skip
_ALL: Final = (
    Operation("CreateVectorBucket", "indexes", Scope.ADMIN, "bucket"),
    Operation("GetVectorBucket", "indexes", Scope.READ, "bucket"),
    Operation("ListVectorBuckets", "indexes", Scope.READ, "account"),
    Operation("DeleteVectorBucket", "indexes", Scope.ADMIN, "bucket"),
    Operation("PutVectorBucketPolicy", "indexes", Scope.ADMIN, "bucket"),
    Operation("GetVectorBucketPolicy", "indexes", Scope.ADMIN, "bucket"),
    Operation("DeleteVectorBucketPolicy", "indexes", Scope.ADMIN, "bucket"),
    Operation("PutVectorBucketDefaultIndexMode", "indexes", Scope.ADMIN, "bucket"),
    Operation("CreateIndex", "indexes", Scope.ADMIN, "index"),
    Operation("GetIndex", "indexes", Scope.READ, "index"),
    Operation("ListIndexes", "indexes", Scope.READ, "bucket"),
    Operation("DeleteIndex", "indexes", Scope.ADMIN, "index"),
    Operation("UpdateIndexMode", "indexes", Scope.ADMIN, "index"),
    Operation("UpdateMetadataConfiguration", "indexes", Scope.ADMIN, "index"),
    Operation("ListTagsForResource", "indexes", Scope.READ, "resource", method="GET"),
    Operation("TagResource", "indexes", Scope.ADMIN, "resource"),
    Operation("UntagResource", "indexes", Scope.ADMIN, "resource", method="DELETE"),
    Operation("PutVectors", "documents", Scope.WRITE, "index"),
    Operation("GetVectors", "documents", Scope.READ, "index"),
    Operation("ListVectors", "documents", Scope.READ, "index"),
    Operation("DeleteVectors", "documents", Scope.WRITE, "index"),
    Operation("QueryVectors", "coordinator", Scope.READ, "index"),
)
OPERATIONS: Final = {operation.name: operation for operation in _ALL}
_PATHS: Final = {(operation.method, operation.path): operation for operation in _ALL}


def is_ours(path: str) -> bool:
    """Tell if a path belongs to this API, whatever the method."""
    return path.startswith(TAGS) or path.removeprefix("/") in OPERATIONS


def methods_of(path: str) -> list[str]:
    """Return the methods that a path can be asked with; empty if there is no such path."""
    asked = TAGS if path.startswith(TAGS) else path
    return [method for method, known in _PATHS if known == asked]


def operation_of(method: str, path: str) -> Operation | None:
    """Return the operation of a request; None if there is none."""
    return _PATHS.get((method, TAGS if path.startswith(TAGS) else path))
