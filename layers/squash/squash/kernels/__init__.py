"""Arrays in, arrays out: the loops that a query spends its time in.

Each function here is the NumPy twin: the definition of what a native kernel must give, and what
runs where there is none. Stored layouts are already those that native kernels want.
"""

from squash.kernels.full import full_products, pack_nibbles, unpack_nibbles
from squash.kernels.low import block_begins, low_products, low_table, pack_low
from squash.kernels.packing import pack_rows, packed_bytes, unpack_rows
from squash.kernels.signs import hamming, pack_signs

__all__ = [
    "block_begins",
    "full_products",
    "hamming",
    "low_products",
    "low_table",
    "pack_low",
    "pack_nibbles",
    "pack_rows",
    "pack_signs",
    "packed_bytes",
    "unpack_nibbles",
    "unpack_rows",
]
