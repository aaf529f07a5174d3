"""Who is served: candidates at the gate, and an eye on the one in service."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analytics.learning.registry.cards import Card
from analytics.learning.registry.gate import Array, Comparison, Gate, HeldOut, compare, score
from analytics.learning.registry.history import Served
from analytics.learning.registry.store import Registry
from bridge.errors import HeadraceError, Overtaken

if TYPE_CHECKING:
    from analytics.learning.model import StreamModel

__all__ = ["Lifecycle", "Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a candidate.

    Attributes
    ----------
    promoted
        Whether it is what is served now.
    reason
        Sentences with the numbers.
    candidate, served
        Scores of it and of what was served, on the same held-out frames; None where there was
        nothing to score.
    card
        Of the candidate, which is stored in any case.
    entry
        Its place in the history; None if it has none.
    """

    promoted: bool
    reason: str
    candidate: float | None
    served: float | None
    card: Card
    entry: Served | None = None


class Lifecycle:
    """Judges the models of one name; one thread uses it.

    It asks nothing but the registry: no clock, no random numbers. The same frames and the same
    registry give the same verdicts. A candidate that was promoted before is not judged anew, so
    that a trainer which was killed and goes on from its last checkpoint does nothing twice.

    Parameters
    ----------
    registry, name
        Where, and whose.
    gate
        By what measure.
    author
        Who says so, for the history.
    """

    def __init__(
        self, registry: Registry, name: str, gate: Gate | None = None, *, author: str = ""
    ) -> None:
        self.registry = registry
        self.name = name
        self.gate = gate or Gate()
        self.author = author
        self.said = ""
        """What the last look at the model in service showed, in a sentence."""
        self._models: dict[str, StreamModel] = {}
        self._xs: list[Array] = []
        self._ys: list[Array] = []
        self._number = 0
        self._baseline: float | None = None
        self._fallen = False
        self._worse = 0

    # --------------------------------------------------------------- candidates

    def consider(self, candidate: StreamModel, held_out: HeldOut, **fields: Any) -> Verdict:
        """Store a candidate, and promote it if it is better than the model in service.

        Parameters
        ----------
        candidate
            Left as it was.
        held_out
            Recent frames that neither of them has learned from.
        **fields
            Further arguments of `Registry.add`.

        Raises
        ------
        HeadraceError
            What `Registry.add` and `Registry.promote` raise. A damaged model in service is no
            error: it counts as none.
        """
        own = score(candidate, held_out) if len(held_out) >= candidate.least else math.nan
        metrics = {**fields.pop("metrics", {}), "score": own, "held_out": len(held_out)}
        card = self.registry.add(self.name, candidate, metrics=metrics, **fields)
        history = self.registry.history(self.name)
        for entry in reversed(history):
            if entry.version == card.version:
                return self._known(card, entry, serves=entry is history[-1])
        if few := self._find_lack(held_out, candidate):
            return Verdict(False, few, None, None, card)
        if not math.isfinite(own):
            return Verdict(False, f"Not promoted: its score is {own}.", own, None, card)
        if not history:
            return self._first(card, own)
        return self._against(candidate, card, held_out, history[-1])

    def _find_lack(self, held_out: HeldOut, model: StreamModel) -> str:
        """Return why frames are too few to judge a model by; nothing if they are not."""
        # To compare, up to half of them are left out in turn.
        wanted = max(self.gate.min_frames, 2 * model.least)
        if len(held_out) >= wanted:
            return ""
        return (
            f"Not promoted: {len(held_out)} held-out frames are too few to judge by; {wanted} are "
            "wanted."
        )

    def _known(self, card: Card, entry: Served, *, serves: bool) -> Verdict:
        told = f"It was promoted before, as number {entry.number}"
        told += ", and is served." if serves else ", and something else is served since."
        return Verdict(serves, told, card.metrics.get("score"), None, card, entry)

    def _first(self, card: Card, own: float) -> Verdict:
        floor = self.gate.floor
        if floor is not None and own < floor:
            said = f"Not promoted: it scores {own:.4g}, and the first must score {floor:.4g}."
            return Verdict(False, said, own, None, card)
        return self._promote(card, f"The first of its name; it scores {own:.4g}", own, None, 0)

    def _against(
        self, candidate: StreamModel, card: Card, held_out: HeldOut, served: Served
    ) -> Verdict:
        try:
            model = self._load(served.version)
            if model.kind != candidate.kind and not self.gate.across_kinds:
                said = (
                    f"Not promoted: it is of the kind {candidate.kind!r}, and {model.kind!r} is "
                    "served; their scores cannot be compared. Promote it by hand."
                )
                return Verdict(False, said, card.metrics["score"], None, card)
            if few := self._find_lack(held_out, model):
                return Verdict(False, few, card.metrics["score"], None, card)
            result = compare(candidate, model, held_out, self.gate)
        except HeadraceError as error:
            own = card.metrics["score"]
            why = f"What is served cannot be used ({str(error).rstrip('.')}); this scores {own:.4g}"
            return self._promote(card, why, own, None, served.number)
        if not math.isfinite(result.served):
            why = f"What is served scores {result.served}; this scores {result.candidate:.4g}"
            return self._promote(card, why, result.candidate, result.served, served.number)
        told = _numbers(result, self.gate)
        better = result.difference >= self.gate.margin * abs(result.served)
        if better and result.low > 0.0:
            return self._promote(card, told, result.candidate, result.served, served.number)
        lacks = "that is not sure" if better else f"{100 * self.gate.margin:.3g} % are wanted"
        said = f"Not promoted: {told}; {lacks}."
        return Verdict(False, said, result.candidate, result.served, card)

    def _promote(
        self, card: Card, why: str, own: float, served: float | None, after: int
    ) -> Verdict:
        metrics = {"score": own} if served is None else {"score": own, "score_before": served}
        try:
            entry = self.registry.promote(
                self.name, card.version, reason=f"{why}.", metrics=metrics,
                author=self.author, after=after,
            )  # fmt: skip
        except Overtaken as error:
            return Verdict(False, f"Not promoted: {error}", own, served, card)
        return Verdict(True, f"{why}.", own, served, card, entry)

    # --------------------------------------------------------------- in service

    def watch(self, x: Array, y: Array | None = None) -> Served | None:
        """Look at how the model in service does on new frames, and take it back if it does badly.

        Frames are gathered until there are `Gate.window` of them; `said` tells what they showed.

        Parameters
        ----------
        x, y
            New frames that it has not learned from, in order of time; see `HeldOut`.

        Returns
        -------
        Served or None
            What was gone back to; None in all other cases, also where the registry failed, which
            `said` tells.
        """
        served = self.registry.served(self.name)
        if served is None:
            return None
        if served.number != self._number:
            self._begin(served)
        self._xs.append(np.array(x))
        if y is not None:
            self._ys.append(np.array(y))
        if sum(map(len, self._xs)) < self.gate.window:
            return None
        window = HeldOut(np.concatenate(self._xs), np.concatenate(self._ys) if self._ys else None)
        self._xs, self._ys = [], []
        try:
            return self._look(served, window)
        except HeadraceError as error:
            # Training goes on; at the next window it is tried again.
            self.said = f"Number {served.number} cannot be looked at: {error}"
            return None

    def _begin(self, served: Served) -> None:
        self._number = served.number
        self._baseline = served.metrics.get("score")
        self._fallen, self._worse = False, 0
        self._xs, self._ys = [], []

    def _look(self, served: Served, window: HeldOut) -> Served | None:
        model = self._load(served.version)
        live = score(model, window)
        base = self._baseline
        if base is None or not math.isfinite(base):
            # Promoted by hand, without figures: what it shows first is what it is held to.
            self._baseline = live
            self.said = f"Number {served.number} scores {live:.4g} on new frames."
            return None
        allowed = self.gate.tolerance * abs(base) * (0.5 if self._fallen else 1.0)
        self._fallen = not live >= base - allowed
        self.said = (
            f"Number {served.number} scores {live:.4g} on {len(window)} new frames, and "
            f"{base:.4g} when it was promoted"
        )
        before = self.registry.predecessor(self.name) if self._fallen else None
        if before is None:
            self._worse = 0
            self.said += "; there is nothing to go back to." if self._fallen else "."
            return None
        old = score(self._load(before.version), window)
        better = old - live > self.gate.margin * abs(live) or not math.isfinite(live)
        if not (better and math.isfinite(old)):
            self._worse = 0
            self.said += f"; the one before it does no better ({old:.4g}): the frames changed."
            return None
        self._worse += 1
        self.said += f"; the one before it scores {old:.4g} on the same frames"
        if self._worse < self.gate.patience:
            self.said += f" ({self._worse} of {self.gate.patience} windows)."
            return None
        self.said += f", in {self._worse} windows one after the other."
        try:
            entry = self.registry.rollback(
                self.name, reason=self.said, to=before.version, author=self.author,
                metrics={"score": old, "score_before": live}, after=served.number,
            )  # fmt: skip
        except Overtaken:
            return None
        self._begin(entry)
        return entry

    # -------------------------------------------------------------------- state

    def save(self) -> dict[str, Any]:
        """Return what it remembers, as arrays and plain data."""
        state: dict[str, Any] = {
            "number": self._number,
            "baseline": self._baseline,
            "fallen": self._fallen,
            "worse": self._worse,
        }
        if self._xs:
            state["x"] = np.concatenate(self._xs)
        if self._ys:
            state["y"] = np.concatenate(self._ys)
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self._number = int(state["number"])
        self._baseline = state["baseline"]
        self._fallen, self._worse = bool(state["fallen"]), int(state["worse"])
        self._xs = [np.array(state["x"])] if "x" in state else []
        self._ys = [np.array(state["y"])] if "y" in state else []

    def _load(self, version: str) -> StreamModel:
        if version not in self._models:
            if len(self._models) > 1:
                self._models.pop(next(iter(self._models)))
            self._models[version] = self.registry.load(version).model
        return self._models[version]


def _numbers(result: Comparison, gate: Gate) -> str:
    sign = "better" if result.difference > 0 else "worse"
    said = (
        f"It scores {result.candidate:.4g} on {result.frames} held-out frames, what is served "
        f"{result.served:.4g}: {100 * abs(result.share):.3g} % {sign}"
    )
    if gate.confidence <= 0.5:
        return said  # No more is asked for, and the bound is the difference itself.
    return (
        f"{said} (with {100 * gate.confidence:.3g} % confidence, the difference of "
        f"{result.difference:.3g} is above {result.low:.3g})"
    )
