"""The command line: exit codes, and errors in one line after which nothing was written."""

from __future__ import annotations

import errno
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from jobs.cli import app as cli
from jobs.cli import running
from jobs.cli.console import print_plain
from jobs.cli.tables import export_errors, show_errors
from pipeline import ErrorRateError, RunError, RunResult, UserError, failed_rows
from pipeline.engine.model_files import BUNDLED
from pipeline.storage.location import locate
from tests.jobs.report.outputs import caption_task, drawing, make_output
from tests.stores import S3


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.table({"image": [b"x"], "title": ["t"], "n": [1]}), folder / "a.parquet")
    return folder


def other_model(tmp_path: Path) -> Path:
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    return folder


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def refused(*arguments: object) -> str:
    """Run a command that must exit with 2; returns the one line it wrote to stderr."""
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("gemma3-batch: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.strip().removeprefix("gemma3-batch: ")


def test_what_the_user_must_mend_is_said_in_one_line(dataset: Path, tmp_path: Path) -> None:
    out, demo = tmp_path / "out", ("--model", "demo")
    llama = other_model(tmp_path)
    before = files(tmp_path)
    caption = ("caption", dataset, out)
    message = refused("caption", tmp_path / "absent", out, *demo)
    assert message == f"INPUT {tmp_path}/absent does not exist"
    message = refused(*caption, *demo, "--image-column", "imgae")
    assert message == (
        "INPUT has no column 'imgae'; did you mean 'image'? its columns are image, title, n"
    )
    assert "column 'n' is int64" in refused(*caption, *demo, "--image-column", "n")
    assert "holds other files" in refused("caption", dataset, tmp_path, *demo)
    assert "lies in INPUT" in refused("caption", dataset, dataset / "out", *demo)
    assert "is not a folder here" in refused(*caption, "--model", tmp_path / "nowhere")
    assert "is LlamaForCausalLM, not a Gemma 3" in refused(*caption, "--model", llama)
    assert refused(*caption, *demo, "--max-tokens", 0).startswith("max_tokens: ")
    message = refused(*caption, *demo, "--max-num-seqs", 0)
    assert message == "max_num_seqs: input should be greater than 0 (got 0)"
    assert "'ftp:'" in refused("caption", "ftp://bucket/in", out, *demo)
    assert "cannot be written to" in refused("caption", dataset, "hf://datasets/a/b", *demo)
    assert refused(*caption, *demo, "--max-error-rate", 2).startswith("max_error_rate: ")
    assert "is not the OUTPUT of a run" in refused("status", tmp_path)
    assert "is not the OUTPUT of a run" in refused("errors", out)
    assert "is not the OUTPUT of a run" in refused("retry", out, "--outcome", "decode_error")
    assert files(tmp_path) == before


def model_without(folder: Path, *names: str, ends: object = 1) -> Path:
    """A copy of the bundled model without some files; by default a base model's configuration."""
    shutil.copytree(BUNDLED["demo"], folder, ignore=shutil.ignore_patterns(*names))
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | {"eos_token_id": ends}))
    return folder


def test_a_model_that_cannot_run_is_refused_before_anything_starts(
    dataset: Path, tmp_path: Path
) -> None:
    base = model_without(tmp_path / "base", "chat_template.jinja")
    deaf = model_without(tmp_path / "deaf", "tokenizer.*")
    blind = model_without(tmp_path / "blind", "preprocessor_config.json", "processor_config.json")
    cut = model_without(tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-1000])
    before = files(tmp_path)
    caption = ("caption", dataset, tmp_path / "out", "--model")
    told = refused(*caption, base)
    assert told.startswith(f"model {base} is a base model: it has no chat template")
    assert "give --prompt-format raw" in told
    for job in (("translate", "--to", "de", "--text-columns", "title"), ("moderate",)):
        name, *options = job
        told = refused(name, dataset, tmp_path / "out", "--model", base, *options)
        assert "is a base model" in told
    assert "has no tokenizer.json or tokenizer.model" in refused(*caption, deaf)
    assert "has no preprocessor_config.json or processor_config" in refused(*caption, blind)
    told = refused(*caption, cut)
    assert told == (
        f"model {cut}: model.safetensors has 9502160 bytes in the place of 9503160; download it "
        "again"
    )
    assert files(tmp_path) == before


def test_a_wrong_option_is_named_with_the_nearest(dataset: Path, tmp_path: Path) -> None:
    arguments = ["caption", str(dataset), str(tmp_path / "out"), "--model", "demo", "--promt", "x"]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 2
    assert "--prompt" in done.stderr


def test_a_demo_into_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    assert refused("demo", tmp_path) == (
        f"OUTPUT {tmp_path} is in use; name a new folder, or none for the default"
    )
    assert files(tmp_path) == {str(tmp_path / "mine")}


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("fix this"), 2, "gemma3-batch: fix this"),
        (
            RunError("it stopped"),
            1,
            "gemma3-batch: it stopped\nRun again with --debug to see more.",
        ),
        (KeyError("bug"), 1, "gemma3-batch: KeyError: 'bug'\nRun again with --debug to see more."),
        (ErrorRateError("too many"), 3, "gemma3-batch: too many"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/out/part"),
            2,
            "gemma3-batch: OSError: [Errno 28] No space left on device: '/out/part'; the disk is "
            "full; make room, or name another disk",
        ),
        (
            PermissionError("Forbidden"),
            2,
            "gemma3-batch: PermissionError: Forbidden; check its name, the endpoint and the "
            "permissions",
        ),
        (
            KeyboardInterrupt(),
            130,
            "gemma3-batch: interrupted; what is finished is kept",
        ),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(running, "run_job", fail)
    monkeypatch.setattr("jobs.cli.exit_codes.command_again", lambda: "gemma3-batch caption a b")
    done = CliRunner().invoke(cli.app, ["caption", "a", "b", "--model", "demo"])
    again = "\nGo on with: gemma3-batch caption a b" if code in (1, 130) else ""
    assert (done.exit_code, done.stderr.strip()) == (code, f"{told}{again}")
    json_log = ["caption", "a", "b", "--model", "demo", "--log-format", "json"]
    said = json.loads(CliRunner().invoke(cli.app, json_log).stderr)
    assert (said["event"], said["exit_code"], said["message"]) == (
        "error", code, f"{told}{again}".removeprefix("gemma3-batch: "),
    )  # fmt: skip
    assert said.get("go_on_with") == ("gemma3-batch caption a b" if again else None)
    done = CliRunner().invoke(cli.app, ["caption", "a", "b", "--model", "demo", "--debug"])
    assert done.exit_code == code
    assert "Traceback" in done.stderr


def finished(**outcomes: int) -> RunResult:
    return RunResult(
        output="b",
        rows=3,
        outcomes=outcomes,
        duplicates=0,
        new_rows=3,
        model_class=None,
        seconds=1.0,
        rows_per_second=0.0,
    )


def test_that_every_row_failed_is_said_and_not_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["caption", "a", "b", "--model", "demo"]
    monkeypatch.setattr(
        running, "run_job", lambda *_, **__: finished(decode_error=2, missing_input=1)
    )
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 3
    assert done.stderr.startswith("gemma3-batch: all 3 rows failed, none has results; ")
    assert CliRunner().invoke(cli.app, [*command, "--max-error-rate", "1"]).exit_code == 0
    monkeypatch.setattr(running, "run_job", lambda *_, **__: finished(decode_error=2, truncated=1))
    assert CliRunner().invoke(cli.app, command).exit_code == 0


def test_the_demonstrations_default_folder_is_a_fresh_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.cli import demonstration

    monkeypatch.chdir(tmp_path)
    assert demonstration._new_folder(None) == tmp_path / "gemma3-batch-demo"
    (tmp_path / "gemma3-batch-demo").mkdir()
    (tmp_path / "gemma3-batch-demo-2").touch()
    assert demonstration._new_folder(None) == tmp_path / "gemma3-batch-demo-3"


def test_paths_are_shown_as_they_are(tmp_path: Path) -> None:
    from jobs.cli import demonstration

    console = Console(width=40, file=io.StringIO())
    print_plain("job.yaml:100: limit: [old]", console)
    folder = tmp_path / "[old] :cat:"
    run = finished(ok=1)
    rows: list[dict[str, str | None]] = [dict.fromkeys(("name", "caption", "truth"), "a [b]")]
    done = demonstration.Demonstration(images=folder, captions=folder, run=run, exact=1)
    demonstration._show(done, rows, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.startswith("job.yaml:100: limit: [old]\n")
    assert shown.count(str(folder)) == 2
    assert "a [b]" in shown


def test_a_time_that_python_has_not_is_shown() -> None:
    console = Console(width=200, file=io.StringIO())
    late = pa.array([253402300799 * 1000], pa.int64()).view(pa.timestamp("s"))
    show_errors([pa.table({"at": late, "row_key": ["k"], "outcome": ["too_long"]})], 20, console)
    assert "1 row" in console.file.getvalue()  # type: ignore[attr-defined]


def test_hostile_rows_are_shown_as_they_are() -> None:
    console = Console(width=200, file=io.StringIO())
    rows = pa.table(
        {"[b]": ["[/b] \x1b[2J"], "row_key": ["k"], "outcome": ["too_long"], "error": ["[red]x"]}
    )
    show_errors([rows], 20, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[/b]" in shown
    assert "[red]x" in shown
    assert "\x1b[2J" not in shown


def shown_errors(
    rows: dict[str, list[str | None]], width: int, limit: int = 20, prefix: str = ""
) -> str:
    console = Console(width=width, file=io.StringIO())
    show_errors([pa.table(rows)], limit, console, prefix)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_failed_rows_are_shown_with_what_says_something_and_nothing_is_cut() -> None:
    path = "s3://bucket/photos/2024/products/shoes/winter/IMG_20240115_123456789.jpg"
    shown = shown_errors(
        {
            "note": [None, None],
            "image": [path, "b.jpg"],
            "caption": [None, None],
            "row_key": ["key-1", "key-2"],
            "outcome": ["missing_input", "ok"],
            "error": ["fetch: " + "long " * 20, None],
        },
        width=80,
    )
    table = [line.split("│") for line in shown.splitlines() if line.startswith("│")]
    assert "".join(cells[1].strip() for cells in table) == path + "b.jpg"
    assert [cells[2].strip() for cells in table if cells[2].strip()] == ["missing_input", "ok"]
    assert {len(cells) for cells in table} == {5}  # image, outcome and error
    assert shown.count("long") == 20
    assert "None" not in shown


def test_a_failed_row_that_nothing_else_names_has_its_key() -> None:
    rows = {"row_key": ["key-1", "key-2"], "outcome": ["ok"] * 2, "image": [None] * 2}
    shown = shown_errors(rows, width=80, limit=1)
    assert "key-1" in shown
    assert shown.splitlines()[-1] == "2 rows, 1 of them shown"


def test_with_a_prefix_the_columns_of_that_name_are_shown() -> None:
    rows: dict[str, list[str | None]] = {"error": ["own"], "gemma_row_key": ["key-1"]}
    rows |= {"gemma_outcome": ["too_long"], "gemma_error": ["render: long"]}
    shown = shown_errors(rows, width=80, prefix="gemma_")
    assert "key-1" not in shown
    for text in ("own", "gemma_outcome", "too_long", "gemma_error", "render: long"):
        assert text in shown


@pytest.mark.parametrize("path", [None, "a.jpg"])
def test_the_bytes_of_images_are_no_part_of_what_failed(tmp_path: Path, path: str | None) -> None:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    video = pa.struct([("bytes", pa.binary()), ("seconds", pa.int64())])
    rows = {
        "image": pa.array([{"bytes": drawing(1), "path": path}], image),
        "pages": pa.array([[drawing(2)]], pa.list_(pa.binary())),
        "video": pa.array([{"bytes": drawing(3), "seconds": 4}], video),
        "label": [7],
    }
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "in" / "a.parquet")
    failure = {"outcome": "decode_error", "error": "decode: cut off"}
    source, out = str(tmp_path / "in"), str(tmp_path / "out")
    make_output(out, caption_task(), source, lambda _: failure, keep_images=True)
    (failed,) = failed_rows(out)
    assert failed.schema.names[:2] == ["image", "label"]
    assert failed["image"].to_pylist() == [path]
    shown = CliRunner().invoke(cli.app, ["errors", out]).stdout
    assert ("a.jpg" in shown, "bytes" in shown, "None" in shown) == (path is not None, False, False)


def test_errors_that_cannot_be_exported_leave_nothing(tmp_path: Path) -> None:
    assert "is not the OUTPUT" in refused("errors", tmp_path, "--export", tmp_path / "x.parquet")
    assert "outcome 'okk'" in refused("errors", tmp_path, "--outcome", "okk")
    assert files(tmp_path) == set()
    with pytest.raises(UserError, match="cannot be written"):
        export_errors([], locate(str(tmp_path / "no" / "x.parquet")))


def test_errors_that_end_in_the_middle_leave_the_file_as_it_was(tmp_path: Path) -> None:
    def tables() -> Iterator[pa.Table]:
        yield pa.table({"n": [1]})
        raise OSError("a part is gone")

    where = locate(str(tmp_path / "x.parquet"))
    assert export_errors([pa.table({"n": [1, 2]})], where) == 2
    with pytest.raises(OSError, match="a part is gone"):
        export_errors(tables(), where)
    assert files(tmp_path) == {where.path}
    assert pq.read_table(where.path)["n"].to_pylist() == [1, 2]


def test_errors_are_exported_to_a_store(s3: S3) -> None:
    where = locate(f"{s3.url}/failed.parquet", s3.options)
    assert export_errors([pa.table({"n": [1, 2]})], where) == 2
    assert pq.read_table(pa.BufferReader(where.read()))["n"].to_pylist() == [1, 2]
