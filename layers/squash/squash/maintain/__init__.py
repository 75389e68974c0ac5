"""Work on a whole index: build, verify."""

from squash.maintain.build import BuildOptions
from squash.maintain.optimize import LiveRows, optimize
from squash.maintain.verify import verify

__all__ = ["BuildOptions", "LiveRows", "optimize", "verify"]
