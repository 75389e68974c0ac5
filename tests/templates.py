"""Reads CloudFormation templates for tests: short tags as the long functions they stand for."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


class _Loader(yaml.SafeLoader):
    """Knows the tags of CloudFormation."""


def _tag(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _tag)


def read(name):
    """Return a template of this repository, which is the caller's own."""
    return copy.deepcopy(_read(name))


@functools.cache
def _read(name):
    return yaml.load((ROOT / name).read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506


def of_type(template, kind):
    """Return the resources of a type, by their names."""
    return {n: r for n, r in template["Resources"].items() if r["Type"] == kind}


def functions(template):
    """Return each function's properties, those of all functions included."""
    shared = template["Globals"]["Function"]
    found = {}
    for name, resource in of_type(template, "AWS::Serverless::Function").items():
        own = resource["Properties"]
        found[name] = shared | own
        variables = [p.get("Environment", {}).get("Variables", {}) for p in (shared, own)]
        found[name]["Environment"] = {"Variables": variables[0] | variables[1]}
        found[name]["LoggingConfig"] = shared["LoggingConfig"] | own["LoggingConfig"]
    return found
