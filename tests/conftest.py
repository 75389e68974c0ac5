"""What all tests share: chance is repeatable in `make test`, and real chance in `make test-all`."""

import os

import pytest
from hypothesis import settings

from artefacts import build_local

settings.register_profile("repeatable", derandomize=True, print_blob=True)
settings.register_profile("chance", print_blob=True)
settings.load_profile(os.environ.get("SQUASH_TEST_CHANCE", "repeatable"))


@pytest.fixture(scope="session")
def artefacts():
    """The functions and their layer, built for this machine."""
    return build_local()
