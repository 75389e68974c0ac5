"""When an object that is read in pieces is better read whole.

It is the question whether to rent or to buy. Each read of pieces is charged what it cost: a round
to the store, told in the bytes that a stream brings meanwhile, and its bytes. Once that comes to
what the whole object would have cost, it is read whole: whatever is asked later, no more than twice
the least possible was spent. While memory is mostly empty, it is bought for a quarter of its price:
a process that is asked at all is then asked again. The first read of an object is always of pieces,
so that a cold query reads little (docs/decisions/0011).
"""

from __future__ import annotations

from typing import Final

from squash.limits import MIB

# Some 15 ms of a stream of 70 MB/s, half of a round to S3: rounds of several objects are shared.
ROUND_BYTES: Final = MIB
_EARLY_SHARE: Final = 0.25
# Up to where memory counts as mostly empty, and from where on as full, by shares of its bound.
_EMPTY_SHARE: Final = 0.5
_FULL_SHARE: Final = 0.9


def better_whole(
    *, charged: int, missing_bytes: int, object_bytes: int, retained: int, bytes_max: int
) -> bool:
    """Tell whether an object is now better read whole than in pieces.

    Parameters
    ----------
    charged:
        What reads of its pieces have cost until now, see `charge`.
    missing_bytes:
        What is wanted of it now and not retained.
    object_bytes:
        What all of it has.
    retained, bytes_max:
        What would be retained with it, of what may be.

    """
    if not charged or retained > _FULL_SHARE * bytes_max:
        return False
    share = _EARLY_SHARE if retained <= _EMPTY_SHARE * bytes_max else 1.0
    return charged + charge(missing_bytes) >= share * charge(object_bytes)


def charge(read_bytes: int) -> int:
    """Return what a read of an object costs, in bytes."""
    return ROUND_BYTES + read_bytes
