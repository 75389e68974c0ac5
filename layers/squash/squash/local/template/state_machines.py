"""The definition of a state machine: from its file or the template, with its names filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from squash.errors import InvalidArgumentError, NotFoundError
from squash.local.template.intrinsics import NO_VALUE, Resolver
from squash.local.template.yaml_tags import parse_yaml

_NAME: Final = re.compile(r"\$\{([A-Za-z0-9_]+)\}")


def definition_of(
    properties: Mapping[str, Any], resolver: Resolver, *, folder: Path, at: str
) -> str:
    """Return a state machine's definition as JSON.

    Parameters
    ----------
    properties:
        Of the resource: ``Definition``, or ``DefinitionUri`` of a file in JSON or YAML, and
        ``DefinitionSubstitutions``.
    resolver:
        For what these say.
    folder:
        Where the template lies.
    at:
        The properties' place in the template, for errors.

    Raises
    ------
    NotFoundError
        If there is no such file.
    InvalidArgumentError
        If it is no definition, or names what is not substituted.

    """
    given = resolver.value(
        properties.get("DefinitionSubstitutions") or {}, f"{at}.DefinitionSubstitutions"
    )
    if "Definition" in properties:
        place = f"{at}.Definition"
        text = json.dumps(resolver.value(properties["Definition"], place))
    else:
        place = f"{at}.DefinitionUri"
        text = _file(resolver.value(properties.get("DefinitionUri"), place), folder, place)

    def substituted(match: re.Match[str]) -> str:
        if match[1] not in given:
            raise InvalidArgumentError(
                f"{place} names {match[0]}, which DefinitionSubstitutions does not give",
                field=place,
            )
        return str(given[match[1]])

    # In the text, as CloudFormation does it: so numbers can be filled in too.
    document = parse_yaml(_NAME.sub(substituted, text), place)
    return json.dumps(document)


def _file(name: Any, folder: Path, place: str) -> str:
    if name is NO_VALUE or not isinstance(name, str):
        raise InvalidArgumentError(
            f"{place} is to name a file beside the template, in JSON or YAML", field=place
        )
    try:
        return (folder / name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"{place}: there is no file {folder / name}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(
            f"{place}: {folder / name} cannot be read: {error}", field=place
        ) from error
