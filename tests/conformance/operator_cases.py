"""The operators that the conformance suite runs over: one list a room, one case a line.

To add an operator, append to its room's list; `test_operators.py` takes up every list here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.frames import FrameBatch
from bridge.testing.operators import Maker, random_stream

__all__ = ["ALL", "Case"]


@dataclass(frozen=True)
class Case:
    """One operator with its parameters, and the stream to run it over."""

    name: str
    make: Maker
    stream: Sequence[FrameBatch]


POSITIONS = random_stream({"positions": (7, 3)})
FEATURES_OF_FRAMES = random_stream({"features": (5,)}, frames=160, seed=4)

FEATURES: list[Case] = []
STATISTICS: list[Case] = []
REDUCTION: list[Case] = []
NOVELTY: list[Case] = []
POLICIES: list[Case] = []

ALL = [*FEATURES, *STATISTICS, *REDUCTION, *NOVELTY, *POLICIES]
