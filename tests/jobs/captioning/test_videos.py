"""Captions of videos: the options, and the job on the bundled model over drawings that move."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
import yaml
from PIL import Image, ImageChops

from jobs.captioning.task import CaptionTask
from jobs.cli.job_file import read_job_file
from jobs.demo.drawings import BACKGROUNDS, Scene, Thing, draw
from jobs.registry import JOBS
from jobs.sdk.assembly import configure
from pipeline import ColumnKind, Outcome, RunConfig, UserError, VideoRef
from pipeline.execution.preparation import check_run
from tests.pipeline.fakes import FAKE
from tests.pipeline.sample_videos import encoded_video, numbered_video, sound_alone


def configured(*, job: str = "caption", **options: object) -> Any:
    return configure(JOBS[job], {"model": "demo", **options})


def task_of(**options: object) -> CaptionTask:
    task = configured(**options).task()
    assert isinstance(task, CaptionTask)
    return task


@pytest.mark.parametrize(
    ("options", "column", "most", "fps", "max_images"),
    [
        ({"frames": 4}, "video", 4, None, 8),
        ({"frames": 20}, "video", 20, None, 20),
        ({"fps": 1}, "video", 24, 1.0, 24),
        ({"fps": 0.5, "max_images": 40}, "video", 40, 0.5, 40),
        ({"video_column": "clip"}, "clip", 8, None, 8),
        ({"video_column": "clip", "max_images": 3}, "clip", 3, None, 3),
        ({"video_column": "clip", "frames": 2}, "clip", 2, None, 8),
    ],
)
def test_a_video_is_asked_about_by_its_frames(
    options: dict[str, Any], column: str, most: int, fps: float | None, max_images: int
) -> None:
    job = configured(**options)
    task = job.task()
    assert task.columns == {column: ColumnKind.VIDEO}
    (request,) = task.prepare({column: b"bytes"}).requests
    assert request.images == (VideoRef(b"bytes", most, fps),)
    assert (task.most_frames, job.engine().max_images) == (most, max_images)
    assert CaptionTask(**task.settings) == task


def test_images_are_asked_about_as_before() -> None:
    """What a record says of a run of images has not changed, but for what it did not have."""
    task = task_of()
    assert (task.columns, task.most_frames) == ({"image": ColumnKind.IMAGES}, 0)
    new = {name: task.settings[name] for name in ("video_column", "frames", "fps")}
    assert new == {"video_column": None, "frames": None, "fps": None}
    assert configured().engine().max_images == 8


def test_prompts_speak_of_a_video(gemma_folder: Path) -> None:
    for style in ("alt", "sentence", "dense", "tags", "ocr"):
        prompt = task_of(model=str(gemma_folder), style=style, frames=2).prompt
        assert "video" in prompt
        assert "image" not in prompt
    asked = {"model": str(gemma_folder), "style": "ocr"}
    assert task_of(**asked, frames=2).transcribes
    assert task_of(**asked).transcribes
    raw = task_of(**asked, frames=2, prompt_format="raw")
    assert raw.prompt == "All text in this video:"
    assert raw.transcribes
    assert task_of(prompt="Who is in this image?", fps=1).prompt == "Who is in this image?"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"frames": 4, "fps": 1}, "fps: sets how many frames a video gives"),
        ({"frames": 4, "image_column": "photo"}, "video_column: captions are of images or of vid"),
        ({"frames": 4, "prompt": "Describe {video}"}, "prompt: 'video' holds videos"),
        ({"frames": 0}, "frames: input should be greater than 0"),
        ({"fps": 0}, "fps: input should be greater than 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"^{said}"):
        task_of(**options)


def test_a_job_file_has_the_same_options(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(numbered_video(4))
    named = {"job": "caption", "model": "demo", "input": "in", "output": "out", "fps": 2}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**named, "max_images": 6}))
    found: Any = read_job_file(str(tmp_path / "job.yaml"))
    assert (found.job.options.fps, found.job.task().most_frames) == (2, 6)


def refused(folder: Path, **options: Any) -> str:
    job = configured(**options)
    config: RunConfig = job.run_config(str(folder), f"{folder}-out")
    with pytest.raises(UserError) as error:
        check_run(config, job.task(), FAKE)
    assert not Path(f"{folder}-out").exists()
    return str(error.value)


def test_what_does_not_fit_is_refused_before_anything_starts(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"video")
    assert refused(folder, frames=9, max_images=8).startswith(
        "frames: a video gives up to 9 images, and a request of this engine takes 8; raise"
    )
    # The bundled model has 18 tokens for an image, and 1,024 for all.
    assert refused(folder, frames=57).startswith(
        "frames: 57 frames of a video are 1,026 tokens without any text, and a prompt with its "
        "answer has 1,024 at most"
    )
    assert refused(folder, fps=1, max_model_len=400).startswith("frames: 24 frames of a video are")
    assert "holds videos, and 'caption' was asked for images; give --frames" in refused(folder)
    assert "holds videos, and 'moderate' takes images only" in refused(folder, job="moderate")
    (folder / "a.mp4").rename(folder / "a.jpg")
    assert "INPUT has no column 'video'" in refused(folder, frames=2)


def test_what_decodes_them_must_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.engine import supported_versions

    right = supported_versions._installed
    monkeypatch.setattr(
        supported_versions, "_installed", lambda names: None if names == ("av",) else right(names)
    )
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"video")
    assert refused(folder, frames=2).startswith("videos are decoded with PyAV, which is not inst")


def moving(scene: Scene, count: int = 20) -> list[Image.Image]:
    """A drawing whose shape goes from left to right."""
    image = draw(scene)
    background = image.getpixel((0, 0))
    frames = []
    for number in range(count):
        shift = round(40 * (number / (count - 1) - 0.5))
        moved = ImageChops.offset(image, shift, 0)
        box = (0, 0, shift, image.height) if shift > 0 else (image.width + shift, 0, *image.size)
        moved.paste(background, box)
        frames.append(moved)
    return frames


SCENES = {
    "circle.mp4": Scene(Thing("circle", "red"), "white", seed=1),
    "star.webm": Scene(Thing("star", "blue"), "black", seed=2),
    "ring.mkv": Scene(Thing("ring", "green"), "white", seed=3),
}
assert {scene.background for scene in SCENES.values()} <= BACKGROUNDS.keys()


def write_films(folder: Path) -> None:
    """The drawings that move, and bad files of several kinds."""
    folder.mkdir()
    kinds = {"mp4": "mp4", "webm": "webm", "mkv": "matroska"}
    for name, scene in SCENES.items():
        kind = kinds[name.rpartition(".")[2]]
        (folder / name).write_bytes(encoded_video(moving(scene), kind=kind))
    (folder / "short.mp4").write_bytes(encoded_video(moving(SCENES["circle.mp4"], 2)))
    whole = (folder / "circle.mp4").read_bytes()
    (folder / "x-cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "x-empty.mp4").write_bytes(b"")
    (folder / "x-noise.mp4").write_bytes(os.urandom(1000))
    (folder / "x-sound.mp4").write_bytes(sound_alone())


@pytest.mark.long
@pytest.mark.timeout(400)
def test_videos_are_captioned_by_the_bundled_model(tmp_path: Path) -> None:
    """By the command: each row has an outcome, and as many frames as were asked for."""
    write_films(tmp_path / "in")
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "caption", str(tmp_path / "in"), str(tmp_path / "out"),
         "--model", "demo", "--frames", "4"],
        capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["path"]: row for row in ds.dataset(tmp_path / "out").to_table().to_pylist()}
    assert len(rows) == 8
    for name, row in rows.items():
        expected = Outcome.DECODE_ERROR if name.startswith("x-") else Outcome.OK
        assert row["outcome"] == expected, (name, row["error"])
    for name, scene in SCENES.items():
        assert f"{scene.subject.colour} {scene.subject.shape}" in rows[name]["caption"]
    four, two = rows["circle.mp4"]["prompt_tokens"], rows["short.mp4"]["prompt_tokens"]
    assert 2 * 16 < four - two < 2 * 60  # soft tokens, and the times
