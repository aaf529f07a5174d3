"""Two models on the same frames: which is better, and how sure that is."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from analytics.statistics.schedule import check_count
from bridge.errors import ConfigError

if TYPE_CHECKING:
    from analytics.learning.model import StreamModel

__all__ = ["Comparison", "Gate", "HeldOut", "compare", "score"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a candidate must show, and when a model in service is given up.

    Attributes
    ----------
    margin
        By how much a candidate must score better than the model in service, as a share of that
        one's score.
    confidence
        How sure it must be that it is better at all, from 0.5 to 1, one-sided.
    blocks
        Pieces that the frames are cut into to tell how sure it is; each should be longer than
        the frames remember one another.
    min_frames
        With fewer held-out frames, nobody is promoted.
    floor
        What the first model of a name must score, None for anything.
    tolerance
        How far the live score of the model in service may fall below what it had when it was
        promoted, as a share of that. Once it fell, half of that counts.
    window
        Frames from which one live score is made.
    patience
        So many windows one after the other it must have fallen, and the model before it do better
        by `margin`, for that one to be taken back.
    across_kinds
        Whether models of different kinds may take each other's place; their scores must then mean
        the same.
    """

    margin: float = 0.01
    confidence: float = 0.95
    blocks: int = 8
    min_frames: int = 200
    floor: float | None = None
    tolerance: float = 0.1
    window: int = 200
    patience: int = 3
    across_kinds: bool = False

    def __post_init__(self) -> None:
        for name in ("blocks", "min_frames", "window", "patience"):
            check_count(getattr(self, name), f"gate.{name}", least=0)
        bounds = (
            ("margin", self.margin >= 0.0, "at least 0"),
            ("confidence", 0.5 <= self.confidence < 1.0, "from 0.5 to less than 1"),
            ("blocks", self.blocks >= 2, "at least 2"),
            ("min_frames", self.min_frames >= 2 * self.blocks, "at least twice 'blocks'"),
            ("floor", self.floor is None or not math.isnan(self.floor), "a number"),
            ("tolerance", self.tolerance >= 0.0, "at least 0"),
            ("window", self.window >= 2 * self.blocks, "at least twice 'blocks'"),
            ("patience", self.patience >= 1, "at least 1"),
        )
        for name, holds, said in bounds:
            if not holds:
                raise ConfigError(
                    f"The parameter {name!r} of the gate is {getattr(self, name)}; it must be "
                    f"{said}."
                )


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Recent frames that no candidate has learned from, in order of time.

    Attributes
    ----------
    x
        Shape (n, *input_shape).
    y
        The frames a lag time after those, for models that need them.
    """

    x: Array
    y: Array | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two scores on the same frames; more is better.

    Attributes
    ----------
    candidate, served
        Scores on all frames.
    difference
        Of the candidate's and the served one's.
    low
        The difference is above this, with the confidence that was asked for.
    frames
        Number of frames.
    """

    candidate: float
    served: float
    difference: float
    low: float
    frames: int

    @property
    def share(self) -> float:
        """The difference as a share of the served model's score."""
        return self.difference / max(abs(self.served), 1e-12)


def score(model: StreamModel, held_out: HeldOut) -> float:
    """Return `StreamModel.score` on some frames; the model is left as it was.

    Raises
    ------
    ConfigError
        If the model needs pairs of frames and there are none.
    """
    import torch

    if model.lagged and held_out.y is None:
        raise ConfigError(
            f"The model {model.kind!r} is judged by pairs of frames a lag time apart; frames "
            "alone were given."
        )
    device = next((value.device for value in model.state_dict().values()), None)
    x = torch.as_tensor(held_out.x, dtype=torch.float32, device=device)
    y = held_out.y
    later = None if y is None else torch.as_tensor(y, dtype=torch.float32, device=device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return float(model.score(x, later))
    finally:
        model.train(training)


def compare(
    candidate: StreamModel, served: StreamModel, held_out: HeldOut, gate: Gate
) -> Comparison:
    """Score two models on the same frames.

    How sure the difference is comes from a jackknife over blocks of time: the difference is
    computed anew without each block, and from how much it changes follows its error (Künsch, 1989,
    doi 10.1214/aos/1176347265). So it holds for scores that are no means over frames, such as
    VAMP-2, and frames that resemble their neighbours do not count as independent.
    """
    whole = score(candidate, held_out), score(served, held_out)
    blocks = np.array_split(np.arange(len(held_out)), gate.blocks)
    without = []
    for block in blocks:
        rows = np.delete(np.arange(len(held_out)), block)
        part = HeldOut(held_out.x[rows], None if held_out.y is None else held_out.y[rows])
        without.append(score(candidate, part) - score(served, part))
    n = len(blocks)
    error = math.sqrt((n - 1) / n) * float(np.linalg.norm(np.asarray(without) - np.mean(without)))
    difference = whole[0] - whole[1]
    low = difference - _student(gate.confidence, n - 1) * error
    return Comparison(whole[0], whole[1], difference, low, len(held_out))


def _student(confidence: float, freedom: int) -> float:
    """Return a quantile of Student's t: Cornish and Fisher's series, Abramowitz & Stegun 26.7.5."""
    z = statistics.NormalDist().inv_cdf(confidence)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
