"""Reads a user's own policies from a YAML or JSON file.

The file is a list of policies, or a mapping of names to texts:

    - name: weapons                                     weapons: "No Weapons: The image shall ..."
      text: "No Weapons: The image shall not ..."       spam: "No Spam: The image shall not ..."
      threshold: 0.7
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from jobs.moderation.policies import Policy
from jobs.options.check import unknown
from pipeline import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = tuple(field.name for field in fields(Policy))


class _Pair(NamedTuple):
    """A key with its value and its line; JSON has no lines."""

    key: str
    value: Any
    line: int | None = None


def read_policies(path: str | Path) -> tuple[Policy, ...]:
    """Read the policies from a `.json` file, or from a YAML file of any other name.

    Raises:
        UserError: The file cannot be read or is wrong; one line with the file and, for YAML, the
            line in it.
    """
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"policies {path} cannot be read ({error})") from None
    is_json = file.suffix.lower() == ".json"
    found = _parse_json(text, path) if is_json else _parse_yaml(text, path)
    policies = tuple(_parse_policies(found, path))
    if not policies:
        raise UserError(f"policies {path} has no policy; give at least one")
    return policies


def _parse_json(text: str, path: object) -> Any:
    """JSON values, with each object as a list of pairs."""

    def pairs(items: list[tuple[str, Any]]) -> list[_Pair]:
        return [_Pair(key, value) for key, value in items]

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except ValueError as error:
        raise UserError(f"policies {path} is not JSON: {error}") from None


def _parse_yaml(text: str, path: object) -> Any:
    """YAML values, with each mapping as a list of pairs."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return _value(node, yaml.constructor.SafeConstructor())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"policies {path}{line} is not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"policies {path} is not YAML: {reason}") from None


def _value(node: Any, constructor: Any) -> Any:
    """The value of a YAML node; tags that would make other objects are refused."""
    if isinstance(node, yaml.MappingNode):
        return [
            _Pair(str(key.value), _value(value, constructor), key.start_mark.line + 1)
            for key, value in node.value
        ]
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, constructor) for item in node.value]
    return None if node is None else constructor.construct_object(node)


def _parse_policies(found: Any, path: object) -> Iterator[Policy]:
    names: set[str] = set()
    for entry in _entries(found, path):
        line = entry[0].line
        try:
            policy = _policy(entry)
            if policy.name in names:
                raise UserError(f"there are two policies '{policy.name}'; rename one")
        except UserError as error:
            raise UserError(f"policies {path}{f':{line}' if line else ''}: {error}") from None
        names.add(policy.name)
        yield policy


def _entries(found: Any, path: object) -> Iterator[list[_Pair]]:
    """The pairs of each policy."""
    items = [found] if _is_mapping(found) and {"name", "text"} <= {p.key for p in found} else found
    if _is_mapping(items):
        items = [[_Pair("name", p.key, p.line), _Pair("text", p.value)] for p in items]
    if not isinstance(items, list) or not all(map(_is_mapping, items)):
        raise UserError(
            f"policies {path}: should be a list of policies, each with name and text, or a mapping "
            "of names to texts"
        )
    yield from items


def _is_mapping(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(p, _Pair) for p in found)


def _policy(entry: list[_Pair]) -> Policy:
    keys = [pair.key for pair in entry]
    for number, key in enumerate(keys):
        if key not in KEYS:
            raise UserError(f"'{key}': {unknown(key, KEYS, 'key')}")
        if key in keys[:number]:
            raise UserError(f"'{key}' is there twice; remove one")
    for key in ("name", "text"):
        if key not in keys:
            raise UserError(f"a policy has no {key}; give it one")
    return Policy(**{pair.key: pair.value for pair in entry})
