"""Decides which members of a tar shard are one sample, and which rows a sample is.

As in the webdataset library, a member's key is its path up to the first dot of its base name, the
rest is its suffix, and the members of one key are a sample. Its rows:

    members                                  rows: __key__ and members
    a.jpg  a.txt                             a: jpg, txt
    a.1.jpg  a.1.txt  a.2.jpg  a.json        a.1: image, txt, json;  a.2: image, json
    a.input.jpg  a.target.jpg                a.input;  a.target
    a.jpg  a.2.jpg  a.txt                    a: image, txt;  a.2: image, txt
    a.jpg  a.seg.png                         a: image, seg.png
    a.jpg  a.png                             a.jpg;  a.png
    a.txt  a.en.txt                          a: txt, en.txt

So there is a row for each image, except that a named image beside a plain one (`seg.png`) is a
column. What precedes the last dot of a suffix is its prefix. A row has the members of its own
prefix under what follows that, and those that belong to no other image under their whole suffix.

The rows of `earlier_row` are those of a plan of an earlier version.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from pipeline.contract.image_formats import IMAGE_SUFFIXES, SUFFIXES_BY_FORMAT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Member = TypeVar("Member")
"""What a member is found by, in its shard."""

IMAGE = "image"
EARLIER_IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", IMAGE)
LATER_SUFFIXES = SUFFIXES_BY_FORMAT["JXL"]
"""Of formats that were not read when the rows of samples were last decided: members with these are
columns of that name, so that plans of before keep their rows."""


@dataclass(frozen=True, slots=True)
class SampleRow(Generic[Member]):
    """A row of a sample.

    Attributes:
        key: Its `__key__`.
        members: What its columns are read from, by column.
    """

    key: str
    members: Mapping[str, Member]


@dataclass(slots=True)
class Sample(Generic[Member]):
    """Members of one key.

    Attributes:
        key: The key.
        offset: The byte at which the first one's header begins.
        members: By suffix, in their order.
    """

    key: str
    offset: int
    members: dict[str, Member] = field(default_factory=dict)

    def rows(self) -> list[SampleRow[Member]]:
        """Its rows, in the order of their images."""
        images = self._images()
        if not images:
            return [SampleRow(self.key, self.members)]
        of_prefix = Counter(_prefix(suffix) for suffix in images)
        return [
            SampleRow(self._key(image, of_prefix), self._columns(image, of_prefix))
            for image in images
        ]

    def earlier_row(self) -> SampleRow[Member]:
        """The one row that it was before a sample could be several."""
        image = next((suffix for suffix in self.members if suffix in EARLIER_IMAGES), None)
        added = {} if image is None else {IMAGE: self.members[image]}
        return SampleRow(self.key, self.members | added)

    def _images(self) -> list[str]:
        """The suffixes of the images that are rows."""
        images = [suffix for suffix in self.members if is_image(suffix)]
        if any(not _prefix(suffix) for suffix in images):
            images = [suffix for suffix in images if not _is_name(_prefix(suffix))]
        return images

    def _key(self, image: str, of_prefix: Mapping[str, int]) -> str:
        prefix = _prefix(image)
        part = prefix if of_prefix[prefix] == 1 else image
        return f"{self.key}.{part}" if part else self.key

    def _columns(self, image: str, of_prefix: Mapping[str, int]) -> dict[str, Member]:
        own = _prefix(image)
        columns: dict[str, Member] = {}
        for suffix, member in self.members.items():
            prefix = _prefix(suffix)
            if is_image(suffix) and prefix in of_prefix:
                continue
            if prefix == own:
                columns[_extension(suffix)] = member
            elif not prefix or prefix not in of_prefix:
                columns.setdefault(suffix, member)
        return columns | {IMAGE: self.members[image]}


def samples_in_order(
    members: Iterable[tuple[str, str, int, Member]],
) -> Iterator[Sample[Member]]:
    """The samples whose members are adjacent; a suffix that occurs again begins a new one.

    Args:
        members: Key, suffix, byte and member of each, in their order.
    """
    sample: Sample[Member] | None = None
    for key, suffix, offset, member in members:
        if sample is None or sample.key != key or suffix in sample.members:
            if sample is not None:
                yield sample
            sample = Sample(key, offset)
        sample.members[suffix] = member
    if sample is not None:
        yield sample


def samples_by_key(members: Iterable[tuple[str, str, int, Member]]) -> list[Sample[Member]]:
    """The samples of a whole shard, wherever in it their members lie, by their first ones' place.

    A suffix that occurs again begins a new sample of that key.
    """
    samples: list[Sample[Member]] = []
    latest: dict[str, Sample[Member]] = {}
    for key, suffix, offset, member in members:
        sample = latest.get(key)
        if sample is None or suffix in sample.members:
            sample = latest[key] = Sample(key, offset)
            samples.append(sample)
        sample.members[suffix] = member
    return samples


def key_and_suffix(name: str) -> tuple[str, str]:
    """A member's key and suffix; both empty where its name is not that of a sample's member."""
    # A name that is not UTF-8 has lone surrogates here, which Arrow does not take.
    text = name.encode(errors="surrogateescape").decode(errors="replace").removeprefix("./")
    folder, slash, base = text.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return (f"{folder}{slash}{stem}", suffix.lower()) if stem and dot else ("", "")


def is_image(suffix: str) -> bool:
    """Whether a member with this suffix is an image."""
    extension = _extension(suffix)
    is_known = f".{extension}" in IMAGE_SUFFIXES and f".{extension}" not in LATER_SUFFIXES
    return suffix == IMAGE or is_known


def _prefix(suffix: str) -> str:
    return suffix.rpartition(".")[0]


def _extension(suffix: str) -> str:
    return suffix.rpartition(".")[2]


def _is_name(prefix: str) -> bool:
    """Whether it names a column (`seg`) rather than counting images (`2`, `0.1`)."""
    return bool(prefix) and not prefix.replace(".", "").isdecimal()
