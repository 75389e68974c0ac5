"""What a SAM template says of what is run, with its values resolved."""

from squash.local.template.read import read_template
from squash.local.template.values import (
    Function,
    FunctionUrl,
    Route,
    Schedule,
    StateMachine,
    Template,
)

__all__ = [
    "Function", "FunctionUrl", "Route", "Schedule", "StateMachine", "Template", "read_template",
]  # fmt: skip
