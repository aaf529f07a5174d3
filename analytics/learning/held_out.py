"""Which frames are kept from training, and what is held of them to judge by."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import xxhash

from bridge.errors import ConfigError

__all__ = ["HELD_OUT", "NEITHER", "TRAINING", "HoldOut"]

TRAINING, HELD_OUT, NEITHER = 0, 1, 2

_BLOCK = 100  # frames of a block where the lag does not ask for more
_BLOCK_LAGS = 10  # lags of a block, so that it has pairs of its own


class HoldOut:
    """Keeps blocks of time from training.

    Neighbours in time look alike: a frame that is held out while its neighbours are learned from
    tells nothing. So each stream is cut into blocks of frames, by offset; of every so many blocks
    one is held out, and its first and last frames are used for neither. Streams begin with
    different blocks, by their names.

    Parameters
    ----------
    fraction
        Of the blocks; 0 for none, less than 1.
    block
        Frames of a block; 0 for 100, or ten lags if that is more.
    lag
        Of the pairs of frames; 0 for single frames.
    seed
        Decides which blocks.

    Raises
    ------
    ConfigError
        If a number is out of bounds, or a block is too short to have pairs of its own.
    """

    def __init__(self, fraction: float, *, block: int = 0, lag: int = 0, seed: int = 0) -> None:
        if not 0.0 <= fraction < 1.0:
            raise ConfigError(
                f"The parameter 'held_out' is {fraction}; it must be at least 0 and less than 1."
            )
        self.fraction = fraction
        self.block = block or max(_BLOCK, _BLOCK_LAGS * lag)
        self.margin = max(lag, self.block // 10)
        self.seed = seed
        if self.block - 2 * self.margin <= lag:
            raise ConfigError(
                f"A block of {self.block} frames (the parameter 'held_out_block') has no pairs of "
                f"frames {lag} apart once its margins of {self.margin} are left out; make it at "
                f"least {3 * max(lag, 1) + 1}."
            )

    def zones(self, simulation: str, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        """Return `TRAINING`, `HELD_OUT` or `NEITHER` for each frame of a simulation."""
        if not self.fraction:
            return np.zeros(len(offsets), np.int8)
        key = f"{self.seed}\0{simulation}".encode()
        # With a fraction of 1/10, each tenth block; each stream begins to count elsewhere.
        phase = xxhash.xxh3_64_intdigest(key) % 4096 * math.ceil(1.0 / self.fraction) // 4096
        number = offsets // self.block + phase
        before = np.floor(number * self.fraction)
        held = np.floor((number + 1) * self.fraction) > before
        place = offsets % self.block
        inner = (place >= self.margin) & (place < self.block - self.margin)
        return np.where(held, np.where(inner, HELD_OUT, NEITHER), TRAINING).astype(np.int8)
