"""Reads the entries of an option that has several: from a YAML or JSON file, or as given in Python.

They are a list of mappings, or a mapping of names to the entries' main values:

    - name: weapons                                     weapons: "No Weapons: The image shall ..."
      text: "No Weapons: The image shall not ..."       spam: "No Spam: The image shall not ..."
      threshold: 0.7

Decides which keys an entry may have, and names the line of one that is wrong. What the values mean
is decided by the job.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from jobs.options.check import unknown
from jobs.options.files import read_text
from jobs.options.yaml_values import Loader, text_of
from pipeline import UserError


@dataclass(frozen=True, kw_only=True)
class EntryKind:
    """What entries an option has.

    Attributes:
        option: Its name, the plural: `policies`.
        one: What an entry is called: `policy`.
        keys: The keys that an entry may have.
        main: The key of the value that a mapping gives to names.
        required: Keys that each entry must have.
    """

    option: str
    one: str
    keys: tuple[str, ...]
    main: str
    required: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry.

    Attributes:
        values: Its values by key.
        where: Where it is, for messages: `policies FILE:3`.
    """

    values: Mapping[str, Any]
    where: str

    @contextlib.contextmanager
    def checking(self) -> Iterator[None]:
        """Say where the entry is in each `UserError` within."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.where}: {error}") from None


class _Pair(NamedTuple):
    """A key with its value and its line; JSON has no lines."""

    key: str
    value: Any
    line: int | None = None


def read_entries(
    source: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]], kind: EntryKind
) -> list[Entry]:
    """Read the entries: a `.json` file, a YAML file of any other name, or what was read already.

    Raises:
        UserError: The file cannot be read, or an entry is wrong; one line with the file and, for
            YAML, the line in it. An entry whose name is there twice is wrong.
    """
    if isinstance(source, str | Path):
        where, found = f"{kind.option} {source}", _parsed(source, kind.option)
    else:
        where, found = kind.option, _pairs(source)
    entries = [_entry(pairs, where, kind) for pairs in _each(found, where, kind)]
    if not entries:
        raise UserError(f"{where} has no {kind.one}; give at least one")
    names: set[str] = set()
    for entry in entries:
        name = entry.values["name"]
        if not isinstance(name, str):
            raise UserError(f"{entry.where}: name: should be text (got {name!r})")
        if name in names:
            raise UserError(f"{entry.where}: there are two {kind.option} '{name}'; rename one")
        names.add(name)
    return entries


def _parsed(path: str | Path, option: str) -> Any:
    """The values in a file, with each mapping as a list of pairs."""
    text = read_text(option, path)
    parse = _parse_json if Path(path).suffix.lower() == ".json" else _parse_yaml
    return parse(text, f"{option} {path}")


def _parse_json(text: str, where: str) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> list[_Pair]:
        return [_Pair(key, value) for key, value in items]

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except ValueError as error:
        raise UserError(f"{where} is not JSON: {error}") from None


def _parse_yaml(text: str, where: str) -> Any:
    try:
        node = yaml.compose(text, Loader=Loader)
        return _value(node, yaml.constructor.SafeConstructor())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line} is not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where} is not YAML: {reason}") from None


def _value(node: Any, constructor: Any, *, is_inner: bool = False) -> Any:
    """The value of a YAML node; tags that would make other objects are refused.

    `no` is text among an entry's values, and false in a mapping within one, such as a JSON schema.
    """
    if isinstance(node, yaml.MappingNode):
        return [
            _Pair(
                str(key.value),
                _value(
                    value,
                    constructor,
                    is_inner=is_inner or isinstance(value, yaml.MappingNode),
                ),
                key.start_mark.line + 1,
            )
            for key, value in node.value
        ]
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, constructor, is_inner=is_inner) for item in node.value]
    text = None if node is None or is_inner else text_of(node)
    if node is None or text is not None:
        return text
    return constructor.construct_object(node)


def _pairs(value: Any) -> Any:
    """Values from Python with each mapping as a list of pairs."""
    if isinstance(value, Mapping):
        return [_Pair(str(key), _pairs(item)) for key, item in value.items()]
    return [_pairs(item) for item in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    """Values with mappings again."""
    if _is_mapping(value):
        return {pair.key: _plain(pair.value) for pair in value}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _each(found: Any, where: str, kind: EntryKind) -> list[list[_Pair]]:
    """The pairs of each entry."""
    is_one = _is_mapping(found) and {"name", kind.main} <= {pair.key for pair in found}
    items = [found] if is_one else found
    if _is_mapping(items):
        items = [[_Pair("name", p.key, p.line), _Pair(kind.main, p.value)] for p in items]
    if not isinstance(items, list) or not all(map(_is_mapping, items)):
        raise UserError(
            f"{where}: should be a list of {kind.option}, each with "
            f"{' and '.join(dict.fromkeys(('name', *kind.required, kind.main)))}, or a mapping of "
            f"names to {kind.main}s"
        )
    return items


def _is_mapping(found: Any) -> bool:
    return isinstance(found, list) and bool(found) and all(isinstance(p, _Pair) for p in found)


def _entry(pairs: list[_Pair], where: str, kind: EntryKind) -> Entry:
    line = pairs[0].line
    entry = Entry(
        values={pair.key: _plain(pair.value) for pair in pairs},
        where=f"{where}:{line}" if line else where,
    )
    with entry.checking():
        _check_keys([pair.key for pair in pairs], kind)
    return entry


def _check_keys(keys: Sequence[str], kind: EntryKind) -> None:
    for number, key in enumerate(keys):
        if key not in kind.keys:
            raise UserError(f"'{key}': {unknown(key, kind.keys, 'key')}")
        if key in keys[:number]:
            raise UserError(f"'{key}' is there twice; remove one")
    for key in kind.required:
        if key not in keys:
            raise UserError(f"a {kind.one} has no {key}; give it one")
