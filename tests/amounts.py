"""How much is tried: all of it in `make test-all`, about a third in `make test`."""

import os

WHOLE = os.environ.get("SQUASH_TEST_CHANCE") == "chance"
_PART = 3


def examples(whole):
    """How many examples of Hypothesis's are tried."""
    return whole if WHOLE else max(whole // _PART, 5)


def some(numbers, *, salt=0):
    """Return the numbers, or every third of them; which ones differs by salt."""
    numbers = list(numbers)
    return numbers if WHOLE or len(numbers) <= _PART else numbers[salt % _PART :: _PART]
