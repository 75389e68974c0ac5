"""What a process remembers of policies: for how long, what that saves, and what is never kept."""

import threading
from dataclasses import replace

import pytest
from api_world import HandClock

from policy_world import VECTOR, PolicyWorld, bucket, one, policy, statement
from squash.api.access import Caller
from squash.api.routes import Scope
from squash.api.s3vectors.kept import KeptPolicies
from squash.limits import KEY_ABSENT_KEPT_MS_MAX, KEY_KEPT_MS_MAX, POLICIES_KEPT_MAX

CALLERS = [Caller("outside", frozenset(Scope), ("other",))]
DENY = policy(statement("Deny", "*", ["media", "media/*"], "outside"))


@pytest.fixture
def world():
    made = PolicyWorld(CALLERS, HandClock())
    made.media()
    return made


def requests(world):
    return world.store.counts().requests


def set_elsewhere(world, text):
    """Set the policy as another process does, or whoever has the store."""
    buckets = world.database.vector_buckets
    buckets.change(buckets.get("media"), lambda settings: replace(settings, policy=text))


def test_kept_warm(world):
    """Within its time a policy costs no request, whether there is one or not."""
    for text in (None, DENY):
        set_elsewhere(world, text)
        world.services.policies.forget("media")
        assert world.services.policies.text("media") == text
        before = requests(world)
        world.clock.ms += KEY_KEPT_MS_MAX - 1
        assert world.services.policies.text("media") == text
        assert requests(world) == before
        world.clock.ms += 1
        assert world.services.policies.text("media") == text
        assert requests(world) > before


def test_kept_refused_cheaply(world):
    """Who is refused again and again costs the store no request."""
    for name in ("media", "nothing"):
        world.ask("outside", "GetIndex", one(name, "papers"))
        before = requests(world)
        assert world.ask("outside", "GetIndex", one(name, "papers"))[0] == 403
        assert requests(world) == before


def test_kept_for_a_time(world):
    """A policy of another process holds here after its time at most, and not before it is read."""
    assert world.services.policies.text("media") is None
    set_elsewhere(world, DENY)
    world.clock.ms += KEY_KEPT_MS_MAX - 1
    assert world.services.policies.text("media") is None
    world.clock.ms += 1
    assert world.services.policies.text("media") == DENY


def test_kept_absence(world):
    """That there is no such bucket is believed for a shorter time."""
    assert world.services.policies.text("late") is None
    buckets = world.database.vector_buckets
    made = buckets.create("late")
    buckets.change(made, lambda settings: replace(settings, policy=DENY))
    world.clock.ms += KEY_ABSENT_KEPT_MS_MAX
    assert world.services.policies.text("late") == DENY


def test_kept_changes_here(world):
    """What this process changes holds at once in all of its functions."""
    allow = policy(statement("Allow", "*", principal="outside"))
    ask = ("outside", "PutVectors", one("media", "papers") | {"vectors": [VECTOR]})
    assert world.ask(*ask)[0] == 403
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=allow)
    assert world.ask(*ask)[0] == 200
    world.done("DeleteVectorBucketPolicy", **bucket("media"))
    assert world.ask(*ask)[0] == 403


def test_kept_other_bucket_of_the_name(world):
    """A bucket that is deleted and made again here does not go by the old one's policy."""
    world.done("PutVectorBucketPolicy", **bucket("media"), policy=DENY)
    assert world.services.policies.text("media") == DENY
    for index in ("papers", "photos"):
        world.done("DeleteIndex", **one("media", index))
    world.done("DeleteVectorBucket", **bucket("media"))
    world.done("CreateVectorBucket", **bucket("media"))
    assert world.services.policies.text("media") is None


def test_kept_clock_set_back(world):
    """A clock that is set back keeps nothing longer."""
    assert world.services.policies.text("media") is None
    set_elsewhere(world, DENY)
    world.clock.ms -= 1
    assert world.services.policies.text("media") == DENY


def test_kept_bounded(world):
    """However many names are asked for, what is known of buckets that are there stays."""
    policies = world.services.policies
    policies.text("media")
    for number in range(POLICIES_KEPT_MAX + 10):
        policies.text(f"nothing-{number}")
    before = requests(world)
    policies.text("media")
    assert requests(world) == before
    assert len(policies._absent) == POLICIES_KEPT_MAX
    assert len(policies._there) == 1


class SlowBuckets:
    """Vector buckets whose settings come when they are told to."""

    def __init__(self, buckets):
        self.buckets = buckets
        self.reading = threading.Event()
        self.go_on = threading.Event()

    @property
    def vector_buckets(self):
        return self

    def get(self, name):
        found = self.buckets.get(name)
        self.reading.set()
        assert self.go_on.wait(30)
        return found


def test_kept_reads_that_were_overtaken(world):
    """What was read before a change is not remembered after it."""
    slow = SlowBuckets(world.database.vector_buckets)
    policies = KeptPolicies(slow, world.clock)
    found = []
    reader = threading.Thread(target=lambda: found.append(policies.text("media")))
    reader.start()
    assert slow.reading.wait(30)
    set_elsewhere(world, DENY)
    policies.forget("media")
    slow.go_on.set()
    reader.join()
    assert found == [None]
    assert policies.text("media") == DENY


def test_kept_threads(world):
    """Threads that ask and forget at once get what is stored, and nothing else."""
    set_elsewhere(world, DENY)
    policies = KeptPolicies(world.database, world.clock)
    names = ["media", "nothing-1", "nothing-2"]
    wrong = []

    def run(seed):
        for step in range(300):
            name = names[(step * 7 + seed) % 3]
            if step % 5 == seed % 5:
                policies.forget(name)
            elif policies.text(name) != (DENY if name == "media" else None):
                wrong.append(name)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
