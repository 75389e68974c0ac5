"""The members of each operation and their constraints, as the service model has them.

`squash.api.s3vectors.validation` checks a request against this table. What of the model is refused
here, or is not as on the service, stands in `REFUSED` and `DIFFERS`, which `docs/s3vectors.md`
shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from squash.limits import TAGS_MAX, TOP_K_MAX
from squash.values import dataclass

TAG_PATTERN: Final = r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)"
_NAME: Final = "[a-z0-9][a-z0-9-.]{1,61}[a-z0-9]"
_BUCKET_ARN: Final = f"arn:aws[-a-z0-9]*:s3vectors:[a-z0-9-]+:[0-9]{{12}}:bucket/{_NAME}"
_KEY_ARN: Final = "(arn:aws[-a-z0-9]*:kms:[-a-z0-9]*:[0-9]{12}:key/.+)"


@dataclass(frozen=True, slots=True)
class String:
    """Text; lengths are in characters, and `enum` is empty where any word will do."""

    least: int = 0
    most: int | None = None
    pattern: str = ""
    enum: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number from `least` to `most`."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Floats:
    """A list of numbers, checked where the index's dimension is known; here it is but a list."""


@dataclass(frozen=True, slots=True)
class Document:
    """JSON, judged by who reads it."""


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of `least` to `most` elements of one shape."""

    of: Shape
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object with any names, at most `most`, of one shape, and values of another."""

    key: String
    value: String
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Structure:
    """An object with named members; of a union's, exactly one is given."""

    members: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    union: bool = False


Shape: TypeAlias = String | Integer | Boolean | Floats | Document | ListOf | MapOf | Structure


@dataclass(frozen=True, slots=True)
class Refused:
    """A member of the service model that is refused here, or, if `value` is given, one value.

    `member` is its path, with "." between the names. It may be given if it asks for nothing: as
    false, or empty.
    """

    operation: str
    member: str
    reason: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Differs:
    """A member that is not as on the service, and in what."""

    operation: str
    member: str
    difference: str


def _structure(*required: str, **members: Shape) -> Structure:
    return Structure(members, required)


_BUCKET_NAME: Final = String(3, 63)
_BUCKET: Final[Mapping[str, Shape]] = {
    "vectorBucketName": _BUCKET_NAME,
    "vectorBucketArn": String(pattern=_BUCKET_ARN),
}
_INDEX: Final[Mapping[str, Shape]] = {
    "vectorBucketName": _BUCKET_NAME,
    "indexName": String(3, 63),
    "indexArn": String(pattern=f"{_BUCKET_ARN}/index/{_NAME}"),
}
_RESOURCE: Final = String(0, 1011)
_METADATA_KEY: Final = String(1, 63)
_VECTOR_KEY: Final = String(1, 1024)
_TAG_KEY: Final = String(1, 128, TAG_PATTERN)
# The model has no bound for how many; the service's documentation has.
_TAGS: Final = MapOf(_TAG_KEY, String(0, 256, TAG_PATTERN), TAGS_MAX)
_MODE: Final = String(enum=("CLASSIC", "ENHANCED"))
_DATA: Final = Structure({"float32": Floats()}, union=True)
_ENCRYPTION: Final = _structure(
    sseType=String(enum=("AES256", "aws:kms")), kmsKeyArn=String(1, 2048, _KEY_ARN)
)
_LANGUAGES: Final = ("en", "fr", "es", "pt", "it", "de", "nl", "zh", "ja", "ko")
_TEXT_SEARCH: Final = _structure(
    "metadataKey",
    metadataKey=_METADATA_KEY,
    language=String(enum=_LANGUAGES),
    status=String(enum=("ACTIVE", "BUILDING")),
)
_RECORD: Final = _structure("key", "data", key=_VECTOR_KEY, data=_DATA, metadata=Document())
_QUERY_TEXT: Final = _structure(
    "text", "metadataKey", text=String(1, 1024), metadataKey=_METADATA_KEY
)

SHAPES: Final[Mapping[str, Structure]] = {
    "CreateVectorBucket": _structure(
        "vectorBucketName",
        vectorBucketName=_BUCKET_NAME,
        encryptionConfiguration=_ENCRYPTION,
        tags=_TAGS,
    ),
    "GetVectorBucket": _structure(**_BUCKET),
    "ListVectorBuckets": _structure(
        maxResults=Integer(1, 500), nextToken=String(1, 512), prefix=String(1, 63)
    ),
    "DeleteVectorBucket": _structure(**_BUCKET),
    "PutVectorBucketPolicy": _structure("policy", **_BUCKET, policy=String()),
    "GetVectorBucketPolicy": _structure(**_BUCKET),
    "DeleteVectorBucketPolicy": _structure(**_BUCKET),
    "PutVectorBucketDefaultIndexMode": _structure(
        "defaultIndexMode", **_BUCKET, defaultIndexMode=_MODE
    ),
    "CreateIndex": _structure(
        *("indexName", "dataType", "dimension", "distanceMetric"),
        **_BUCKET,
        indexName=String(3, 63),
        dataType=String(enum=("float32",)),
        dimension=Integer(1, 4096),
        distanceMetric=String(enum=("euclidean", "cosine")),
        metadataConfiguration=_structure(
            nonFilterableMetadataKeys=ListOf(_METADATA_KEY, 0, 10),
            textSearchConfigurations=ListOf(_TEXT_SEARCH, 0, 10),
        ),
        encryptionConfiguration=_ENCRYPTION,
        tags=_TAGS,
    ),
    "GetIndex": _structure(**_INDEX),
    "ListIndexes": _structure(
        **_BUCKET, maxResults=Integer(1, 500), nextToken=String(1, 512), prefix=String(1, 63)
    ),
    "DeleteIndex": _structure(**_INDEX),
    "UpdateIndexMode": _structure("indexMode", **_INDEX, indexMode=_MODE),
    "UpdateMetadataConfiguration": _structure(
        **_INDEX,
        add=_structure(textSearchConfigurations=ListOf(_TEXT_SEARCH, 0, 10)),
        delete=_structure(
            textSearchConfigurations=ListOf(
                _structure("metadataKey", metadataKey=_METADATA_KEY), 1, 10
            )
        ),
    ),
    "ListTagsForResource": _structure("resourceArn", resourceArn=_RESOURCE),
    "TagResource": _structure("resourceArn", "tags", resourceArn=_RESOURCE, tags=_TAGS),
    "UntagResource": _structure(
        "resourceArn", "tagKeys", resourceArn=_RESOURCE, tagKeys=ListOf(_TAG_KEY)
    ),
    "PutVectors": _structure("vectors", **_INDEX, vectors=ListOf(_RECORD, 1, 500)),
    "GetVectors": _structure(
        "keys",
        **_INDEX,
        keys=ListOf(_VECTOR_KEY, 1, 100),
        returnData=Boolean(),
        returnMetadata=Boolean(),
    ),
    "ListVectors": _structure(
        **_INDEX,
        maxResults=Integer(1, 1000),
        nextToken=String(1, 2048),
        segmentCount=Integer(1, 16),
        segmentIndex=Integer(0, 15),
        returnData=Boolean(),
        returnMetadata=Boolean(),
    ),
    "DeleteVectors": _structure("keys", **_INDEX, keys=ListOf(_VECTOR_KEY, 1, 500)),
    "QueryVectors": _structure(
        "topK",
        **_INDEX,
        topK=Integer(1, TOP_K_MAX),  # the model has no upper bound; the service's documentation has
        queryVector=_DATA,
        filter=Document(),
        queryMode=_MODE,
        returnMetadata=Boolean(),
        returnDistance=Boolean(),
        queryTexts=ListOf(_QUERY_TEXT, 1, 10),
        returnScores=Boolean(),
        nextToken=String(1, 4096),
    ),
}

_NO_TEXT: Final = (
    "Full-text search is not supported by this endpoint: leave it out, and search by vector"
)
_NO_CLASSIC: Final = (
    "CLASSIC is for vector buckets created before September 30, 2026, and here there are none: use "
    "ENHANCED, or leave it out"
)
REFUSED: Final = (
    Refused("CreateIndex", "metadataConfiguration.textSearchConfigurations", _NO_TEXT),
    Refused("UpdateMetadataConfiguration", "add.textSearchConfigurations", _NO_TEXT),
    Refused("UpdateMetadataConfiguration", "delete.textSearchConfigurations", _NO_TEXT),
    Refused("QueryVectors", "queryTexts", _NO_TEXT),
    Refused("QueryVectors", "queryMode", _NO_CLASSIC, value="CLASSIC"),
    Refused("UpdateIndexMode", "indexMode", _NO_CLASSIC, value="CLASSIC"),
    Refused("PutVectorBucketDefaultIndexMode", "defaultIndexMode", _NO_CLASSIC, value="CLASSIC"),
)

_ENCRYPTED: Final = (
    "All that the deployment stores is encrypted alike: with the KMS key that it was deployed "
    "with, which is then the one that can be named, or with AES256. Another is refused, never "
    "ignored"
)
DIFFERS: Final = (
    Differs("CreateVectorBucket", "encryptionConfiguration", _ENCRYPTED),
    Differs("CreateIndex", "encryptionConfiguration", _ENCRYPTED),
    Differs(
        "ListVectorBuckets",
        "vectorBuckets",
        "Those that the access key may see, not all of the account",
    ),
    Differs(
        "QueryVectors",
        "returnScores",
        "Scores come with full-text search: to a query by vector it adds none, as on the service",
    ),
    Differs("ListIndexes", "indexes", "Those that the access key may see"),
    Differs(
        "PutVectors",
        "vectors",
        "A request has at most 6 MiB, which Lambda takes, not 20 MiB; the error says how many "
        "vectors fit",
    ),
    Differs(
        "GetVectors",
        "keys",
        "An answer has at most 6 MiB, which Lambda gives; the error says how many keys fit",
    ),
)
