"""States of random generators as arrays, for checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["make_generator", "restore_generator", "save_generator"]

_WORD = (1 << 64) - 1


def make_generator(*seeds: int) -> np.random.Generator:
    """Return a generator (PCG64) from several numbers, such as a seed and what it is for."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(seeds))))


def save_generator(generator: np.random.Generator) -> npt.NDArray[np.uint64]:
    """Return the state, uint64 of shape (6,)."""
    state: dict[str, Any] = dict(generator.bit_generator.state)
    inner = state["state"]
    words = [inner["state"] >> 64, inner["state"] & _WORD, inner["inc"] >> 64, inner["inc"] & _WORD]
    return np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)


def restore_generator(generator: np.random.Generator, saved: npt.NDArray[np.uint64]) -> None:
    """Take up what `save_generator` returned."""
    high, low, inc_high, inc_low, has, rest = (int(word) for word in saved)
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": inc_high << 64 | inc_low},
        "has_uint32": has,
        "uinteger": rest,
    }
