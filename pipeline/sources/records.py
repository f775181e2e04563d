"""Decides where the records of a CSV file begin and end, and what fields they have (RFC 4180).

Fields are parsed by Python's `csv`, strictly: after the quote that closes a field comes a delimiter
or the record's end, and quotes inside are doubled. A record that breaks this has no fields, and the
next begins in the next line. Lines end in LF, CR LF or CR. Blank lines are no records.

The `csv` module tells no bytes, so the lines that it takes for a record are counted.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 64 * 2**20
"""Bytes of the longest record; of a quote that is never closed no more is held in memory."""
BOM = b"\xef\xbb\xbf"
ENDINGS = b"\r\n"
DELIMITERS = ",;\t|"
"""Of these the one that is most often in a header separates its fields; the first, if none is."""


class RecordError(ValueError):
    """A file that cannot be divided into records; the message names the line."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file.

    Attributes:
        offset: The byte at which it begins.
        line: The line in which it begins, from 1, counted from where reading began.
        fields: Its fields, in which bytes that are not UTF-8 are lone surrogates; None where it
            cannot be parsed.
        fault: Why it cannot; empty where it can.
    """

    offset: int
    line: int
    fields: list[str] | None
    fault: str = ""


def records(file: BinaryIO, delimiter: str, offset: int = 0) -> Iterator[Record]:
    """The records of a file from here on.

    Args:
        file: Where the next byte is the first one of a record.
        delimiter: What separates fields.
        offset: That byte's place in the file.

    Raises:
        RecordError: A quote is never closed, or a record is longer than `LONGEST`.
        OSError: The file cannot be read.
    """
    csv.field_size_limit(LONGEST)  # of the whole process, like the limit of 128 KiB that it is else
    lines = _Lines(file, offset)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        begin, line = lines.begin_record()
        fields: list[str] | None = None
        fault = ""
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if lines.has_ended:
                raise RecordError(f"line {line}: a quote is opened and never closed") from None
            fault = f"its quotes do not match ({error})"
        if fields != []:
            yield Record(begin, line, fields, fault)


def delimiter_of(header: bytes) -> str:
    """What separates the fields of a file that begins with this line."""
    text = header.decode(errors="replace")
    counts = {each: text.count(each) for each in DELIMITERS}
    return max(counts, key=lambda each: counts[each])


class _Lines:
    """The lines of a file as text, for `csv.reader`.

    Attributes:
        has_ended: Whether the file's end was met.
    """

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self.has_ended = False
        self._file = file
        self._pieces: Iterator[bytes] = iter(())
        self._offset = self._begin = offset
        self._line = 0

    def begin_record(self) -> tuple[int, int]:
        """The byte and the line at which the next record begins."""
        self._begin = self._offset
        return self._offset, self._line + 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        piece = next(self._pieces, None) or self._read()
        is_first = self._offset == 0
        self._offset += len(piece)
        self._line += 1
        if self._offset - self._begin > LONGEST:
            raise RecordError(
                f"line {self._line}: the record is longer than {LONGEST:,} bytes; is a quote "
                "never closed?"
            )
        text = piece.removeprefix(BOM) if is_first else piece
        return text.decode(errors="surrogateescape")

    def _read(self) -> bytes:
        """The next line; further ones that end in CR alone are kept. Raises StopIteration."""
        line = self._file.readline(LONGEST + 1)
        if not line:
            self.has_ended = True
            raise StopIteration
        if b"\r" not in line.rstrip(ENDINGS):
            return line
        self._pieces = iter(line.splitlines(keepends=True))
        return next(self._pieces)
