"""Candidates before the gate, and the model in service on the newest frames."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from analytics.learning.alignment import Alignment, align
from analytics.learning.judgements import Judgement, Judgements
from analytics.learning.model import StreamModel
from analytics.learning.registry import Loaded, Registry, Served
from analytics.learning.registry.gate import Gate, HeldOut
from analytics.learning.registry.lifecycle import Lifecycle
from analytics.learning.tensors import save_model
from analytics.learning.watching import encode
from bridge.config import build
from bridge.errors import HeadraceError
from bridge.pipeline import Context

__all__ = ["Judge"]

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]

_ANCHORS = 4096  # frames on which coordinates of two versions are laid over each other


class Judge:
    """What becomes of candidates, of the model in service, and what is told of it.

    Judgements are written down (see `analytics.learning.judgements`), so that a trainer which goes
    back to a checkpoint comes to the same ones. What people promote in the meantime is taken up at
    the next judgement.

    Parameters
    ----------
    folder
        Of the registry.
    name
        Under which versions are kept there.
    gate
        Parameters of `analytics.learning.registry.gate.Gate`.
    author
        Who judges, for the history.

    Attributes
    ----------
    number
        Of what is served, in the history of the name; 0 for nothing yet.
    score
        Of the newest candidate, on samples that were held out; 0 before there was one.

    Raises
    ------
    ConfigError
        If the gate refuses its parameters.
    """

    def __init__(
        self, folder: Path, name: str, *, gate: Mapping[str, Any], author: str = "train"
    ) -> None:
        self.registry = Registry(folder)
        self.name = name
        self.gate = build(Gate, gate, "The parameter 'gate' of train")
        self.number = 0
        self.score = 0.0
        self._lifecycle = Lifecycle(self.registry, name, self.gate, author=author)
        self._judgements = Judgements(folder / "trainers" / f"{name}.jsonl")
        self._loaded: Loaded | None = None

    @property
    def window(self) -> int:
        """How many samples one look at the model in service takes."""
        return self.gate.window

    # -------------------------------------------------------------- candidates

    def consider(
        self,
        model: StreamModel,
        held: Arrays,
        training: Arrays,
        context: Context,
        *,
        trained_on: Mapping[str, Sequence[tuple[int, int]]],
        frames: int,
        updates: int,
        loss: float,
    ) -> Judgement:
        """Judge a copy of a model as it is now, and tell what came of it.

        Parameters
        ----------
        model
            What was trained.
        held, training
            Samples to judge by, and samples that it learned from; not none.
        context
            Where to tell it.
        trained_on, frames, updates, loss
            For the card.
        """
        candidate = copy.deepcopy(model).to("cpu").eval()
        with torch.no_grad():
            candidate.settle(*(torch.from_numpy(a) for a in training))
        key = _key("candidate", frames, updates, save_model(candidate).values(), held)
        fields = {"trained_on": trained_on, "frames": frames, "updates": updates}

        def decide() -> Judgement:
            served = self.registry.served(self.name)
            verdict = self._lifecycle.consider(
                candidate,
                _held_out(held),
                alignment=_align(candidate, self._load(served), held[0][:_ANCHORS]),
                metrics={"loss": loss},
                parent="" if served is None else served.version,
                **fields,
            )
            served = self.registry.served(self.name)
            return Judgement(
                key=key,
                number=0 if served is None else served.number,
                version=verdict.card.version,
                promoted=verdict.promoted,
                score=_finite(verdict.candidate),
                served_score=_finite(verdict.served),
                reason=verdict.reason,
            )

        before = self.number
        judgement = self._judgements.get(key, decide)
        self.number = judgement.number
        if judgement.score is not None:
            self.score = judgement.score
        self._tell(judgement, before, context, frames=frames, updates=updates, loss=loss)
        return judgement

    def _load(self, served: Served | None) -> Loaded | None:
        """Return what is served, None where it is missing or damaged: it then counts as none."""
        if served is None:
            return None
        if self._loaded is None or self._loaded.card.version != served.version:
            try:
                self._loaded = self.registry.load(served.version)
            except HeadraceError:
                return None
        return self._loaded

    def _tell(self, judgement: Judgement, before: int, context: Context, **numbers: Any) -> None:
        short = judgement.version[:12]
        data: dict[str, Any] = {**numbers, "version": judgement.version, "number": judgement.number}
        data |= {
            name: value
            for name, value in (
                ("score", judgement.score),
                ("score_before", judgement.served_score),
            )
            if value is not None
        }
        context.event(
            "candidate",
            f"The model {self.name!r} after {numbers['updates']} updates is the candidate {short}.",
            **data,
        )
        if not judgement.promoted:
            said = f"The candidate {short} is refused. {judgement.reason}"
            context.event("refused", said, **data)
            return
        if not before:
            said = f"There is a first model {self.name!r}: {short}."
            context.event("first_model", said, **data)
        context.event(
            "promoted",
            f"The candidate {short} is served as number {judgement.number} of {self.name!r} from "
            f"now on. {judgement.reason}",
            **data,
        )

    # ------------------------------------------------------------------ service

    def watch(self, samples: Arrays, context: Context, *, frames: int) -> None:
        """Look at the model in service on the newest samples, and go back if it does badly.

        Parameters
        ----------
        samples
            So many as `window` says.
        context
            Where to tell it.
        frames
            Number of frames seen.
        """
        if not self.number:
            return
        key = _key("watch", frames, self.number, samples)

        def decide() -> Judgement:
            back = self._lifecycle.watch(*samples)
            served = self.registry.served(self.name)
            return Judgement(
                key=key,
                number=0 if served is None else served.number,
                version="" if served is None else served.version,
                promoted=back is not None,
                reason=self._lifecycle.said,
                watched=self._lifecycle.save(),
            )

        before = self.number
        judgement = self._judgements.get(key, decide)
        self._lifecycle.restore(judgement.watched)
        self.number = judgement.number
        if self.number == before:
            return
        data: dict[str, Any] = {
            "version": judgement.version, "number": self.number, "frames": frames,
        }  # fmt: skip
        said = f"{judgement.version[:12]} is served as number {self.number} of {self.name!r}"
        if judgement.promoted:
            said = f"{said} again. {judgement.reason}"
            context.event("rolled_back", said, level="warning", **data)
        else:
            context.event("version_changed", f"{said} now; somebody else saw to that.", **data)

    def in_service(self) -> Loaded | None:
        """Return the model of `number`, None where there is none or it is damaged."""
        return self._load(self.registry.at_number(self.name, self.number) if self.number else None)

    # ------------------------------------------------------------------- state

    def save(self) -> dict[str, Any]:
        """Return the state as plain data."""
        # Whole windows are looked at: nothing of one is left over.
        return {"number": self.number, "score": self.score, "watched": self._lifecycle.save()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `save` returned."""
        self.number = int(state["number"])
        self.score = float(state["score"])
        self._lifecycle.restore(state["watched"])


def _held_out(samples: Arrays) -> HeldOut:
    return HeldOut(samples[0], samples[1] if len(samples) > 1 else None)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _align(candidate: StreamModel, loaded: Loaded | None, anchors: Array) -> Alignment | None:
    """Lay a candidate's coordinates on those in service."""
    if loaded is None or not len(anchors) or loaded.model.latent != candidate.latent:
        return None
    if loaded.model.input_shape != candidate.input_shape:
        return None
    if candidate.supervised:
        # Answers mean what they mean.
        return None
    new = encode(candidate, anchors)
    old = encode(loaded.model, anchors, loaded.alignment)
    if not (np.isfinite(new).all() and np.isfinite(old).all()):
        return None
    return align(new, old, candidate.aligned_by)


def _key(kind: str, *parts: Any) -> str:
    """Return a key of numbers and arrays."""
    digest = xxhash.xxh3_128()
    for part in parts:
        for value in part if isinstance(part, Iterable) else (part,):
            array = np.ascontiguousarray(value)
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(array.tobytes())
    return f"{kind} {digest.hexdigest()}"
