"""What all tests share: chance is repeatable in `make test`, and real chance in `make test-all`."""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, print_blob=True)
settings.register_profile("chance", print_blob=True)
settings.load_profile(os.environ.get("SQUASH_TEST_CHANCE", "repeatable"))
