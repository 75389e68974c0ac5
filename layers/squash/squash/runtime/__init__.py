"""What runs a search: settings, retained data, clients."""

from squash.runtime.retained import RetainedObjects
from squash.runtime.session import IndexSession
from squash.runtime.settings import Settings

__all__ = ["IndexSession", "RetainedObjects", "Settings"]
