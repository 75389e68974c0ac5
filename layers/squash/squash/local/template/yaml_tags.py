"""YAML with CloudFormation's short forms: ``!Ref x`` is read as ``{"Ref": "x"}``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from squash.errors import InvalidArgumentError, NotFoundError


class _Loader(yaml.SafeLoader):
    """A safe loader that knows the tags, and leaves dates such as 2012-10-17 as text."""


def _short_form(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    name = tag if tag in {"Ref", "Condition"} else f"Fn::{tag}"
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if tag == "GetAtt":
            value = str(value).split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)  # noqa: S101 - there is no fourth kind
        value = loader.construct_mapping(node, deep=True)
    return {name: value}


_Loader.add_multi_constructor("!", _short_form)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: str(node.value))


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a template, or a part of one.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidArgumentError
        If it is not YAML, or no mapping.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no template {path}: say which with --template FILE"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{path} is not YAML: {error}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, place: str) -> dict[str, Any]:
    """Read a mapping from YAML, or JSON, which is YAML; `place` is where it stands, for errors.

    Raises
    ------
    InvalidArgumentError
        If it is not YAML, or no mapping.

    """
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - it is a safe loader
    except yaml.YAMLError as error:
        raise InvalidArgumentError(f"{place} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgumentError(f"{place} is to be a mapping")
    return document
