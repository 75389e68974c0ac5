"""What all tests share: chance is repeatable in `make test`, and real chance in `make test-all`."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from artefacts import build_local
from squash.attributes import filters

# How long an example takes is the machine's affair, and of what else it does: none fails by that.
SLOW = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, print_blob=True, max_examples=50, **SLOW)
settings.register_profile("chance", print_blob=True, **SLOW)
settings.load_profile(os.environ.get("SQUASH_TEST_CHANCE", "repeatable"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a script has it for what it runs in the background, and that for all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def artefacts():
    """The functions and their layer, built for this machine."""
    return build_local()


@pytest.fixture
def no_filters_kept():
    """No filter was asked before: those of other tests may leave room for few, or for none."""
    filters._kept.clear()
