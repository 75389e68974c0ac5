"""Functions made of an environment: whom they call, and what is wrong with a variable."""

import json
import os
import subprocess
import sys

import pytest

from simulated import Clock
from squash.errors import InvalidArgumentError
from squash.model import EncoderPin, Inputs, Modality, Purpose
from squash.planning.shape import FAN_OUT, Shape
from squash.planning.tree import Tree
from squash.runtime.fleet import read_fleet
from squash.runtime.functions import (
    MeasuredRole,
    make_allocator,
    make_calling,
    make_encoder,
    make_encoding,
    make_processor,
    make_searcher,
    tmp_of,
)

STORE = {"SQUASH_STORE": "memory://functions"}
FUNCTIONS = {"SQUASH_ALLOCATOR": "s-allocator", "SQUASH_PROCESSOR": "s-processor"}


def test_a_fleet():
    """Variables say whom to call; without them there are eight slots, by tenant, and nobody."""
    fleet = read_fleet({})
    assert (fleet.allocator, fleet.processor, fleet.affinity, fleet.shape) == (
        None, None, "tenant", None,
    )  # fmt: skip
    assert len(fleet.slots) == 8
    assert fleet.vcpus == os.cpu_count()
    more = {"SQUASH_AFFINITY": "pool", "SQUASH_SLOTS": "3", "SQUASH_SHAPE": "4,2",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "3538"}  # fmt: skip
    fleet = read_fleet(FUNCTIONS | more)
    assert (fleet.allocator, fleet.processor) == ("s-allocator", "s-processor")
    assert fleet.slots == ("slot-0", "slot-1", "slot-2")
    assert (fleet.affinity, fleet.vcpus) == ("pool", 2.0)
    assert fleet.shape == Shape("tree", Tree(4, 2))
    assert read_fleet({"SQUASH_SHAPE": "fan-out"}).shape == FAN_OUT


@pytest.mark.parametrize(
    ("name", "value"),
    [("SQUASH_AFFINITY", "warm"), ("SQUASH_SLOTS", "0"), ("SQUASH_SLOTS", "x"),
     ("SQUASH_SLOTS", "9999"), ("SQUASH_SHAPE", "4"), ("SQUASH_SHAPE", "0,1"),
     ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "lots")],
)  # fmt: skip
def test_wrong_variables(name, value):
    """A wrong value is refused, by the variable's name."""
    with pytest.raises(InvalidArgumentError, match=name):
        read_fleet({name: value})


def test_nobody_to_call():
    """A coordinator without functions to call has no searcher; an allocator needs processors."""
    calling = make_calling(FUNCTIONS, clock=Clock())
    assert make_searcher({}, calling) is None
    assert make_searcher({"SQUASH_PROCESSOR": "p"}, calling) is None
    assert make_searcher(FUNCTIONS, calling) is not None
    with pytest.raises(InvalidArgumentError, match="SQUASH_PROCESSOR"):
        make_allocator(STORE)
    for make in (make_processor, make_encoder, lambda env: make_allocator(env | FUNCTIONS)):
        with pytest.raises(InvalidArgumentError, match="SQUASH_STORE"):
            make({})


def test_files_only_in_a_function_with_a_remote_store():
    """Nothing is put in /tmp but by a function of Lambda's whose store is S3."""
    assert tmp_of(STORE | {"AWS_LAMBDA_FUNCTION_NAME": "f"}) is None
    assert tmp_of({"SQUASH_STORE": "s3://bucket/x"}) is None
    of_s3 = {"SQUASH_STORE": "s3://bucket/x", "AWS_LAMBDA_FUNCTION_NAME": "f"}
    assert tmp_of(of_s3 | {"SQUASH_TMP_BYTES": "0"}) is None


def test_nobody_to_encode():
    """Without an encoder function there is nobody to call, which is told when it is needed."""
    encoding = make_encoding({}, lambda: pytest.fail("nobody is called"))
    texts = Inputs(Modality.TEXT, ["a"])
    with pytest.raises(InvalidArgumentError, match="no encoder function"):
        encoding.encode(EncoderPin("e", "0" * 64), texts, purpose=Purpose.QUERY, dimension=2)


@pytest.mark.parametrize(
    "make", [make_processor, make_encoder, lambda env: make_allocator(env | FUNCTIONS)]
)
def test_events_that_are_none(make):
    """A function that is sent nonsense answers so, and with what that took."""
    role = make(STORE | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512"})
    answers = [role.handle({"v": 1, "kind": "dance"}) for _ in range(2)]
    assert [one["cold"] for one in answers] == [True, False]
    for answer in answers:
        assert answer["error"]["type"] == "InvalidArgumentError"
        assert answer["memory_mb"] == 512
        assert answer["duration_ms"] >= 0
        json.dumps(answer)


def test_what_a_call_took():
    """The duration is what the role's own work took."""
    clock = Clock()

    class Slow:
        def handle(self, event):
            clock.ms += 30
            return {"v": 1, "body": event["body"]}

    role = MeasuredRole(Slow(), clock=clock, memory_mb=128)
    assert role.handle({"body": "x"}) == {
        "v": 1, "body": "x", "cold": True, "duration_ms": 30, "memory_mb": 128,
    }  # fmt: skip


PROGRAM = """
import json, sys
import numpy
before = set(sys.modules)
from squash.runtime.functions import make_{role}
role = make_{role}({environment})
role.handle({{"v": 1}})
print(json.dumps(sorted(set(sys.modules) - before)))
"""
CALLING = {"squash.search.calls", "squash.search.exchange", "squash.runtime.invokers"}
HEAVY = {"boto3", "botocore", "statistics", "squash.runtime.session", "squash.maintain",
         "squash.training", "squash.database", "squash.storage.s3"}  # fmt: skip


def loaded(role: str) -> set[str]:
    program = PROGRAM.format(role=role, environment=STORE | FUNCTIONS)
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return set(json.loads(done.stdout))


def test_what_a_processor_loads():
    """A processor that is made and called has loaded nothing to call others with, and no log."""
    assert not loaded("processor") & (
        HEAVY | CALLING | {"squash.index.log", "squash.search.allocating", "squash.runtime.views"}
    )


def test_what_an_allocator_loads():
    """An allocator loads neither what writes and builds, nor boto3 before it calls."""
    assert not loaded("allocator") & HEAVY


def test_what_an_encoder_loads():
    """An encoder loads nothing of indexes, and what runs models with the first call alone."""
    models = {"onnxruntime", "tokenizers", "PIL", "squash.encoders.encoder"}
    log = {"squash.index.log", "squash.runtime.views"}
    assert (loaded("encoder") & (HEAVY | CALLING | models | log)) == set()
