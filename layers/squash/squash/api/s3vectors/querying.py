"""`QueryVectors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from squash.api import rows
from squash.api.s3vectors.calls import Answer, Asked, Endpoint
from squash.api.s3vectors.problems import no_index
from squash.api.services import Services
from squash.database import Index
from squash.errors import NotFoundError
from squash.model import Answer as Found


def query(services: Services, asked: Asked) -> Answer:
    """Find the vectors nearest to one."""
    members = asked.members
    include = ["metadata"] if members.get("returnMetadata") else []

    def search(index: Index) -> tuple[Found, str]:
        filter_ = rows.query_filter(asked.caller, members.get("filter"), index.config)
        answer = index.query(
            members["queryVector"]["float32"],
            top_k=members["topK"],
            filter=filter_,
            include=include,
        )
        return answer, str(index.config.metric)

    try:
        answer, metric = services.opened.read(asked.target.name, search)
    except NotFoundError as error:
        raise no_index() from error
    vectors: list[dict[str, Any]] = []
    for match in answer.matches:
        document: dict[str, Any] = {"key": match.key}
        if members.get("returnDistance"):
            document["distance"] = float(match.distance)
        if match.metadata is not None:
            document["metadata"] = dict(match.metadata)
        vectors.append(document)
    return {"vectors": vectors, "distanceMetric": metric}


ENDPOINTS: Final[Mapping[str, Endpoint]] = {"QueryVectors": query}
