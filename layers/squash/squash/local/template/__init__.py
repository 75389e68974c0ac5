"""What a SAM template says: its functions, routes, schedules and bucket, with values resolved."""

from squash.local.template.read import read_template
from squash.local.template.values import Function, Route, Schedule, Template

__all__ = ["Function", "Route", "Schedule", "Template", "read_template"]
