"""Finds the images of an OUTPUT's rows again, for people who look at the results.

They are read from INPUT, as the run read them, and where INPUT is gone or has changed from the part
itself, if that kept them. A link (`https://`) is not followed: looking at results asks no servers
of others. Rows are named by their unit and position.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.contract.errors import RowError, one_line
from pipeline.contract.record import Outcome
from pipeline.contract.redaction import redact
from pipeline.images import ImageLimits, load_video
from pipeline.images.decode import decode_image
from pipeline.images.fetch import fetch_image
from pipeline.output.parts import part_schema, read_part
from pipeline.output.run_record import input_of
from pipeline.sources import ROW_A_FILE, HubChoice, Kind, known_input, open_source, read_taken
from pipeline.sources.columns import is_binary, is_image_struct
from pipeline.storage.location import Location

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.output.plan import Plan
    from pipeline.output.run_record import Record
    from pipeline.sources import Source
    from pipeline.sources.units import Unit
    from pipeline.storage.location import StorageOptions

MOST_KEPT = 2**30
"""Bytes of the largest part that is read for the images that it kept: it is read whole."""
LINKS = ("http://", "https://")
NAMES = ("video_column", "image_column")
"""Settings of tasks that name the column with the pictures."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A row's picture, not decoded yet, or why there is none.

    Attributes:
        unit: Index of the row's unit.
        position: Its position in the unit.
        value: What the cell holds (see `images.fetch_image`); of several images the first.
        root: The folder that relative paths start from.
        size: Bytes that its file had when it was planned; None where it has no file of its own.
        fault: Why it is not there; empty if it is.
    """

    unit: int
    position: int
    value: object = None
    root: Location | None = None
    size: int | None = None
    fault: str = ""


class Pictures:
    """The pictures of an OUTPUT's rows.

    Args:
        record: The run's record.
        plan: Its plan.
        options: Arguments of fsspec's filesystems, by protocol.
    """

    def __init__(self, record: Record, plan: Plan, options: StorageOptions | None = None) -> None:
        self._record = record
        self._plan = plan
        self._options = options or {}
        self.column = picture_column(record, plan.schema)
        """The column of INPUT that holds them; None where the task has no pictures."""
        self._source: Source | None = None

    @property
    def are_inside(self) -> bool:
        """Whether they lie in files with other rows, which are read from their start for one."""
        type_ = self._plan.schema.field(self.column).type if self.column else pa.null()
        return is_binary(type_) or is_image_struct(type_)

    def of(self, unit: Unit, positions: Collection[int]) -> Iterator[Picture]:
        """Yield the pictures of some rows of a unit, in order, one for each; some with a `fault`.

        Nothing is raised for what cannot be read: it becomes the fault of these pictures.
        """
        wanted, fault = sorted(positions), "the task has no images"
        for read in (self._in_input, self._in_part) if self.column is not None else ():
            found: list[int] = []
            try:
                for picture in read(unit, wanted):
                    found.append(picture.position)
                    yield picture
            except Exception as error:  # the stores' clients have errors of many kinds
                fault = redact(error.message) if isinstance(error, RowError) else one_line(error)
            wanted = [position for position in wanted if position not in found]
            if not wanted:
                return
        for position in wanted:
            yield Picture(unit=unit.index, position=position, fault=fault)

    def load(self, picture: Picture, side: int) -> Image.Image:
        """Decode a picture to one of at most `side` pixels each way; of a video its middle.

        Raises:
            RowError: It cannot be had.
        """
        if picture.fault or picture.root is None:
            raise RowError(Outcome.MISSING_INPUT, "fetch", picture.fault)
        config = self._record["config"]
        limits = ImageLimits(
            max_bytes=config["max_image_bytes"],
            max_pixels=config["max_image_pixels"],
            storage_options=self._options,
        )
        if self._is_video:
            image = load_video(picture.value, picture.root, limits, most=1, fps=None)[0].image
        else:
            body = fetch_image(picture.value, picture.root, limits)
            if picture.size not in (None, len(body)):
                raise _changed(str(picture.value))
            image = decode_image(body, limits.max_pixels, about=side)
        image.thumbnail((side, side))
        return image

    @property
    def _is_video(self) -> bool:
        is_named = self.column in {*_named(self._record["settings"], "video_column")}
        return is_named or (self._source is not None and self._source.kind is Kind.VIDEOS)

    def _in_input(self, unit: Unit, positions: list[int]) -> Iterator[Picture]:
        """The pictures as INPUT has them. Raises OSError, UserError, RowError."""
        source = self._opened(unit)
        assert self.column is not None
        sizes = self._sizes(source, unit)
        at, wanted = 0, iter(positions)
        due = next(wanted, None)
        for table in read_taken(source, unit, [self.column]):
            while due is not None and due < at + table.num_rows:
                value = table[self.column][due - at].as_py()
                yield _picture(unit, due, value, source.root, sizes.get(value) if sizes else None)
                due = next(wanted, None)
            if due is None:
                return
            at += table.num_rows

    def _in_part(self, unit: Unit, positions: list[int]) -> Iterator[Picture]:
        """The pictures that the part kept. Raises OSError, UserError."""
        part = self._plan.output / unit.part
        names = {f.name for f in part_schema(part) if is_binary(f.type) or is_image_struct(f.type)}
        if self.column not in names or part.info().size > MOST_KEPT:
            return
        column = read_part(part, lambda field: field.name == self.column)[self.column]
        for position in positions:
            value = column[position].as_py()
            if value is not None and (not isinstance(value, dict) or value.get("bytes")):
                yield _picture(unit, position, value, part.parent)

    def _opened(self, unit: Unit) -> Source:
        if self._source is None:
            config = self._record["config"]
            choice = HubChoice(
                config=config.get("config"), split=config.get("split"), commit=self._plan.commit
            )
            listing = known_input(input_of(self._record), unit.files[0], self._options, choice)
            self._source = open_source(
                listing,
                unit_rows=config["unit_rows"],
                keep_images=True,
                schema=self._plan.schema,
            )
        return self._source

    def _sizes(self, source: Source, unit: Unit) -> Mapping[object, int]:
        """The planned sizes of files that are rows themselves; any others are compared here.

        Raises:
            RowError: One is not as it was planned.
            OSError: One is gone.
        """
        files = self._plan.entry(unit.index)["files"]
        if source.kind in ROW_A_FILE:
            return {file["path"]: file["size"] for file in files}
        for file in files:
            if (source.root / file["path"]).info().size != file["size"]:
                raise _changed(file["path"])
        return {}


def picture_column(record: Record, schema: pa.Schema) -> str | None:
    """The column of INPUT that holds the pictures a run was about; None if there is none.

    Args:
        record: The run's record.
        schema: The columns of INPUT.
    """
    for setting in NAMES:
        for name in _named(record["settings"], setting):
            if name in schema.names:
                return name
    if any(record["settings"].get(name) for name in ("text_column", "text_columns")):
        return None
    binary = [f.name for f in schema if is_binary(f.type) or is_image_struct(f.type)]
    return str(binary[0]) if binary else None


def _named(settings: object, name: str) -> Iterator[str]:
    """The values of a setting, wherever in the settings it is: questions have their own."""
    if isinstance(settings, Mapping):
        if isinstance(settings.get(name), str):
            yield settings[name]
        settings = list(settings.values())
    if isinstance(settings, list):
        for value in settings:
            yield from _named(value, name)


def _changed(path: str) -> RowError:
    return RowError(Outcome.MISSING_INPUT, "fetch", f"{path} has changed since the run")


def _picture(
    unit: Unit, position: int, value: Any, root: Location, size: int | None = None
) -> Picture:
    if isinstance(value, list):
        value = value[0] if value else None
    named = value.get("path") if isinstance(value, dict) and not value.get("bytes") else value
    fault = ""
    if named is None:
        fault = "the image is null"
    elif isinstance(named, str) and named.lower().startswith(LINKS):
        fault = "it lies behind a link, which is not followed here"
    return Picture(
        unit=unit.index, position=position, value=value, root=root, size=size, fault=fault
    )
