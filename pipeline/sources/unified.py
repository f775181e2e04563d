"""Decides the one schema of an input whose files differ, and what a later file may change of it.

Every file's columns are in it, in the order in which they first occur, each of a type that holds
the values of all files (`common_type`); a column that a file lacks can be null. Parts are written
with this schema, whichever file their rows are from.

A file that comes later, when there may be parts, can add columns: new parts have them, and readers
find them null in the old ones. It can have other types where the values fit the planned one, or
where readers still open the old and the new parts as one dataset (`common_type.reads_as`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.contract.errors import UserError
from pipeline.sources.common_type import (
    NoCommonTypeError,
    Scalar,
    arrow_scalar,
    common_type,
    have_same_values,
    reads_as,
    stored_type,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

PLANNED = "the files planned before"


@dataclass(frozen=True, kw_only=True)
class TypeRules:
    """What a format decides about the types of its columns.

    Attributes:
        scalar: Unites two types that are not both lists or both structs.
        stored: The type that a united one has in parts; None if parquet has none.
    """

    scalar: Scalar
    stored: Callable[[pa.DataType], pa.DataType | None]

    def common(self, one: pa.DataType, other: pa.DataType) -> pa.DataType:
        """The type that holds the values of both. Raises NoCommonTypeError."""
        return common_type(one, other, self.scalar)


ARROW = TypeRules(scalar=arrow_scalar, stored=stored_type)

_Fields = tuple[str, "Mapping[str, pa.Field]"]
"""A file, and its columns."""


def unified(
    found: Iterable[tuple[str, pa.Schema]],
    *,
    planned: pa.Schema | None = None,
    rules: TypeRules = ARROW,
) -> pa.Schema | None:
    """The schema of an input.

    Args:
        found: Each file, and its columns. Files without rows are left out.
        planned: The schema as an earlier plan recorded it; None where there is none.
        rules: Those of the format.

    Returns:
        The schema with the metadata of the plan, else of the first file. `planned` if there are no
        files.

    Raises:
        UserError: A column's types have none in common; it names the column, two files and both
            types. Or new parts could not be read beside those there are.
    """
    files, metadata = _distinct(found)
    if not files:
        return planned
    known = [] if planned is None else [_extended(field, files, rules) for field in planned]
    taken = {field.name for field in known}
    names = dict.fromkeys(name for _, fields in files for name in fields if name not in taken)
    added = [_stored(_common_field(name, files, rules), rules) for name in names]
    if planned is None:
        return pa.schema([*filter(None, added)], metadata=metadata)
    added = [field and field.with_nullable(True) for field in added]
    return pa.schema([*known, *filter(None, added)], metadata=planned.metadata)


def _distinct(
    found: Iterable[tuple[str, pa.Schema]],
) -> tuple[list[_Fields], Mapping[bytes, bytes] | None]:
    """The first file of each schema, and the metadata of the first of all.

    Raises:
        UserError: A file has two columns of one name.
    """
    distinct: dict[pa.Schema, str] = {}
    metadata, last = None, None
    for path, schema in found:
        twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"INPUT {path} has two columns '{twice}'; rename one of them")
        if last is None:
            metadata = schema.metadata
        if last is None or not schema.equals(last):
            distinct.setdefault(schema.remove_metadata(), path)
        last = schema
    columns = ({field.name: field for field in schema} for schema in distinct)
    return [*zip(distinct.values(), columns, strict=True)], metadata


def _common_field(name: str, files: Sequence[_Fields], rules: TypeRules) -> pa.Field:
    """A column of the files that have it."""
    having = [(path, fields[name]) for path, fields in files if name in fields]
    type_ = having[0][1].type
    for place, (path, field) in enumerate(having):
        try:
            type_ = rules.common(type_, field.type)
        except NoCommonTypeError as error:
            raise _refusal(name, having[:place], (path, field), error, rules) from None
    is_nullable = len(having) < len(files) or any(field.nullable for _, field in having)
    return having[0][1].with_type(type_).with_nullable(is_nullable)


def _refusal(
    name: str,
    earlier: Sequence[tuple[str, pa.Field]],
    late: tuple[str, pa.Field],
    error: NoCommonTypeError,
    rules: TypeRules,
) -> UserError:
    """Names the first file whose type does not go with that of the late one."""
    path, field = late
    for other, theirs in earlier:
        try:
            rules.common(theirs.type, field.type)
        except NoCommonTypeError as found:
            return _apart(name, other, path, found)
    return _apart(name, earlier[-1][0], path, error)


def _apart(name: str, one: str, other: str, error: NoCommonTypeError) -> UserError:
    return UserError(
        f"column '{name}{error.place}' is {error.one} in {one} and {error.other} in {other}; run "
        "them apart"
    )


def _stored(field: pa.Field, rules: TypeRules) -> pa.Field | None:
    type_ = rules.stored(field.type)
    return None if type_ is None else field.with_type(type_)


def _extended(planned: pa.Field, files: Sequence[_Fields], rules: TypeRules) -> pa.Field:
    """A planned column with what the files, which came later, have in it."""
    type_, is_nullable = planned.type, planned.nullable
    for path, fields in files:
        field = fields.get(planned.name)
        is_nullable = is_nullable or field is None or field.nullable
        if field is not None:
            type_ = _extended_type(planned.name, type_, field.type, path, rules)
    return planned.with_type(type_).with_nullable(is_nullable)


def _extended_type(
    name: str, known: pa.DataType, late: pa.DataType, path: str, rules: TypeRules
) -> pa.DataType:
    """The type of new parts: the known one if it holds the values."""
    try:
        common = rules.common(known, late)
    except NoCommonTypeError as error:
        raise _apart(name, PLANNED, path, error) from None
    stored = rules.stored(common) or common
    if have_same_values(common, known) or have_same_values(stored, known):
        return known
    if reads_as(known, stored):
        return stored
    shown = rules.stored(late) or late
    raise UserError(
        f"column '{name}' is {known} in {PLANNED} and {shown} in {path}; not all readers would "
        f"open parts of both as one dataset: write the file with {known}, or name a new OUTPUT"
    )
