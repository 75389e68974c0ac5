"""An index of the service over its API, with errors in our words. Loads botocore."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, UnknownServiceError
from botocore.session import Session

from squash import errors
from squash.cli.service_index import ServiceIndex
from squash.limits import MOVE_ATTEMPTS_MAX, MOVE_SEGMENTS_MAX, SERVICE_KEYS_GET_MAX
from squash.values import dataclass

# Of an answer, which may be 20 MiB on a slow line; botocore repeats what took longer.
_READ_TIMEOUT_S: Final = 120
_NOT_ALLOWED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class ServiceTooLargeError(errors.TooLargeError):
    """A request, or its answer, has more bytes than who serves it takes: ask for less."""


class RefusedError(errors.InvalidArgumentError):
    """The service says that the request is not valid."""


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What `GetIndex` says; `created` tells it from a later index of the same name."""

    dimension: int
    metric: str
    non_filterable: tuple[str, ...]
    created: float


@dataclass(frozen=True, slots=True)
class ServicePage:
    """One answer of `ListVectors`: its records as JSON has them, and what to go on with."""

    vectors: Sequence[Mapping[str, Any]]
    token: str | None


def open_client(
    place: ServiceIndex, *, endpoint_url: str | None, region: str | None, profile: str | None
) -> Any:
    """Make botocore's client, which signs, waits and repeats as AWS's own clients do.

    Raises
    ------
    InvalidArgumentError
        If the configuration names no region, no such profile, or botocore knows no such service.

    """
    config = Config(
        # Adaptive: what is refused for its rate is asked for more slowly, by all threads.
        retries={"mode": "adaptive", "total_max_attempts": MOVE_ATTEMPTS_MAX},
        parameter_validation=False,  # it looks at every number of every vector
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=MOVE_SEGMENTS_MAX,
    )
    try:
        return Session(profile=profile).create_client(
            "s3vectors",
            region_name=place.region or region,
            endpoint_url=endpoint_url,
            config=config,
        )
    except UnknownServiceError as error:
        raise errors.InvalidArgumentError(
            "the botocore that is installed does not know S3 Vectors: pip install -U botocore"
        ) from error
    except (BotoCoreError, ValueError) as error:
        raise errors.InvalidArgumentError(
            f"S3 Vectors cannot be asked: {error} (--service-region, --service-profile and "
            "--service-url say how, or what AWS's clients read: AWS_DEFAULT_REGION, "
            "AWS_PROFILE, AWS_ENDPOINT_URL_S3VECTORS)"
        ) from error


class ServiceTable:
    """One index over a client. Threads may share it.

    Parameters
    ----------
    client:
        As `open_client` makes it.
    place:
        Which index.

    """

    def __init__(self, client: Any, place: ServiceIndex) -> None:
        self._client = client
        self._place = place
        self._names = {"vectorBucketName": place.bucket, "indexName": place.index}
        self._body = threading.local()
        events = client.meta.events
        events.register("before-call.s3vectors.PutVectors", self._write_body)
        for operation in ("ListVectors", "GetVectors"):
            events.register(f"before-parse.s3vectors.{operation}", _read_body)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return str(self._place)

    @property
    def endpoint(self) -> str:
        """The URL that is asked."""
        return str(self._client.meta.endpoint_url)

    def config(self) -> ServiceConfig:
        """Describe the index.

        Raises
        ------
        NotFoundError
            If there is none.

        """
        index = self._ask("get_index", self._names)["index"]
        metadata = index.get("metadataConfiguration") or {}
        return ServiceConfig(
            dimension=int(index["dimension"]),
            metric=str(index["distanceMetric"]),
            non_filterable=tuple(metadata.get("nonFilterableMetadataKeys") or ()),
            created=index["creationTime"].timestamp(),
        )

    def create(self, *, dimension: int, metric: str, non_filterable: Sequence[str]) -> None:
        """Create the index, and its vector bucket; what is there already stays as it is."""
        parts: dict[str, Any] = {}
        if non_filterable:
            parts["metadataConfiguration"] = {"nonFilterableMetadataKeys": list(non_filterable)}
        index = {"dataType": "float32", "dimension": dimension, "distanceMetric": metric}
        try:
            self._ask("get_vector_bucket", {"vectorBucketName": self._place.bucket})
        except errors.NotFoundError:
            self._make("create_vector_bucket", {"vectorBucketName": self._place.bucket})
        self._make("create_index", self._names | index | parts)

    def _make(self, operation: str, members: Mapping[str, Any]) -> None:
        try:
            self._ask(operation, members)
        except errors.ConflictError:
            return

    def page(
        self,
        token: str | None,
        *,
        segment: tuple[int, int],
        records: bool,
        results: int,
    ) -> ServicePage:
        """List a page of one segment.

        Parameters
        ----------
        token:
            Where the page before ended.
        segment:
            Its number, and how many there are.
        records:
            With vectors and metadata, else the keys alone.
        results:
            At most so many.

        """
        members: dict[str, Any] = {"maxResults": results}
        if segment[1] > 1:
            members |= {"segmentIndex": segment[0], "segmentCount": segment[1]}
        if records:
            members |= {"returnData": True, "returnMetadata": True}
        if token is not None:
            members["nextToken"] = token
        answer = self._ask("list_vectors", self._names | members)
        return ServicePage(answer["vectors"], answer.get("nextToken") or None)

    def get(self, keys: Sequence[str]) -> list[Mapping[str, Any]]:
        """Get records whole, in no order; keys that are not there are left out."""
        found: list[Mapping[str, Any]] = []
        at, step = 0, SERVICE_KEYS_GET_MAX
        while at < len(keys):
            asked = {"keys": list(keys[at : at + step])}
            wanted = {"returnData": True, "returnMetadata": True}
            try:
                found += self._ask("get_vectors", self._names | asked | wanted)["vectors"]
            except ServiceTooLargeError:
                if step == 1:
                    raise
                step = max(1, step // 2)
                continue
            at += step
        return found

    def put(self, texts: Sequence[str]) -> None:
        """Put records, all or none of them, each as it stands in the body.

        Raises
        ------
        ServiceTooLargeError
            If they are too many bytes for who serves it.
        RefusedError
            If one of them is not valid there.

        """
        names = json.dumps(self._names).removesuffix("}")
        self._body.data = f'{names}, "vectors": [{", ".join(texts)}]}}'.encode("ascii")
        try:
            self._ask("put_vectors", self._names | {"vectors": []})
        finally:
            del self._body.data

    def _write_body(self, params: dict[str, Any], **_: Any) -> None:
        """Give a request its body, before it is signed: botocore would look at each number."""
        params["body"] = self._body.data

    def _ask(self, operation: str, members: Mapping[str, Any]) -> Any:
        try:
            return getattr(self._client, operation)(**members)
        except ClientError as error:
            raise self._told(operation, error) from error
        except BotoCoreError as error:
            raise errors.UnavailableError(
                f"{self.endpoint} cannot be asked ({error})", index=self.name
            ) from error

    def _told(self, operation: str, error: ClientError) -> errors.SquashError:
        said = error.response.get("Error", {})
        code, message = str(said.get("Code", "")), str(said.get("Message", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        what = f"{self.name}: {operation} was answered {status} {code}: {message}"
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or code == "RequestTooLargeException":
            return ServiceTooLargeError(what, index=self.name)
        kinds: Mapping[str, type[errors.SquashError]] = {
            "NotFoundException": errors.NotFoundError,
            "ConflictException": errors.ConflictError,
            "ValidationException": RefusedError,
            "AccessDeniedException": errors.PermissionDeniedError,
            "ServiceQuotaExceededException": errors.TooLargeError,
        }
        kind = kinds.get(code)
        if kind is None:
            kind = (
                errors.PermissionDeniedError if status in _NOT_ALLOWED else errors.UnavailableError
            )
        return kind(what, index=self.name)


def _read_body(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """Read an answer with records by itself: botocore would look at each number."""
    if response_dict["status_code"] != HTTPStatus.OK:
        return
    try:
        answer = json.loads(response_dict["body"])
    except ValueError:
        return  # It is botocore's to say so.
    customized_response_dict.update(answer)
    response_dict["body"] = b"{}"
