"""A policy of one's own: go through feed rates, each for as long as the pattern still changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bridge.errors import ConfigError
from bridge.frames import FrameBatch
from bridge.pipeline import Context, GlobalOperator

__all__ = ["FeedRamp"]


class FeedRamp(GlobalOperator):
    """Set the next feed rate when the reduced field has come to rest, and stop after the last one.

    Parameters
    ----------
    input
        Column of the reduced field, of shape (n, components), whose version is in
        ``<input>_version``.
    rate
        Column of the feed rate, of shape (n,): frames from before a command was applied are
        passed over.
    rates
        Feed rates to go through, after the one that the simulation begins with.
    window
        Frames between the two that are compared.
    tolerance
        The field is at rest when it has moved by less than this part of its distance from the
        origin of the components.
    patience
        Frames after which to go on all the same.
    """

    def __init__(
        self,
        *,
        rates: Sequence[float],
        input: str = "pca",
        rate: str = "F",
        window: int = 10,
        tolerance: float = 0.02,
        patience: int = 200,
    ) -> None:
        if not rates or window < 1 or patience <= window:
            raise ConfigError("FeedRamp needs 'rates', and a 'patience' above 'window' above 0.")
        self.rates = tuple(float(r) for r in rates)
        self.input, self.rate = input, rate
        self.window, self.tolerance, self.patience = window, tolerance, patience
        self._states: dict[str, dict[str, Any]] = {}

    def reads(self) -> tuple[str, ...]:
        """Return the columns that `process` reads."""
        return (self.input, f"{self.input}_version", self.rate)

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Look at each frame."""
        state = self._states.setdefault(batch.simulation, {"done": 0, "seen": []})
        versions = batch[f"{self.input}_version"]
        for row in range(len(batch)):
            done = state["done"]
            if done > len(self.rates) or (
                done and float(batch[self.rate][row]) != self.rates[done - 1]
            ):
                continue
            seen = state["seen"]
            seen.append([int(versions[row]), *map(float, batch[self.input][row])])
            if self._rests(seen):
                self._go_on(batch.simulation, state, int(batch.offsets[row]), context)
        return batch

    def _rests(self, seen: list[list[float]]) -> bool:
        if len(seen) > self.patience:
            return True
        # Components of different versions are not the same quantities; 0 is no model yet.
        if len(seen) <= self.window or not seen[-1][0] == seen[-1 - self.window][0] > 0:
            return False
        now, then = np.array(seen[-1][1:]), np.array(seen[-1 - self.window][1:])
        return bool(np.linalg.norm(now - then) < self.tolerance * np.linalg.norm(now))

    def _go_on(self, name: str, state: dict[str, Any], at: int, context: Context) -> None:
        number, frames = state["done"], len(state["seen"])
        state["done"], state["seen"] = number + 1, []
        if number == len(self.rates):
            context.command(
                "stop", name, reason="The pattern of the last feed rate is there.", at=at
            )
            return
        value = self.rates[number]
        reason = f"The pattern has come to rest after {frames} frames; now with F = {value:g}."
        context.command("set", name, parameter="F", value=value, reason=reason, at=at)

    def save(self) -> dict[str, Any]:
        """Return how far each simulation has come."""
        return {"states": self._states}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self._states = {name: dict(s) for name, s in state["states"].items()}
