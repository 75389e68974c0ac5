"""Work on a whole index: build, verify."""

from squash.maintain.build import BuildOptions, Built, build
from squash.maintain.verify import verify

__all__ = ["BuildOptions", "Built", "build", "verify"]
