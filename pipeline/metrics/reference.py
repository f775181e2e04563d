"""The table of metrics in the documentation: `python -m pipeline.metrics.reference`.

It stands in `docs/metrics.md`, between two comments; `make reference` writes it anew. A test fails
if it is out of date.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.metrics.table import TABLE, Kind

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
BEGIN = "<!-- Written by `make reference` from pipeline/metrics/table.py; do not edit. -->\n"
END = "<!-- end -->\n"


def as_markdown() -> str:
    """A line for each metric, with the name under which Prometheus finds it."""
    lines = ["| metric | kind | unit | labels | what it tells |", "| --- | --- | --- | --- | --- |"]
    for metric in TABLE:
        names = f"`{metric.exported}`"
        if metric.kind is Kind.HISTOGRAM:
            names += " (`_bucket`, `_sum`, `_count`)"
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(
            f"| {names} | {metric.kind} | {metric.unit} | {labels} | {metric.description} |"
        )
    return "\n".join(lines) + "\n"


def updated(page: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{as_markdown()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
