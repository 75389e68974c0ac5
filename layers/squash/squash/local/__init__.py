"""The local cloud: a SAM template's built artefacts, run on one machine as Lambda runs them.

A development tool: it listens on loopback only, checks no signature, and isolates nothing.
"""

from squash.local.cloud import CloudOptions
from squash.local.faults import Fault, FaultKind
from squash.local.handle import LocalCloud

__all__ = ["CloudOptions", "Fault", "FaultKind", "LocalCloud"]
