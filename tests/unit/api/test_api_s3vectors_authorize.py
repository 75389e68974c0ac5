"""Which requests of the S3 Vectors API are let through, and in which words others are refused."""

from dataclasses import replace

import pytest
from api_world import HandClock

from policy_world import (
    ACCOUNT,
    ARN,
    QUERY,
    VECTOR,
    PolicyWorld,
    bucket,
    one,
    policy,
    statement,
    user,
)
from squash.api.access import Caller
from squash.api.routes import Scope
from squash.api.s3vectors.authorize import authorize
from squash.api.s3vectors.calls import Asked
from squash.api.s3vectors.operations import OPERATIONS
from squash.api.s3vectors.policies import parse_policy
from squash.api.s3vectors.resources import Place, Resource
from squash.storage import MemoryStore

READ, WRITE, ADMIN = frozenset({Scope.READ}), frozenset({Scope.WRITE}), frozenset({Scope.ADMIN})
CALLERS = [
    Caller("reader", READ, ("media/*",)),
    Caller("writer", WRITE, ("media/*",)),
    Caller("keeper", ADMIN, ("media/*",)),
    Caller("narrow", READ | WRITE | ADMIN, ("media/papers",)),
    Caller("outside", READ | WRITE | ADMIN, ("papers", "med*", "other/*")),
    Caller("rows", READ, ("media/*",), {"team": "blue"}),
    Caller("odd rows", READ | WRITE | ADMIN, ("*",), {"team": "blue"}),
    Caller("", READ | WRITE | ADMIN, ("*",)),
]
NEW = {"dataType": "float32", "dimension": 2, "distanceMetric": "euclidean"}
REQUESTS = {
    "CreateVectorBucket": bucket("media"),
    "GetVectorBucket": bucket("media"),
    "ListIndexes": bucket("media"),
    "DeleteVectorBucket": bucket("media"),
    "PutVectorBucketPolicy": bucket("media") | {"policy": "no policy"},
    "GetVectorBucketPolicy": bucket("media"),
    "DeleteVectorBucketPolicy": bucket("media"),
    "CreateIndex": one("media", "papers") | NEW,
    "GetIndex": one("media", "papers"),
    "DeleteIndex": one("media", "papers"),
    "PutVectors": one("media", "papers") | {"vectors": [VECTOR]},
    "GetVectors": one("media", "papers") | {"keys": ["a"]},
    "ListVectors": one("media", "papers"),
    "DeleteVectors": one("media", "papers") | {"keys": ["none"]},
    "QueryVectors": one("media", "papers") | QUERY,
}
READS = ["GetIndex", "GetVectors", "ListVectors", "QueryVectors"]
READS_OF_BUCKETS = ["GetVectorBucket", "ListIndexes"]
WRITES = ["PutVectors", "DeleteVectors"]
OF_INDEXES = [name for name in REQUESTS if "indexName" in REQUESTS[name]]
ADMINISTERS = sorted(set(REQUESTS) - {*READS, *READS_OF_BUCKETS, *WRITES})
MAY = {
    "reader": {*READS, *READS_OF_BUCKETS},
    "writer": set(WRITES),
    "keeper": set(ADMINISTERS),
    "narrow": {*OF_INDEXES, *READS_OF_BUCKETS},
    "outside": set(),
    "rows": {*READS, *READS_OF_BUCKETS},
    "odd rows": {*READS, *READS_OF_BUCKETS},
    "root": set(REQUESTS),
}


@pytest.fixture
def world():
    made = PolicyWorld(CALLERS, HandClock())
    made.media()
    return made


def denied(name, action, resource):
    return (
        f"User: {user(name)} is not authorized to perform: s3vectors:{action} on resource: "
        f"{resource} because no identity-based policy allows the s3vectors:{action} action"
    )


def resource_of(operation):
    members = REQUESTS[operation]
    index = f"/index/{members['indexName']}" if "indexName" in members else ""
    return f"{ARN}{members['vectorBucketName']}{index}"


@pytest.mark.parametrize("name", MAY)
def test_authorize_keys(world, name):
    """A key may what its scopes say where its patterns reach, else is told so in its words."""
    last = ["DeleteIndex", "DeleteVectorBucket"]
    for operation in [*sorted(set(REQUESTS) - set(last)), *last]:
        status, code, document = world.ask(name, operation, REQUESTS[operation])
        if operation in MAY[name]:
            assert code != "AccessDeniedException", operation
        else:
            assert (status, code) == (403, "AccessDeniedException"), operation
            assert document == {"message": denied(name, operation, resource_of(operation))}


@pytest.mark.parametrize("operation", [one for one in REQUESTS if one != "CreateVectorBucket"])
def test_authorize_absence(operation):
    """Who is not let near a bucket is answered the same, byte by byte, whether it is there."""
    full, empty = (PolicyWorld(CALLERS, HandClock()) for _ in range(2))
    full.media()
    deny = statement("Deny", "*", ["media", "media/*"], "outside")
    full.done("PutVectorBucketPolicy", **bucket("media"), policy=policy(deny))
    for name in ("outside", "odd rows"):
        if operation not in MAY[name]:
            asked = [world.ask(name, operation, REQUESTS[operation]) for world in (full, empty)]
            assert asked[0] == asked[1]
            assert asked[0][1] == "AccessDeniedException"


def test_authorize_absent_to_those_allowed(world):
    """Who may ask is told that there is no such bucket or index."""
    for operation in ("GetVectorBucket", "GetVectorBucketPolicy", "DeleteVectorBucket"):
        status, code, document = world.ask("root", operation, bucket("nothing"))
        assert (status, code) == (404, "NotFoundException")
        assert document["message"] == "The specified vector bucket could not be found"
    status, code, _ = world.ask("reader", "GetIndex", one("media", "nothing"))
    assert (status, code) == (404, "NotFoundException")


def test_authorize_unsigned(world):
    """A request without credential passes under no policy, not even one that allows everybody."""
    anybody = statement("Allow", "*", ["media", "media/*"])
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=policy(anybody))
    for operation, members in REQUESTS.items():
        status, code, _ = world.ask("", operation, members)
        assert status == 403
        assert code in {"UnrecognizedClientException", "MissingAuthenticationTokenException"}


def test_authorize_nobody(world):
    """A caller without a name is nobody, whatever it comes with and whatever a policy says."""
    anybody = statement("Allow", "*", ["media", "media/*"])
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=policy(anybody))
    world.gate.callers["ghost"] = Caller("", READ | WRITE | ADMIN, ("*",))
    for operation, members in REQUESTS.items():
        assert world.ask("ghost", operation, members)[1] == "AccessDeniedException"


def test_authorize_policy_allows(world):
    """A policy lets a key do what the key by itself may not, on what it names alone."""
    allow = statement("Allow", "s3vectors:PutVectors", "media/index/papers", "outside")
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=policy(allow))
    members = {"vectors": [VECTOR]}
    assert world.ask("outside", "PutVectors", one("media", "papers") | members)[0] == 200
    assert world.ask("outside", "PutVectors", one("media", "photos") | members)[0] == 403
    assert world.ask("outside", "GetIndex", one("media", "papers"))[0] == 403
    assert world.ask("reader", "PutVectors", one("media", "papers") | members)[0] == 403


def test_authorize_policy_denies(world):
    """What a policy denies is denied also to who may do all, in the service's words."""
    deny = statement("Deny", "s3vectors:Query*", principal="root")
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=policy(deny))
    status, code, document = world.ask("root", "QueryVectors", REQUESTS["QueryVectors"])
    assert (status, code) == (403, "AccessDeniedException")
    assert document["message"] == (
        f"User: {user('root')} is not authorized to perform: s3vectors:QueryVectors on resource: "
        f"{ARN}media/index/papers with an explicit deny in a resource-based policy"
    )
    assert world.ask("reader", "QueryVectors", REQUESTS["QueryVectors"])[0] == 200


def test_authorize_row_filter(world):
    """A policy lets a key with a row filter read, its rows alone, and never write."""
    world.gate.callers["rows"] = Caller("rows", READ, ("other",), {"team": "blue"})
    anybody = statement("Allow", "*", ["media", "media/*"])
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=policy(anybody))
    for operation in (*WRITES, *ADMINISTERS):
        status, code, document = world.ask("rows", operation, REQUESTS[operation])
        assert (status, code) == (403, "AccessDeniedException"), operation
        assert document["message"] == denied("rows", operation, resource_of(operation))
    assert world.ask("rows", "QueryVectors", REQUESTS["QueryVectors"])[2]["vectors"] == []
    assert world.ask("reader", "QueryVectors", REQUESTS["QueryVectors"])[2]["vectors"]


@pytest.mark.parametrize(
    ("operation", "more", "needs"),
    [
        ("QueryVectors", {}, False),
        ("QueryVectors", {"returnDistance": True}, False),
        ("QueryVectors", {"returnMetadata": False}, False),
        ("QueryVectors", {"returnMetadata": True}, True),
        ("QueryVectors", {"filter": {"team": "red"}}, True),
        ("ListVectors", {}, False),
        ("ListVectors", {"returnData": False}, False),
        ("ListVectors", {"returnData": True}, True),
        ("ListVectors", {"returnMetadata": True}, True),
    ],
)
def test_authorize_get_vectors_too(world, operation, more, needs):
    """Metadata, data and filters ask for GetVectors too, where a policy allows or denies it."""
    members = one("media", "papers") | (QUERY if operation == "QueryVectors" else {}) | more
    allow = statement("Allow", f"s3vectors:{operation}", principal="outside")
    deny = statement("Deny", "s3vectors:GetVectors", principal="reader")
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=policy(allow, deny))
    for name in ("outside", "reader"):
        status, _, document = world.ask(name, operation, members)
        assert status == (403 if needs else 200)
        assert ("s3vectors:GetVectors" in document.get("message", "")) == needs
    allow["Action"] = [allow["Action"], "s3vectors:GetVectors"]
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=policy(allow))
    assert world.ask("outside", operation, members)[0] == 200


@pytest.mark.parametrize(
    ("name", "operation", "action", "expected"),
    [
        ("reader", "ListIndexes", "s3vectors:ListIndexes", True),
        ("outside", "ListIndexes", "s3vectors:ListIndexes", True),
        ("reader", "ListIndexes", "s3vectors:GetIndex", False),
        ("reader", "QueryVectors", "s3vectors:QueryVectors", False),
        ("reader", "QueryVectors", ["s3vectors:QueryVectors", "s3vectors:GetVectors"], True),
    ],
)
def test_authorize_by_policy(name, operation, action, expected):
    """What a policy allows by itself, all of it, is told from what the key allows or adds."""
    caller = next(one for one in CALLERS if one.name == name)
    resource = Resource("media", "papers" if operation == "QueryVectors" else "")
    asked = Asked(OPERATIONS[operation], {"filter": {}}, caller, Place(), resource)
    found = parse_policy(policy(statement("Allow", action, ["media", "media/*"])), Place())
    assert authorize(asked, lambda _: found) is expected


def test_authorize_tags_at_creation(world):
    """An index that is made with tags asks for TagResource too."""
    members = one("media", "new") | NEW
    allow = statement("Allow", "s3vectors:CreateIndex", principal="outside")
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=policy(allow))
    status, _, document = world.ask("outside", "CreateIndex", members | {"tags": {"a": "b"}})
    assert status == 403
    assert document["message"] == denied("outside", "TagResource", f"{ARN}media/index/new")
    assert world.ask("outside", "CreateIndex", members)[0] == 200


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [(("*",), 200), (("new/*",), 200), (("new/a*",), 403), (("new*",), 403), (("new",), 403)],
)
def test_authorize_create_bucket(world, patterns, expected):
    """A vector bucket is made by whose patterns cover all that will be in it."""
    world.gate.callers["maker"] = Caller("maker", ADMIN, patterns)
    status, _, document = world.ask("maker", "CreateVectorBucket", bucket("new"))
    assert status == expected
    if expected == 403:
        assert document["message"] == denied("maker", "CreateVectorBucket", f"{ARN}new")


def test_authorize_list_buckets(world):
    """Listing buckets asks for the scope alone, and is of no resource."""
    assert world.ask("outside", "ListVectorBuckets", {})[0] == 200
    status, _, document = world.ask("writer", "ListVectorBuckets", {})
    assert status == 403
    assert document["message"] == denied("writer", "ListVectorBuckets", "*")


def test_authorize_locked_out(world):
    """Who denied all to all is let in again by whoever has the store, and by nobody else."""
    lock = policy(statement("Deny", "*", ["media", "media/*"]))
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=lock)
    members = bucket("media")
    assert world.ask("root", "DeleteVectorBucketPolicy", members)[1] == "AccessDeniedException"
    buckets = world.database.vector_buckets
    buckets.change(buckets.get("media"), lambda settings: replace(settings, policy=None))
    world.clock.ms += 60_000
    assert world.ask("root", "GetIndex", one("media", "papers"))[0] == 200


@pytest.mark.parametrize("text", ["", "{", '{"Statement": []}', '{"Statement": {"Effect": 1}}'])
def test_authorize_unreadable(world, text):
    """A stored policy that cannot be read lets nobody in, and tells no stranger of itself."""
    buckets = world.database.vector_buckets
    buckets.change(buckets.get("media"), lambda settings: replace(settings, policy=text))
    world.clock.ms += 60_000
    strange = PolicyWorld(CALLERS, HandClock())
    for operation, members in REQUESTS.items():
        if operation != "CreateVectorBucket":
            status, code, document = world.ask("root", operation, members)
            assert (status, code) == (500, "InternalServerException")
            assert "media" not in document["message"]
            there = world.ask("outside", operation, members)
            assert there == strange.ask("outside", operation, members)


def test_authorize_damaged():
    """Settings that are damaged in the store let nobody in; mended, they hold."""
    store = MemoryStore()
    world = PolicyWorld(CALLERS, HandClock(), store)
    world.media()
    allow = policy(statement("Allow", "*", principal="outside"))
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=allow)
    key = max(key for key, (data, _) in store._objects.items() if b"Allow" in bytes(data))
    whole, etag = store._objects[key]
    found = []
    for data in (bytes(whole).replace(b"Allow", b"Deny "), whole):
        store._objects[key] = (data, etag)
        # Another process: this one may remember what cannot change.
        world = PolicyWorld(CALLERS, HandClock(), store)
        found += [
            world.ask(name, "GetIndex", one("media", "papers"))[0] for name in ("root", "outside")
        ]
    assert found == [500, 403, 200, 200]


def test_policy_endpoints(world):
    """What is got back is the text that was put, until another is put or it is deleted."""
    absent = (404, {"message": "The specified vector bucket policy could not be found"})
    members = bucket("media")

    def got():
        status, _, document = world.ask("root", "GetVectorBucketPolicy", members)
        return status, document

    assert got() == absent
    odd = '{ "Statement":{"Sid":"\u00e9","Effect":"Allow","Principal":"*", "Action":"*",\n'
    for text in (policy(statement("Deny", "*", principal="x")), odd + '"Resource":"*"}}'):
        assert world.done("PutVectorBucketPolicy", **members, policy=text) == {}
        assert got() == (200, {"policy": text})
    for _ in range(2):
        assert world.done("DeleteVectorBucketPolicy", **members) == {}
        assert got() == absent


def test_policy_endpoints_refuse(world):
    """A policy that is not wholly held is refused with its place, and the one before stays."""
    before = policy(statement("Allow", "*", principal="outside"))
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=before)
    text = policy(statement("Deny", "*") | {"Condition": {"Bool": {"a": "b"}}})
    members = bucket("media") | {"policy": text}
    status, code, document = world.ask("root", "PutVectorBucketPolicy", members)
    assert (status, code) == (400, "ValidationException")
    assert document["message"].startswith("Invalid policy document: Statement[0].Condition: ")
    assert document["fieldList"][0]["path"] == "/policy"
    assert world.done("GetVectorBucketPolicy", **bucket("media")) == {"policy": before}
    foreign = before.replace(ACCOUNT, "111122223333")
    assert world.ask("root", "PutVectorBucketPolicy", members | {"policy": foreign})[0] == 400
