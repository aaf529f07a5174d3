"""Adaptive sampling: restart walkers where little has been seen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from analytics.novelty import Bins, FrameMemory, Readiness, VisitMemory, make_space
from analytics.novelty.memory import Retention, load_generator, save_generator
from analytics.policies.choice import Chooser, Novel, Rare, Sparse, Uniform
from bridge.codec import encode_state
from bridge.commands import FrameReference
from bridge.config import parse_bytes, parse_duration
from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator

__all__ = ["Mode", "RestartRare"]

Array = npt.NDArray[Any]
Mode = Literal["rare", "sparse", "novel", "random"]


class RestartRare(GlobalOperator):
    """Restart each walker after `interval` frames from a remembered frame that is rare or new.

    All frames of all simulations go into one bounded memory, with the arrays that a restart
    needs. When a walker is due, one of them is chosen by the `mode`:

    ``rare``
        a bin of the space with weight ``1 / count**power``, then a frame of it uniformly;
    ``sparse``
        a frame with weight ``distance**power``, the distance being that to its k-th neighbour;
    ``novel``
        one of the `top` frames with the highest score, as scored when they came;
    ``random``
        any remembered frame: the control. It is due at the same frames as the other modes, so
        that a run differs from its control in this one word.

    The batch passes unchanged. The choice depends on the frames, their order and the seed alone.

    Parameters
    ----------
    input
        Column with the coordinates (``rare``, ``sparse``), or with the score (``novel``), such as
        ``novelty``, a network's ``latent_error`` or a committee's ``committee_disagreement``.
        Nobody is restarted while the version of its model is 0 (``<input>_version``, or that of its
        stem, ``latent_version``), if there is such a column.
    mode
        See above.
    features
        Column that `input` is learned from (see `analytics.novelty.space.Space`): then
        the memory is projected anew whenever the model changes. Empty for a fixed space.
    model, registry
        Of the network that makes `input` of `features` (see
        `analytics.novelty.encoded.EncodedSpace`): then the memory is encoded anew by each version,
        and so are errors of reconstruction in the mode ``novel``. Empty for none.
    width, relative
        Of the bins, as for `analytics.novelty.VisitCounts`.
    power
        How strongly few visits, or far neighbours, are preferred.
    neighbours, update_every
        For ``sparse``: k, and after how many frames distances are taken anew (or a twentieth of
        the frames seen, if that is more).
    top
        For ``novel``.
    interval
        Frames of a walker in an epoch before it is restarted.
    patience
        Frames of a walker after which a restart is decided again if its epoch was not raised,
        because the command was refused, lost or expired.
    min_frames
        Frames of all walkers before the first restart.
    keep
        Probability that a walker that is due goes on for another `interval` instead.
    memory, retention, memory_bytes
        Frames to remember, whether a uniform sample (``reservoir``) or the latest (``sliding``),
        and the limit on the bytes of them all.
    inline
        Variables that are remembered and sent with the command; empty to send a reference only,
        which needs the frame to be still in staging.
    velocities
        ``redraw`` or ``keep``; to keep them, `inline` must have ``velocities`` or be empty.
    expires
        Seconds after its decision when a command must not be applied any more (on the clock of
        this machine); 0 for never.
    seed
        Of all choices.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    """

    def __init__(
        self,
        *,
        input: str,
        mode: Mode = "rare",
        features: str | Sequence[str] = "",
        model: str = "",
        registry: str = "",
        width: float | Sequence[float] = 0.5,
        relative: bool = False,
        power: float = 2.0,
        neighbours: int = 10,
        update_every: int = 200,
        top: int = 20,
        interval: int = 10,
        patience: int = 100,
        min_frames: int = 400,
        keep: float = 0.0,
        memory: int = 20_000,
        retention: Retention = "reservoir",
        memory_bytes: str | int = "1 GiB",
        inline: Sequence[str] = ("positions",),
        velocities: Literal["keep", "redraw"] = "redraw",
        expires: str | float = 0.0,
        seed: int = 0,
    ) -> None:
        least = {"interval": interval, "patience": patience, "top": top, "neighbours": neighbours}
        for name, value in {**least, "update_every": update_every}.items():
            if value < 1:
                raise ConfigError(f"The parameter {name!r} must be at least 1; it is {value}.")
        if not 0.0 <= keep < 1.0:
            raise ConfigError(f"The parameter 'keep' must be in [0, 1); it is {keep}.")
        if not 0.0 <= power < np.inf:
            raise ConfigError(f"The parameter 'power' must not be negative; it is {power}.")
        if velocities not in ("keep", "redraw"):
            raise ConfigError(
                f"The velocities are kept or redrawn ('keep', 'redraw'), not {velocities!r}."
            )
        self.inline = (inline,) if isinstance(inline, str) else tuple(inline)
        if velocities == "keep" and self.inline and "velocities" not in self.inline:
            raise ConfigError(
                "To keep the velocities of a frame, 'inline' must name 'velocities' as well, or be "
                "empty."
            )
        self.mode = mode
        self.interval, self.patience, self.min_frames = interval, patience, max(1, min_frames)
        self.keep, self.velocities = keep, velocities
        self.expires = parse_duration(expires)
        bins = Bins(memory, width, relative=relative)
        space = (
            Readiness(input)
            if mode == "random"
            # A run gives every operator its registry: only a model asks for a network's space.
            else make_space(
                input, features, model, registry if model else "", score=mode == "novel"
            )
        )
        self._chooser: Chooser
        match mode:
            case "rare":
                self._chooser = Rare(power)
            case "sparse":
                self._chooser = Sparse(power, neighbours, update_every)
            case "novel":
                self._chooser = Novel(top)
            case "random":
                self._chooser = Uniform()
            case _:
                raise ConfigError(
                    f"The mode {mode!r} is unknown; use 'rare', 'sparse', 'novel' or 'random'."
                )
        self._visited = VisitMemory(
            FrameMemory(
                memory, retention=retention, seed=seed, max_bytes=parse_bytes(memory_bytes)
            ),
            space,
            bins if mode == "rare" else None,
        )
        self._random = np.random.default_rng([seed, 1])
        self._names: list[str] = []
        # Simulation to its epoch, its frames since the last occasion, and its frames since a
        # command that has not shown yet (-1: there is none).
        self._walkers: dict[str, list[int]] = {}

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (*self._visited.space.reads(), *self.inline)

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Remember the frames, and restart the walker where it is due."""
        if not len(batch):
            return batch
        visited = self._visited
        walker = self._walkers.setdefault(batch.simulation, [int(batch.epochs[0]), 0, -1])
        rows, good = self._rows(batch)
        epochs = batch.epochs.tolist()
        for piece in visited.space.pieces(batch):
            visited.enter(piece, batch, rows)
            begun = piece.start
            for row in range(piece.start, piece.stop):
                if not self._is_due(walker, epochs[row]) or not piece.version:
                    continue
                self._remember(rows, good, begun, row + 1)
                begun = row + 1
                if visited.memory.seen >= self.min_frames:
                    self._decide(walker, batch, row, context)
            self._remember(rows, good, begun, piece.stop)
        return batch

    def save(self) -> dict[str, Any]:
        """Return the memory, what is known of the walkers, and the state of the random numbers."""
        return {
            **self._visited.save(),
            **self._chooser.save(),
            "names": list(self._names),
            "walkers": {name: list(walker) for name, walker in self._walkers.items()},
            "random": save_generator(self._random),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self._visited.restore(state)
        self._chooser.restore(state)
        self._names = list(state["names"])
        self._walkers = {name: list(walker) for name, walker in state["walkers"].items()}
        self._random = load_generator(state["random"])

    def _rows(self, batch: FrameBatch) -> tuple[dict[str, Array], Array | None]:
        """Return what to remember of each frame, and which frames may be, None for all."""
        n = len(batch)
        if batch.simulation not in self._names:
            self._names.append(batch.simulation)
        rows = self._visited.space.read(batch) | self._chooser.columns(n)
        rows["simulation"] = np.full(n, self._names.index(batch.simulation), np.int32)
        rows["offset"] = batch.offsets
        good = np.ones(n, bool)
        for name in self.inline:
            array = batch[name]
            rows[f"inline.{name}"] = array
            if array.dtype.kind in "fc":
                good &= np.isfinite(array).reshape(n, -1).all(axis=1)
        return rows, None if good.all() else good

    def _remember(self, rows: dict[str, Array], good: Array | None, start: int, stop: int) -> None:
        if start == stop:
            return
        part = {name: value[start:stop] for name, value in rows.items()}
        if good is not None:
            kept = good[start:stop]
            if not kept.any():
                return
            part = {name: value[kept] for name, value in part.items()}
        self._visited.add(part)

    def _is_due(self, walker: list[int], epoch: int) -> bool:
        if epoch > walker[0]:
            walker[:] = [epoch, 0, -1]
        walker[1] += 1
        if walker[2] < 0:
            return walker[1] >= self.interval
        walker[2] += 1
        return walker[2] >= self.patience

    def _decide(self, walker: list[int], batch: FrameBatch, row: int, context: Context) -> None:
        if self.keep and self._random.random() < self.keep:
            walker[1:] = [0, -1]
            return
        choice = self._chooser.choose(self._visited, self._random)
        if choice is None:
            return
        memory, slot = self._visited.memory, choice.slot
        source = FrameReference(
            self._names[memory["simulation"][slot]], int(memory["offset"][slot])
        )
        state = {name: memory[f"inline.{name}"][slot] for name in self.inline}
        again = walker[2] >= 0
        walker[2] = 0
        late = " The restart before this one has not shown." if again else ""
        context.command(
            "restart",
            batch.simulation,
            frame=source,
            at=int(batch.offsets[row]),
            state=encode_state(state) if state else b"",
            velocities=self.velocities,
            reason=(
                f"{batch.simulation} goes on from frame {source.offset} of {source.simulation}, "
                f"{choice.why}.{late}"
            ),
            evidence={
                "mode": self.mode,
                "decided_at": int(batch.offsets[row]),
                "seen": memory.seen,
                "version": self._visited.space.version,
                **choice.evidence,
            },
            expires=time.time() + self.expires if self.expires else 0.0,
        )
