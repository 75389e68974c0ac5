"""What a SAM template says of what is run, with its values resolved."""

from squash.local.template.read import read_template
from squash.local.template.values import Function, Route, Schedule, StateMachine, Template

__all__ = ["Function", "Route", "Schedule", "StateMachine", "Template", "read_template"]
