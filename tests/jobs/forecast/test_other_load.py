"""What others use of a machine is told from what this process and its children use."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from jobs.forecast.other_load import OtherLoad, other_load

SPIN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"
BESIDE = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
SPINS = 3.0


def test_what_a_child_uses_is_its_own() -> None:
    with other_load() as load:
        child = subprocess.Popen([sys.executable, "-c", SPIN.format(seconds=SPINS)])
        time.sleep(0.1)
        while child.poll() is None:
            time.sleep(0.05)
    assert SPINS * 0.6 < load.own < SPINS + 1
    assert load.own <= load.all + 0.1


def test_what_others_use_is_not() -> None:
    code = SPIN.format(seconds=SPINS)
    # Its parent ends at once, so it is nobody's child here.
    subprocess.run([sys.executable, "-c", BESIDE, code], check=True)
    began = time.monotonic()
    with other_load() as load:
        time.sleep(SPINS / 2)
    assert load.own < 0.5
    assert load.all > 0.5  # half of a core at least, on a busy machine
    assert load.share == pytest.approx((load.all - load.own) / load.offered)
    assert load.offered >= time.monotonic() - began - 0.5


def test_a_share_needs_time() -> None:
    assert OtherLoad().share == 0
    assert OtherLoad(all=1.0, own=2.0, offered=4.0).share == 0  # clocks differ a little
    assert OtherLoad(all=2.0, own=1.0, offered=4.0).share == 0.25
