"""What runs a search: settings, retained data, clients.

A session does everything and so loads everything, building included: who only searches imports
`squash.runtime.retained` and never `squash.runtime.session`.
"""

from squash.runtime.retained import RetainedMemory, RetainedObjects
from squash.runtime.settings import (
    Settings,
    choose_kernels,
    read_costs,
    retained_bytes,
    tmp_bytes,
)

__all__ = [
    "RetainedMemory",
    "RetainedObjects",
    "Settings",
    "choose_kernels",
    "read_costs",
    "retained_bytes",
    "tmp_bytes",
]
