"""The state of a restart is checked before a simulation is touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bridge.codec import encode_state
from bridge.commands import Command, FrameReference
from bridge.errors import CommandRefused, OffsetOutOfRange
from bridge.frames import Frame
from bridge.steering import read_restart

SHAPES = {"positions": (4, 3)}
GOOD = np.arange(12, dtype=np.float32).reshape(4, 3)


def restart(**fields: Any) -> Command:
    return Command("restart", "walker", id="a", **fields)


def never(reference: FrameReference) -> Frame:
    raise AssertionError("No look-up is needed for a state that comes inline.")


def test_an_inline_state_comes_back_as_float64_of_its_own() -> None:
    data = encode_state({"positions": GOOD, "box": np.eye(3), "origin": "walker-2@7"})
    got = read_restart(restart(state=data), SHAPES, never, optional={"box": (3, 3)})
    assert sorted(got) == ["box", "positions"]
    assert got["positions"].dtype == np.float64
    assert np.array_equal(got["positions"], GOOD)
    got["positions"][0] = 0.0


def test_a_reference_is_looked_up() -> None:
    asked = []

    def look_up(reference: FrameReference) -> Frame:
        asked.append(reference)
        return Frame("other", 7, step=1, time=0.0, values={"positions": GOOD})

    reference = FrameReference("other", 7)
    got = read_restart(restart(frame=reference), SHAPES, look_up, optional={"box": (3, 3)})
    assert asked == [reference]
    assert list(got) == ["positions"]


def test_a_frame_that_is_gone_is_a_refusal_with_the_reason() -> None:
    def look_up(reference: FrameReference) -> Frame:
        raise OffsetOutOfRange("Offset 7 of 'frames/other' was released.")

    with pytest.raises(CommandRefused, match=r"Frame 7 of 'other' cannot be read: Offset 7 of .*"):
        read_restart(restart(frame=FrameReference("other", 7)), SHAPES, look_up)


BAD = GOOD.copy()
BAD[1, 2] = np.nan


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"positions": GOOD[:3]}, r"shape \(3, 3\); this simulation needs \(4, 3\)"),
        ({"positions": BAD}, "values that are not finite"),
        ({"positions": GOOD.astype(complex)}, "dtype complex128; real numbers are needed"),
        ({"velocities": GOOD}, "has no 'positions'; it has velocities"),
        ({"positions": GOOD, "box": np.eye(2)}, r"'box' with shape \(2, 2\)"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(state: dict[str, Any], said: str) -> None:
    command = restart(state=encode_state(state))
    with pytest.raises(CommandRefused, match=said):
        read_restart(command, SHAPES, never, optional={"box": (3, 3)})


def test_bytes_that_are_damaged_are_refused() -> None:
    data = bytearray(encode_state({"positions": GOOD}))
    data[-1] ^= 1
    with pytest.raises(CommandRefused, match="cannot be read: The checksum"):
        read_restart(restart(state=bytes(data)), SHAPES, never)


def test_a_restart_without_an_origin_is_refused() -> None:
    with pytest.raises(CommandRefused, match="names no frame and carries no state"):
        read_restart(restart(), SHAPES, never)
