"""The parameters of a class's constructor as options: names, types, defaults and descriptions.

Decides which names and types an option can have. A list, set or mapping may be given as text. An
option that is not given is left to the constructor's own default, which is not checked.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Optional, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter
from pydantic.errors import PydanticUserError

from jobs.options.common import JobOptions
from jobs.options.values import listed, mapped
from pipeline.contract.errors import UserError, one_line

RESERVED = ("job", "task", "input", "output", "engine", "console", "debug", "log_format", "help")
"""What a job file, a function or a command has beside the options."""
DOCUMENTED = re.compile(r"^ +(\w+)(?: \([^)]*\))?: (.+(?:\n {8,}.+)*)", re.MULTILINE)
"""A line of the `Args:` or `Attributes:` of a docstring in Google style."""
LISTS = (list, tuple, set, frozenset, Sequence, Collection, Iterable, AbstractSet)
MAPPINGS = (dict, Mapping, MutableMapping)
UNIONS = (Union, types.UnionType)


def constructor_options(made: type[Any]) -> dict[str, Any]:
    """The parameters of a constructor as pydantic's `create_model` takes fields.

    Args:
        made: The class. Its docstrings in Google style describe the parameters.

    Raises:
        UserError: A parameter has a name or a type that no option can have.
    """
    described = {
        name: " ".join(text.split())
        for docstring in _docstrings(made)
        for name, text in DOCUMENTED.findall(inspect.cleandoc(docstring))
    }
    own: dict[str, Any] = {}
    for name, parameter in _parameters(made).items():
        check_name(name, f"{made.__name__}: its parameter")
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError(f"{made.__name__}: '*{name}' cannot be an option; name each parameter")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise UserError(
                f"{made.__name__}: its parameter '{name}' stands before '/', so it cannot be given "
                "by its name; remove the '/'"
            )
        facts: dict[str, Any] = _default(made, parameter)
        if name in described:
            facts["description"] = described[name]
        own[name] = (_type(made, parameter), Field(**facts))
    return own


def check_name(name: str, what: str) -> None:
    """Check that a job's own option may have this name.

    Args:
        name: The name.
        what: What has it, for the message.

    Raises:
        UserError: Every job has it, as an option or otherwise, or pydantic takes no such name.
    """
    if name.removeprefix("no_") in JobOptions.model_fields:
        raise UserError(f"{what} '{name}' has the name of an option of every job; rename it")
    if name in RESERVED or name.startswith("_") or hasattr(BaseModel, name):
        raise UserError(f"{what} '{name}' has a name that an option cannot have; rename it")


def _parameters(made: type[Any]) -> Mapping[str, inspect.Parameter]:
    """None where the class has no constructor but that of a protocol it inherits from."""
    if getattr(_owner(made), "_is_protocol", False):
        return {}
    return inspect.signature(made).parameters


def _owner(made: type[Any]) -> type[Any]:
    """The class that defines the constructor."""
    return next(base for base in made.__mro__ if {"__init__", "__new__"} & vars(base).keys())


def _docstrings(made: type[Any]) -> Iterable[str]:
    """Those of the class, its bases and their constructors; what comes later is more specific."""
    for base in reversed(made.__mro__[:-1]):
        yield from filter(None, (base.__doc__, getattr(vars(base).get("__init__"), "__doc__", "")))


def _default(made: type[Any], parameter: inspect.Parameter) -> dict[str, Any]:
    """What `--help` shows. An option that is not given is not passed to the constructor."""
    if parameter.default is parameter.empty:
        return {}
    if dataclasses.is_dataclass(made):
        factories = {field.name: field.default_factory for field in dataclasses.fields(made)}
        factory = factories.get(parameter.name, dataclasses.MISSING)
        if factory is not dataclasses.MISSING:
            return {"default_factory": factory}
    if repr(parameter.default) == "<factory>":  # pydantic's, in a signature
        return {"default": None}
    return {"default": parameter.default}


def _type(made: type[Any], parameter: inspect.Parameter) -> Any:
    """The type of an option. Raises UserError where pydantic cannot check it."""
    kind, default = _annotation(made, parameter), parameter.default
    if default is None:
        kind = Optional[kind]  # noqa: UP045  `kind` need not know `|`
    bases = {*_bases(kind)}
    if bases and bases <= {*LISTS}:
        kind = Annotated[kind, BeforeValidator(_listed)]
    elif bases and all(base in MAPPINGS or _has_fields(base) for base in bases):
        kind = Annotated[kind, BeforeValidator(mapped)]
    try:
        TypeAdapter(kind)
    except (PydanticUserError, NameError, TypeError) as error:
        shown = inspect.formatannotation(parameter.annotation)
        raise UserError(
            f"{made.__name__}: its parameter '{parameter.name}' is a {shown}, which cannot be an "
            "option; make it of texts, numbers, lists, mappings or dataclasses"
        ) from error
    return kind


def _annotation(made: type[Any], parameter: inspect.Parameter) -> Any:
    """The annotation, which may be text; without one the type of a simple default."""
    name, kind = parameter.name, parameter.annotation
    if kind is parameter.empty:
        simple = type(parameter.default)
        return simple if simple in (bool, int, float, str) else Any
    # An inherited annotation is resolved in the module of the class that declares it.
    owner = next((c for c in made.__mro__ if _annotations(c).get(name) == kind), _owner(made))
    names = getattr(sys.modules.get(owner.__module__), "__dict__", {})
    holder: Any = types.SimpleNamespace(__annotations__={name: kind})
    try:
        found = typing.get_type_hints(holder, globalns=dict(names), include_extras=True)[name]
    except Exception as error:  # whatever the annotation of somebody's parameter raises
        raise UserError(
            f"{made.__name__}: the type of its parameter '{name}' cannot be read: "
            f"{one_line(error)}; what is imported under `if TYPE_CHECKING` is not there"
        ) from error
    return found.type if isinstance(found, dataclasses.InitVar) else found


def _annotations(one: type[Any]) -> Mapping[str, Any]:
    annotations: Mapping[str, Any] = vars(one).get("__annotations__", {})
    return annotations


def _bases(kind: Any) -> Iterable[Any]:
    """`list` of `Annotated[list[str], ...] | None`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _bases(arguments[0])
    elif origin in UNIONS:
        for one in arguments:
            yield from () if one is types.NoneType else _bases(one)
    else:
        yield origin or kind


def _has_fields(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or (inspect.isclass(kind) and issubclass(kind, BaseModel))


def _listed(value: object) -> object:
    return listed(value) if isinstance(value, str) else value
