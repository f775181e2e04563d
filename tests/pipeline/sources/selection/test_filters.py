"""A condition takes the rows that SQL would, and says at once what it cannot compare."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from pipeline import UserError
from pipeline.sources.selection import Filter

ROWS = pa.table(
    {
        "lang": pa.array(["en", "de", None, "fr", "en"]),
        "width": pa.array([100, 300, 500, None, 257], pa.int32()),
        "height": pa.array([200.5, 300, 1, 2, 3.0]),
        "price": pa.array([Decimal("1.50"), None, Decimal("2.00"), Decimal(0), Decimal(9)]),
        "safe": pa.array([True, False, None, True, True]),
        "tag": pa.array(["a%b", "ab", "a_c", "", "it's"]).dictionary_encode(),
        "big": pa.array(["x", "y", "z", "x", None], pa.large_string()),
        "day": pa.array([datetime.date(2024, 1, d) for d in (1, 2, 3, 4, 5)]),
        "at": pa.array(
            [datetime.datetime(2024, 1, d) for d in (1, 2, 3, 4, 5)], pa.timestamp("us", "UTC")
        ),
        "meta": pa.array([{"n": n, "of": {"x": str(n)}} for n in range(5)]),
        "raw": pa.array([b"x", None, b"", b"y", b"z"]),
        "en.txt": pa.array(["one", None, "three", "four", "five"]),
        "in": pa.array([1, 2, 3, 4, 5]),
        "clock": pa.array([datetime.time(12 + n, 30) for n in range(5)], pa.time32("s")),
    }
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ('lang = "en" and width > 256', [4]),
        ("lang == 'en'", [0, 4]),
        ("lang != 'en'", [1, 3]),  # null is neither
        ("not lang = 'en'", [1, 3]),
        ("lang is null", [2]),
        ("lang IS NOT NULL AND NOT width >= 300", [0, 4]),
        ("lang in ('en', 'fr')", [0, 3, 4]),
        ("lang not in ('en', 'fr')", [1]),
        ("lang = 'de' or lang = 'fr' and width is null", [1, 3]),
        ("(lang = 'de' or lang = 'fr') and width is null", [3]),
        ("256.5 < width", [1, 2, 4]),
        ("width = -1 or width = 5e2", [2]),
        ("width > height", [2, 4]),
        ("price >= 1.5", [0, 2, 4]),
        ("safe", [0, 3, 4]),
        ("not safe", [1]),
        ("safe = false", [1]),
        ("tag like 'a%'", [0, 1, 2]),
        ("tag not like 'a_'", [0, 2, 3, 4]),
        ("tag = 'it''s'", [4]),
        ('tag = "it\'s"', [4]),
        ("starts_with(tag, 'a%')", [0]),
        ("ends_with(big, 'x') or contains(big, 'y')", [0, 1, 3]),
        ("lang = big", []),
        ("day > '2024-01-03'", [3, 4]),
        ("at <= '2024-01-02'", [0, 1]),
        ("at <= '2024-01-01T12:00:00Z'", [0]),
        ("clock > '13:30'", [2, 3, 4]),
        ("clock <= '12:30:00.5' or clock = '16:30:00'", [0, 4]),
        ("meta.n >= 3", [3, 4]),
        ("meta.of.x = '2'", [2]),
        ("raw is null", [1]),
        ("en.txt like 'f%'", [3, 4]),
        ("`en.txt` is null or `in` = 1", [0, 1]),
    ],
)
def test_a_condition_takes_the_rows_that_sql_would(condition: str, rows: list[int]) -> None:
    found = Filter.of(condition, ROWS.schema)
    is_match = found.matches(ROWS.select(found.columns))
    assert [row for row, match in enumerate(is_match.to_pylist()) if match] == rows
    assert is_match.null_count == 0


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        ("langg = 'en'", "no column 'langg'; did you mean 'lang'"),
        ("lang = en", "no column 'en'.*a text needs quotes: 'en'"),
        ("meta.m = 1", r"no column 'meta\.m'"),
        ("width > 'wide'", "column 'width' is int32, and 'wide' is not; write 5, say"),
        ("lang > 5", "column 'lang' is string, and 5 is not; write 'text', say"),
        ("width", "column 'width' is int32, not true or false"),
        ("safe = 1", "column 'safe' is bool, and 1 is not; write true, say"),
        ("day > 'soon'", r"'day' is date32\[day\], and 'soon' is not; write '2024-01-31', say"),
        ("raw = 'x'", "column 'raw' is binary, and 'x' is not$"),
        ("raw = 1.50", "column 'raw' is binary, and 1.50 is not$"),
        (
            "clock < '1 pm'",
            r"column 'clock' is time64\[ns\], and '1 pm' is not; write '12:30:00', say",
        ),
        ("clock < '12:00+01:00'", "'clock' is .*write '12:30:00', say"),
        ("clock < day", r"columns 'clock' \(time64\[ns\]\) and 'day' .* cannot be compared"),
        ("width = lang", r"columns 'width' \(int32\) and 'lang' \(string\) cannot be compared"),
        ("width like '1%'", "column 'width' is int32, not text"),
        ("1 = 1", "compares two values and no column"),
        ("lang = ", "cannot be read at its end"),
        ("lang = 'en' && safe", r"cannot be read at \"&& safe\" \(character 13\)"),
        ("lang in ()", r"cannot be read at \"\)\" \(character 10\)"),
        ("lang = 'en", r"cannot be read at \"'en\" \(character 8\)"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(condition: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault) as raised:
        Filter.of(condition, ROWS.schema)
    assert str(raised.value).startswith("where: ")
    assert "\n" not in str(raised.value)


INTEGERS = pa.table(
    {
        "hash": pa.array([1, 2**63 + 5, 2**64 - 1, None], pa.uint64()),
        "id": pa.array([-1, 2**62 + 1, 5, 7], pa.int64()),
        "small": pa.array([1, -100, 100, None], pa.int8()),
        "share": pa.array([0.5, 1e18, 5, 8]),
    }
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("hash > 5", [1, 2]),
        ("hash != 1", [1, 2]),
        ("hash in (1, 18446744073709551615)", [0, 2]),
        ("hash not in (1, 2)", [1, 2]),
        ("hash = 9223372036854775813", [1]),
        ("hash > 9223372036854775813", [2]),
        ("hash < 18446744073709551616", [0, 1, 2]),
        ("hash > 18446744073709551614.5", [2]),
        ("small >= -128.5 and small != 1.5 and not small = 1.5", [0, 1, 2]),
        ("small = 1e2 or small < -1e999999999", [2]),
        ("hash > -1", [0, 1, 2]),
        ("hash > 1.5", [1, 2]),
        ("id > 1.5", [1, 2, 3]),
        ("id = 4611686018427387905", [1]),
        ("id = 4611686018427387904", []),
        ("id < 9223372036854775808", [0, 1, 2, 3]),
        ("id > -1e300", [0, 1, 2, 3]),
        ("small < 300", [0, 1, 2]),
        ("small = -100 or small = 1000", [1]),
        ("hash > id", [0, 1, 2]),
        ("id > share", [1]),
        ("small < id", [1]),
    ],
)
def test_integers_of_every_width_are_compared(condition: str, rows: list[int]) -> None:
    """Arrow alone would cast both sides to one type, and fail where a value does not fit."""
    found = Filter.of(condition, INTEGERS.schema)
    is_match = found.matches(INTEGERS.select(found.columns))
    assert [row for row, match in enumerate(is_match.to_pylist()) if match] == rows


def taken(condition: str, rows: pa.Table) -> list[int]:
    found = Filter.of(condition, rows.schema)
    is_match = found.matches(rows.select(found.columns))
    return [row for row, match in enumerate(is_match.to_pylist()) if match]


ID = 1234567890123456789
DECIMALS = pa.table(
    {
        "id": pa.array([Decimal(ID), Decimal(ID + 1), None], pa.decimal128(38, 0)),
        "same": pa.array([ID, ID, ID]),
        "price": pa.array([Decimal("1.10"), Decimal("-1.11"), None], pa.decimal128(5, 2)),
        "wide": pa.array([Decimal(ID), Decimal(ID), None], pa.decimal256(70, 10)),
        "deep": pa.array([Decimal("0.1"), None, None], pa.decimal256(76, 76)),
        "about": [1.1, 2.0, 3.0],
    }
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (f"id = {ID}", [0]),
        (f"id > {ID}.5", [1]),
        (f"id in ({ID}, {ID}.0)", [0]),
        ("id = same", [0]),
        ("same < id", [1]),
        ("id = wide", [0]),
        ("price = 1.10", [0]),
        ("price < -1.105", [1]),
        ("price != 1.105", [0, 1]),
        ("price < 1e6 and price > -1000", [0, 1]),
        ("price < about", [1]),
    ],
)
def test_decimals_are_compared_exactly(condition: str, rows: list[int]) -> None:
    """As doubles, neighbouring ids are the same."""
    assert taken(condition, DECIMALS) == rows


def test_decimals_of_too_many_digits_are_not_compared() -> None:
    with pytest.raises(UserError, match=r"'wide' .* and 'deep' .* cannot be compared"):
        taken("wide > deep", DECIMALS)


NOON = datetime.datetime(2024, 1, 1, 12)
TIMES = pa.table(
    {
        "day": [NOON.date()],
        "at": pa.array([NOON], pa.timestamp("ms")),
        "later": pa.array([NOON.replace(microsecond=5)], pa.timestamp("us", "Europe/Berlin")),
        "clock": pa.array([NOON.time()], pa.time32("s")),
        "fine": pa.array([NOON.replace(microsecond=5).time()], pa.time64("us")),
    }
)


@pytest.mark.parametrize(
    ("one", "other"), [("day", "at"), ("at", "later"), ("day", "later"), ("clock", "fine")]
)
def test_columns_of_times_are_compared_from_both_sides(one: str, other: str) -> None:
    """A date begins at midnight, what has no zone is in UTC, and the finer unit counts."""
    for condition in (f"{one} < {other}", f"{other} > {one}", f"{one} != {other}"):
        assert taken(condition, TIMES) == [0]
    for condition in (f"{one} >= {other}", f"{other} <= {one}", f"{other} = {one}"):
        assert taken(condition, TIMES) == []
