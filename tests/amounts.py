"""How much is tried: all of it in `make test-all`, a third or a fifth in `make test`."""

import os

WHOLE = os.environ.get("SQUASH_TEST_CHANCE") == "chance"
_PART = 3
_ENOUGH = 25  # examples, below which properties of many are not tried


def examples(whole, *, least=5):
    """How many examples of Hypothesis's are tried: of many, a fifth; of few, not below `least`."""
    if WHOLE:
        return whole
    third = min(whole // _PART, _ENOUGH)
    return max(whole // 5, min(whole, max(third, least)))


def some(numbers, *, salt=0):
    """Return the numbers, or every third of them; which ones differs by salt."""
    numbers = list(numbers)
    return numbers if WHOLE or len(numbers) <= _PART else numbers[salt % _PART :: _PART]
