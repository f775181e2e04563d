"""A run's profile on a terminal of eighty columns."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from jobs.cli.profile_tables import COURSES, profile_text
from tests.pipeline.profiling.test_bounds import profile_of


def test_the_whole_course_is_shown() -> None:
    course = [*map(float, range(240)), 99_999.0]
    profile = replace(profile_of(), series=dict.fromkeys(COURSES.values(), course))
    console = Console(width=80, file=io.StringIO())
    console.print(profile_text(profile))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    assert shown.count("█ │") == len(COURSES)
