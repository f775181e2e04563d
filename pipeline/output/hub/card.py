"""The dataset card of an OUTPUT: what made it, with which model and prompt, and what came of it.

It says nothing of the machine that made it: no paths, no stores.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.contract.record import ADDED
from pipeline.output.parts import PREFIX, part_index
from pipeline.output.run_record import prefix_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.output.counts import Totals
    from pipeline.output.run_record import Record

MARK = "<!-- Written by gemma3-batch, which writes it again; take this line out to keep yours. -->"
LONGEST = 2000
"""Characters of a setting that are shown; the record has all of it."""
DATA = "data"
"""Folder of the parts."""
FOLDER_PARTS = 10_000
"""Most files that the Hub takes in a folder."""
RECORD = "gemma3_batch.json"
"""What the repository says of the run, for programs."""
TASKS = {"caption": "image-to-text", "translate": "translation"}
"""The Hub's names of what the jobs do."""
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
MORE_SIZES = ((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))
OF_RECORD = ("id", "task", "task_class", "settings", "backend", "columns", "versions")
CARD = """\
---
{header}---
{mark}

# {name}

{rows} with answers of {model}, made with gemma3-batch (`{task}`).{unfinished}

| outcome | rows |
| --- | --- |
{outcomes}

A row whose outcome is none of `ok`, `truncated` and `kept` (the input's own) has no answer; its
`{prefix}error` says why.

## How it was made

| | |
| --- | --- |
{made}

{settings}

## Columns

The input's own, and

| column | type |
| --- | --- |
{columns}

{every} are those of every run.

## Licence

The answers are a model's: they may be wrong. Gemma's terms (https://ai.google.dev/gemma/terms) hold
for what is made with Gemma, and the input's own licence for its columns. Add a `license:` above
that suits both.
"""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is pushed.

    Attributes:
        record: The run's record.
        totals: What is in the parts.
        rows: Rows of the whole run, more than in the parts if it is not finished.
        parts: Names of the parts, at least one.
    """

    record: Record
    totals: Totals
    rows: int
    parts: Sequence[str]


def path_of(part: str) -> str:
    """Where a part is in the repository, of which a folder takes `FOLDER_PARTS` files."""
    page = part_index(part) // FOLDER_PARTS
    return f"{DATA}/{page:04d}/{part}" if page else f"{DATA}/{part}"


def run_of(record: Record) -> dict[str, Any]:
    """What a repository says of the run: the record without places and without the machine."""
    model = record["model"]
    return {
        **{name: record[name] for name in OF_RECORD if name in record},
        "model": {"name": _model_name(record), **model},
        "started": record["started"],
        "finished": record.get("finished"),
    }


def card(contents: Contents, name: str) -> str:
    """The card, the same for the same contents.

    Args:
        contents: What is pushed.
        name: The dataset's.
    """
    record, totals = contents.record, contents.totals
    prefix = prefix_of(record)
    missing = contents.rows - totals.rows
    outcomes = sorted(totals.outcomes.items(), key=lambda item: (-item[1], item[0]))
    return CARD.format(
        header=yaml.safe_dump(_header(contents), sort_keys=False, allow_unicode=True),
        mark=MARK,
        name=name,
        rows=f"{totals.rows:,} rows",
        model=_model_name(record),
        task=record["task"],
        unfinished=f" The run is not finished: {missing:,} rows are missing." if missing else "",
        outcomes="\n".join(f"| `{outcome}` | {rows:,} |" for outcome, rows in outcomes),
        made="\n".join(f"| {what} | {_cell(value)} |" for what, value in _made(record)),
        settings=_settings(record["settings"]),
        columns="\n".join(
            f"| `{_cell(prefix + name)}` | {_cell(kind)} |"
            for name, kind in record["columns"].items()
        ),
        prefix=prefix,
        every=", ".join(f"`{prefix}{name}`" for name in ADDED.names),
    )


def _header(contents: Contents) -> dict[str, Any]:
    """What the Hub and `datasets` read."""
    suffix = os.path.splitext(contents.parts[0])[1]
    folders = sorted({os.path.dirname(path_of(part)) for part in contents.parts})
    paths = [f"{folder}/{PREFIX}*{suffix}" for folder in folders]
    files = [{"split": "train", "path": paths[0] if len(paths) == 1 else paths}]
    header: dict[str, Any] = {"configs": [{"config_name": "default", "data_files": files}]}
    task = TASKS.get(contents.record["task"])
    if task is not None:
        header["task_categories"] = [task]
    rows = contents.totals.rows
    sizes = (size for most, size in (*SIZES, *MORE_SIZES) if rows < most)
    header["size_categories"] = [next(sizes, "n>1B")]
    return {**header, "tags": ["gemma3-batch", "synthetic"]}


def _made(record: Record) -> list[tuple[str, object]]:
    """What made it, line by line."""
    model = record["model"]
    found = [
        ("model", _model_name(record)),
        ("architecture", model["architecture"]),
        ("identity of its weights", model["identity"]),
        ("revision", model.get("revision")),
        ("job", record["task"]),
        ("begun", record["started"]),
        ("finished", record.get("finished")),
        *record["versions"].items(),
    ]
    return [(what, value) for what, value in found if value]


def _model_name(record: Record) -> str:
    """A model's name on the Hub, or that of its folder without where it lies."""
    model: str = record["config"]["engine"]["model"]
    is_place = model.startswith(("/", ".", "~")) or "://" in model
    return model.rstrip("/").rpartition("/")[2] if is_place else model


def _settings(settings: Mapping[str, Any]) -> str:
    """The job's settings as JSON that a person reads; long ones are cut."""
    shown = {name: _shortened(value) for name, value in settings.items() if value is not None}
    text = json.dumps(shown, indent=2, ensure_ascii=False, sort_keys=True)
    return f"```json\n{text.replace('```', '` ` `')}\n```\n\n`{RECORD}` has all of them."


def _shortened(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _cell(value: object) -> str:
    """A value inside a table of Markdown."""
    return " ".join(str(value).replace("|", "\\|").split())
