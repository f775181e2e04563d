"""A process that stands still ends itself, and one that is slow does not."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

STALL_S = 2.0
TIMEOUT_S = 120
HEAD = """
import asyncio, time
from pipeline.engine.watchdog import Watchdog, keep_alive
"""


def run(script: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """A process of its own; its result, and how many seconds it took."""
    begin = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", HEAD + script],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    return result, time.monotonic() - begin


@pytest.mark.parametrize(
    "stuck",
    [
        "time.sleep(3600)",
        "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')",  # in C, and never lets Python in
    ],
)
def test_what_stands_still_ends_and_says_where(stuck: str) -> None:
    result, seconds = run(f"def render():\n    {stuck}\nwith Watchdog({STALL_S}):\n    render()\n")
    assert result.returncode == 1
    assert seconds >= STALL_S
    assert "in render" in result.stderr


def test_what_gets_on_is_left_alone() -> None:
    script = (
        f"with Watchdog({STALL_S}) as watchdog:\n"
        "    for _ in range(10):\n"
        "        time.sleep(0.3)\n"
        "        watchdog.reset()\n"
        f"time.sleep({STALL_S} + 0.5)\n"  # and so is a process whose watchdog has stopped
        "print('done')\n"
    )
    result, _ = run(script)
    assert (result.returncode, result.stdout) == (0, "done\n")


ASKING = """
async def main(ping, seconds):
    watchdog = Watchdog({stall})
    task = asyncio.create_task(keep_alive(ping, watchdog))
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(seconds)
    print("done")
"""


def test_an_engine_that_answers_slowly_is_alive() -> None:
    script = ASKING.format(stall=STALL_S) + (
        f"async def ping(): await asyncio.sleep(0.5)\nasyncio.run(main(ping, {STALL_S} + 0.5))\n"
    )
    result, _ = run(script)
    assert (result.returncode, result.stdout) == (0, "done\n")


@pytest.mark.parametrize("answer", ["await asyncio.sleep(3600)", "raise RuntimeError('dead')"])
def test_an_engine_that_does_not_answer_is_ended(answer: str) -> None:
    script = ASKING.format(stall=STALL_S) + (
        f"async def ping(): {answer}\nasyncio.run(main(ping, 20))\n"
    )
    result, seconds = run(script)
    assert (result.returncode, result.stdout) == (1, "")
    assert STALL_S <= seconds < 20


def test_a_watchdog_is_off_after_a_failure() -> None:
    script = (
        f"try:\n    with Watchdog({STALL_S}): raise ValueError\nexcept ValueError: pass\n"
        f"time.sleep({STALL_S} + 0.5); print('done')\n"
    )
    assert run(script)[0].stdout == "done\n"
