"""What runs a search: settings, retained data, clients."""

from squash.runtime.retained import RetainedObjects
from squash.runtime.settings import Settings

__all__ = ["RetainedObjects", "Settings"]
