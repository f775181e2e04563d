"""What is between two stages: nothing is lost in a block, and little is copied."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import numpy as np
import pytest

from pipeline.contract.record import Outcome
from pipeline.stages.blocks import BLOCK, Item, pack, seal, unpack, unseal
from pipeline.stages.rendered_row import RenderedRow
from tests.pipeline.stages.samples import FAILED, FAULTY, SAME


def test_blocks_have_one_schema_and_lose_nothing() -> None:
    items = [Item("u", 0, payload={"any": (b"thing", None)}), FAILED, SAME, FAULTY]
    block = pack(items)
    assert block.schema == BLOCK
    assert [*unpack(block)] == items
    assert pack([FAILED]).schema == BLOCK


def test_the_pixels_of_an_image_are_in_a_block_once_and_are_read_where_they_are() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (896, 896, 3), np.uint8)
    small = np.arange(10)
    sent = [Item("u", n, payload={"pixels": pixels + n, "small": small}) for n in range(3)]
    sealed = seal(pack([FAILED, *sent, SAME]))
    assert sealed.nbytes < 3 * 2.5e6
    (block,) = unseal(sealed)
    failed, *found, same = unpack(block)
    assert (failed, same) == (FAILED, SAME)
    lies = sealed["block"].chunk(0).buffers()[2]
    for item, right in zip(found, sent, strict=True):
        assert (item.unit, item.position) == (right.unit, right.position)
        for name, array in right.payload.items():
            np.testing.assert_array_equal(item.payload[name], array)
        assert not item.payload["pixels"].flags.writeable
        assert lies.address < item.payload["pixels"].ctypes.data < lies.address + lies.size
    del block, failed, same, sealed, lies
    np.testing.assert_array_equal(found[2].payload["pixels"], pixels + 2)  # it keeps its block


def test_a_state_that_does_not_pickle_fails_its_row_only() -> None:
    kept, failed = unpack(
        pack([Item("u", 0, payload={"a": 1}), Item("u", 1, payload=threading.Lock())])
    )
    assert kept.payload == {"a": 1}
    assert failed.outcome is Outcome.DECODE_ERROR
    assert "render: Prepared.state: TypeError: cannot pickle" in (failed.error or "")


class TwoArgumentsError(Exception):
    """Pickles, but its copy would be made with one argument."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} {other}")


class OpenHandle:
    def __getstate__(self) -> object:
        raise ValueError("the handle is open")


@pytest.mark.parametrize("state", [OpenHandle(), TwoArgumentsError(1, 2)])
def test_a_state_that_cannot_travel_fails_its_row_only(state: object) -> None:
    sent = [Item("u", 0, payload=RenderedRow((), state)), Item("u", 1, payload={"a": 1})]
    failed, kept = unpack(pack(sent))
    assert (failed.position, failed.outcome) == (0, Outcome.DECODE_ERROR)
    assert (failed.error or "").startswith("render: Prepared.state: ")
    assert kept.payload == {"a": 1}


def test_what_a_machine_lacks_is_not_its_rows_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("of_the_driver")
    exec("class State:\n    pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "of_the_driver", module)
    block = pack([Item("u", 0, payload=module.State())])
    monkeypatch.delitem(sys.modules, "of_the_driver")
    with pytest.raises(ModuleNotFoundError, match="of_the_driver"):
        list(unpack(block))
