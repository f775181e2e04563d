"""Makes the pages from their templates, and keeps what is in them from being executed.

Jinja escapes every value. The page's content security policy lets no address be loaded, and of
styles and scripts only those with the hashes of the page's own; so a `<script>` in the data would
not run even if it came through as markup.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from typing import Any

import jinja2
from markupsafe import Markup

TEMPLATES = "templates"


def render(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: The file's name, without `.html.jinja`.
        values: What it shows.
    """
    style, script = _text("style.css"), _text(f"{template}.js")
    return (
        _environment()
        .get_template(f"{template}.html.jinja")
        .render(
            **values,
            style=Markup(style),  # noqa: S704  the package's own
            script=Markup(script),  # noqa: S704
            policy=policy_of(style, script),
        )
    )


def policy_of(style: str, script: str) -> str:
    """The content security policy of a page with this style and this script."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jobs.report", TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "time": duration,
        "moment": moment,
    }
    return environment


def _text(name: str) -> str:
    file = importlib.resources.files("jobs.report").joinpath(TEMPLATES, name)
    return file.read_text(encoding="utf-8")


def number(value: float) -> str:
    """A number for people: with commas, and digits after the point for small ones alone."""
    if float(value).is_integer() or abs(value) >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:,.3g}"


def percent(share: float) -> str:
    """A share as a percentage; one that is not 0 or 1 is never shown as if it were."""
    if 0 < share < 0.001:  # noqa: PLR2004
        return "< 0.1 %"
    if 0.999 < share < 1:  # noqa: PLR2004
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """A time for people: `3 h 12 min`, `4 min 10 s`, `8.2 s`."""
    whole = round(seconds)
    if whole >= 3600:  # noqa: PLR2004
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    if whole >= 60:  # noqa: PLR2004
        return f"{whole // 60} min {whole % 60} s"
    return f"{seconds:.1f} s"


def moment(text: str) -> str:
    """A time as a run's record has it, for people: `2026-11-30 05:28 UTC`."""
    return text[:16].replace("T", " ") + (" UTC" if text.endswith("+00:00") else text[19:])
