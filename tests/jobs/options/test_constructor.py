"""Constructors as users write them: each is options that a command, a file and a retry can give."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Optional

import pyarrow as pa
import pydantic
import pytest
from pydantic import Field

from jobs.options.constructor import RESERVED
from jobs.options.job import job_of
from jobs.sdk.assembly import configure
from pipeline import ColumnKind, Task, UserError


class Base:
    """What all tasks here have."""

    name = "task"
    columns: ClassVar = {"text": ColumnKind.TEXT}
    result_schema = pa.schema([("x", pa.string())])
    settings: Any = property(vars)

    def prepare(self, row: Any) -> Any: ...

    def result(self, state: Any, generations: Any) -> Any: ...


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    n: int = 1


class Opaque: ...


class Keeps(Base):
    """Keeps what its constructor is given."""

    def keep(self, given: Mapping[str, Any]) -> None:
        vars(self).update((name, value) for name, value in given.items() if name != "self")


class Nothing(Base): ...


class Unannotated(Keeps):
    def __init__(self, n=3, on=False, text="x", *, factor=0.5):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        self.keep(locals())


class Lists(Keeps):
    def __init__(
        self,
        names: list[str] = ["a"],  # noqa: B006
        numbers: tuple[int, ...] = (1, 2),
        some: list[str] | None = None,
        others: Optional[set[int]] = None,  # noqa: UP045
        plain: list = [],  # type: ignore[type-arg] # noqa: B006
        noted: Annotated[Sequence[float], Field(max_length=2)] = (),
    ) -> None:
        self.keep(locals())


class Mappings(Keeps):
    def __init__(
        self,
        rates: dict[str, float] | None = None,
        inner: Inner = Inner(),
        plain: dict = {},  # type: ignore[type-arg] # noqa: B006
    ) -> None:
        self.keep(locals())


class Kinds(Keeps):
    def __init__(
        self,
        colour: Colour = Colour.RED,
        path: Path | None = None,
        which: Literal["x", 1] = "x",
        number: int = None,  # type: ignore[assignment] # noqa: RUF013
        either: int | str = 3,
        on: bool = True,
        off: bool = False,
        maybe: bool | None = None,
    ) -> None:
        self.keep(locals())


@dataclass
class Fields(Base):
    labels: list[str] = field(default_factory=lambda: ["a"])
    start: dataclasses.InitVar[int] = 3
    end: int = field(init=False)

    def __post_init__(self, start: int) -> None:
        self.end = start + 1


class Pydantic(pydantic.BaseModel):
    n: int = 3
    tags: list[str] = pydantic.Field(default_factory=list)
    name: ClassVar[Any] = Base.name
    columns: ClassVar[Any] = Base.columns
    result_schema: ClassVar[Any] = Base.result_schema
    settings = property(pydantic.BaseModel.model_dump)
    prepare = Base.prepare
    result = Base.result


@pydantic.dataclasses.dataclass
class PydanticDataclass(Base):
    n: int = 3


class Made(Base):
    n: int

    def __new__(cls, n: int = 3) -> "Made":
        made = super().__new__(cls)
        made.n = n
        return made


class Protocolled(Task):
    name = Base.name
    columns: ClassVar = Base.columns
    result_schema = Base.result_schema
    settings: ClassVar = {}
    prepare = Base.prepare
    result = Base.result


def made(task: type[Any], **given: Any) -> Any:
    return vars(configure(job_of(task), {"model": "demo", **given}).task())


@pytest.mark.parametrize(
    ("task", "given", "attributes"),
    [
        (Nothing, {}, {}),
        (Unannotated, {"n": "5", "on": "yes", "factor": "1"}, {"n": 5, "on": True, "factor": 1.0}),
        (Unannotated, {}, {"n": 3, "on": False, "text": "x", "factor": 0.5}),
        (Lists, {}, {"names": ["a"], "numbers": (1, 2), "some": None}),
        (Lists, {"names": "b, c", "numbers": "3,4"}, {"names": ["b", "c"], "numbers": (3, 4)}),
        (Lists, {"some": "b,c", "others": "1,1"}, {"some": ["b", "c"], "others": {1}}),
        (Lists, {"plain": "b,c", "noted": "1,2"}, {"plain": ["b", "c"], "noted": [1.0, 2.0]}),
        (Lists, {"others": {1}, "some": None}, {"others": {1}, "some": None}),
        (Mappings, {"rates": "a=1", "inner": "n=2"}, {"rates": {"a": 1.0}, "inner": Inner(2)}),
        (Mappings, {"plain": '{"a": [1]}'}, {"plain": {"a": [1]}, "inner": Inner()}),
        (Kinds, {"colour": "blue", "path": "a"}, {"colour": Colour.BLUE, "path": Path("a")}),
        (Kinds, {"number": "4", "which": 1, "on": "no"}, {"number": 4, "which": 1, "on": False}),
        (Kinds, {"number": None, "either": "5"}, {"number": None, "either": "5"}),
        (Fields, {}, {"labels": ["a"], "end": 4}),
        (Fields, {"labels": "b", "start": 6}, {"labels": ["b"], "end": 7}),
        (Pydantic, {}, {"n": 3, "tags": []}),
        (Pydantic, {"n": "4", "tags": "a,b"}, {"n": 4, "tags": ["a", "b"]}),
        (PydanticDataclass, {"n": "4"}, {"n": 4}),
        (Made, {"n": "4"}, {"n": 4}),
        (Protocolled, {}, {}),
    ],
)
def test_a_constructor_is_given_what_it_expects(
    task: type[Any], given: Any, attributes: Any
) -> None:
    assert made(task, **given).items() >= attributes.items()


@pytest.mark.parametrize(
    ("task", "wrong", "fault"),
    [
        (Lists, {"numbers": "a"}, r"numbers\.0: input should be a valid integer"),
        (Lists, {"noted": "1,2,3"}, "noted: .* at most 2 items"),
        (Mappings, {"inner": "5"}, "inner: should be NAME=VALUE"),
        (Kinds, {"colour": "green"}, "colour: input should be 'red' or 'blue'"),
        (Kinds, {"which": "y"}, "which: input should be 'x' or 1"),
    ],
)
def test_a_wrong_value_is_told(task: type[Any], wrong: Any, fault: str) -> None:
    with pytest.raises(UserError, match=f"^{fault}"):
        made(task, **wrong)


@dataclass
class Prompted(Base):
    prompt: str = "Answer: "
    suffix: str = ""
    other: str = None  # type: ignore[assignment]
    words: tuple[str, ...] = (" a ", "")


def test_a_task_is_made_again_of_what_it_recorded() -> None:
    job = job_of(Prompted)
    settings = json.loads(json.dumps(vars(Prompted())))
    assert job.restore(**settings, beyond=3) == Prompted()
    assert job.restore(prompt="\n") == Prompted(prompt="\n")
    with pytest.raises(ValueError, match="prompt"):
        job.restore(prompt=3)


@pytest.mark.parametrize(
    "name",
    [*RESERVED, "_x", "schema", "model_config", "model_dump", "dedup", "no_dedup"],
)
def test_a_parameter_needs_a_name_that_is_not_taken(name: str) -> None:
    names: dict[str, Any] = {"Base": Base}
    exec(f"class Taken(Base):\n  def __init__(self, {name}: str = ''): ...", names)
    with pytest.raises(UserError, match=rf"^Taken: its parameter '{name}' .*; rename it$"):
        job_of(names["Taken"])


def test_a_parameter_needs_a_type_that_can_be_read() -> None:
    class Typed(Base):
        def __init__(self, thing: Opaque) -> None: ...

    class Checked(Base):
        def __init__(self, thing: "list[NoSuch]") -> None: ...  # type: ignore[name-defined] # noqa: F821

    class Placed(Base):
        def __init__(self, thing: int, /) -> None: ...

    with pytest.raises(UserError, match=r"'thing' is a .*Opaque, which cannot be an option"):
        job_of(Typed)
    with pytest.raises(UserError, match=r"'thing' cannot be read: .*'NoSuch' .*TYPE_CHECKING"):
        job_of(Checked)
    with pytest.raises(UserError, match="'thing' stands before '/'"):
        job_of(Placed)


def test_an_inherited_annotation_means_what_its_own_module_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    (tmp_path / "constructor_below.py").write_text(
        f"{begin}from collections.abc import Sequence\n"
        f"from {__name__} import Base\n\n@dataclass\nclass Below(Base):\n"
        "    a: Sequence[int] = ()\n"
    )
    (tmp_path / "constructor_above.py").write_text(
        f"{begin}from constructor_below import Below\n\n@dataclass\nclass Above(Below):\n"
        "    b: int = 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from constructor_above import Above  # type: ignore[import-not-found]

    assert made(Above, a="1,2", b="4") == {"a": [1, 2], "b": 4}


def test_docstrings_describe_parameters() -> None:
    class Described(Base):
        """Say what it is.

        Attributes:
            a: The first,
                in two lines.
        """

        def __init__(self, a: int = 1, b: int = 2, c: int = 3) -> None:
            """Make it.

            Args:
                b (int): The second: of three.
            """

    job = job_of(Described)
    fields = job.options.model_fields
    assert job.help == "Say what it is."
    assert fields["a"].description == "The first, in two lines."
    assert fields["b"].description == "The second: of three."
    assert fields["c"].description is None
    assert job_of(Prompted).help == ""  # not the signature, which a dataclass writes itself
