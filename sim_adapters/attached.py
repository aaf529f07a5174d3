"""What hangs on the run of a simulation engine and owns its link."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bridge.commands import Command
from sim_adapters.link import Link
from sim_adapters.member import derive_seed

__all__ = ["Attached"]


class Attached(ABC):
    """Base of what an engine calls while it runs: restarts, a blow-up that is told, the end.

    Parameters
    ----------
    link
        The open link.
    atoms
        Number of atoms of the whole simulation.
    seed
        Seed of redrawn velocities; each restart draws its own from it.

    Attributes
    ----------
    link
        The open link; its ``stopped`` tells whether the simulation was stopped.
    """

    def __init__(self, link: Link, atoms: int, seed: int) -> None:
        self.link = link
        self._seed = seed
        self._told = -1
        link.on("set", "temperature", self._heat)
        link.on_restart(
            self._restart, {"positions": (atoms, 3)}, {"velocities": (atoms, 3), "box": (3, 3)}
        )

    @abstractmethod
    def _heat(self, value: float) -> None:
        """Set the thermostat to a temperature in K."""

    @abstractmethod
    def _place(
        self, arrays: Mapping[str, npt.NDArray[np.float64]], *, redraw: bool, seed: int
    ) -> None:
        """Set positions (nm), and where given box (nm) and velocities (nm/ps)."""

    def _restart(self, arrays: Mapping[str, npt.NDArray[np.float64]], command: Command) -> None:
        self._place(
            arrays,
            redraw=command.velocities == "redraw",
            seed=derive_seed(self._seed, command.id),
        )

    def _look_at(self, positions: npt.NDArray[Any], step: int) -> None:
        """Tell, once in an epoch, of positions that are not finite."""
        # A sum is not finite if one of its terms is not, and costs less than to look at each.
        if self._told == self.link.epoch or math.isfinite(positions.sum()):
            return
        self._told = self.link.epoch
        self.link.event(
            "not_finite",
            f"Values of {self.link.simulation!r} are not finite from step {step} on; the "
            "simulation has blown up, and only a restart can save it.",
            level="error",
            step=step,
        )

    def close(self, *, finished: bool = True) -> None:
        """Send what is left and leave; may be called again."""
        self.link.close(finished=finished)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.link.__exit__(kind, error, traceback)
