"""The members of a committee: who they are at each frame, and what each says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from analytics.inference.ledger import SwapLedger
from analytics.inference.serving import Serving, serving_of
from analytics.inference.ways import Way
from bridge.errors import ConfigError, SchemaError
from bridge.frames import FrameBatch
from bridge.pipeline import Context

if TYPE_CHECKING:
    from analytics.inference.encoder import Encoder

__all__ = ["Members"]

Array = npt.NDArray[Any]


class Members:
    """Who sits in a committee.

    Parameters
    ----------
    names, registry, way, last, ledger, anchors
        See `analytics.inference.committee.Committee`; absolute paths.
    errors
        Errors of reconstruction are wanted, not coordinates.
    latent
        Number of coordinates that versions must have; 0 for any.
    poll
        Seconds between looks at the registry.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        registry: str,
        way: Way,
        *,
        last: int,
        errors: bool,
        latent: int,
        poll: float,
        ledger: str,
        anchors: str,
    ) -> None:
        self.names = names
        self.last = last
        self._registry = registry
        self._way = way
        self._errors = errors
        self._latent = latent
        self._poll = poll
        self._ledger = ledger
        self._anchors = _read_anchors(anchors, latent) if anchors else None
        self._servings: list[Serving] = []
        self._books: list[SwapLedger] = []
        self._lists: dict[int, list[int]] = {}
        self._laid: dict[tuple[str, str], Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A copy, perhaps in another process, finds the models of its own process.
        empty: dict[str, Any] = {"_servings": [], "_books": [], "_lists": {}, "_laid": {}}
        return {**self.__dict__, **empty}

    @property
    def servings(self) -> list[Serving]:
        """What follows each name in this process."""
        if not self._servings:
            self._servings = [
                serving_of(
                    self._registry,
                    name,
                    self._way,
                    errors=self._errors,
                    latent=self._latent,
                    poll=self._poll,
                )
                for name in self.names
            ]
        return self._servings

    def claim(self, batches: Sequence[FrameBatch], contexts: Sequence[Context]) -> list[Array]:
        """Return the numbers of the members for each row, int64 of shape (n, members)."""
        present = []
        for serving in self.servings:
            served = serving.current()
            present.append(0 if served is None else served.number)
            for kind, level, sentence in serving.notices():
                contexts[0].event(kind, sentence, level=level, model=serving.name)
        out = []
        for batch, context in zip(batches, contexts, strict=True):
            numbers = np.empty((len(batch), len(present)), np.int64)
            numbers[:] = present
            if self._ledger and len(batch):
                for j, book in enumerate(self._open(context)):
                    numbers[:, j] = book.claim(batch.simulation, batch.offsets, present[j])
            out.append(self._spread(numbers[:, 0]) if self.last else numbers)
        return out

    def answer(self, member: int, number: int, rows: Array, *, first: int = 0) -> Array:
        """Return what a member says as a number: coordinates (n, d), or errors (n, 1).

        `first` is the number of the first member, on which others are laid by the anchors.
        """
        encoder = self._encoder(member, number)
        coordinates, errors = encoder(rows)
        if self._errors:
            assert errors is not None
            return errors[:, None]
        if self._anchors is None or not member or not first:
            return coordinates
        return self._lay(encoder, self._encoder(0, first), coordinates)

    # ------------------------------------------------------------------ inside

    def _open(self, context: Context) -> list[SwapLedger]:
        if not self._books:
            folder = Path(self._ledger)
            self._books = [
                SwapLedger(folder, context.pipeline, f"{context.operator}.{name}")
                for name in self.names
            ]
        return self._books

    def _encoder(self, member: int, number: int) -> Encoder:
        serving = self.servings[0 if self.last else member]
        return serving.at(number).encoder

    def _spread(self, numbers: Array) -> Array:
        """Return the numbers of the last different versions up to each row's number."""
        out = np.zeros((len(numbers), self.last), np.int64)
        for number in np.unique(numbers):
            if number:
                found = self._lists.get(int(number))
                if found is None:
                    found = self._lists[int(number)] = self._find(int(number))
                out[numbers == number, : len(found)] = found
        return out

    def _find(self, number: int) -> list[int]:
        serving = self.servings[0]
        seen: set[str] = set()
        out: list[int] = []
        for earlier in range(number, 0, -1):
            version = serving.registry.at_number(serving.name, earlier).version
            if version in seen or not (earlier == number or serving.is_sound(earlier)):
                continue
            seen.add(version)
            out.append(earlier)
            if len(out) == self.last:
                break
        return out

    def _lay(self, encoder: Encoder, first: Encoder, coordinates: Array) -> Array:
        """Lay coordinates on those of the first member, as the anchors fit best."""
        key = (encoder.version, first.version)
        laid = self._laid.get(key)
        if laid is None:
            from analytics.learning.alignment import align

            assert self._anchors is not None
            laid = align(encoder(self._anchors)[0], first(self._anchors)[0])
            self._laid[key] = laid
        out: Array = laid.scale * (coordinates @ laid.rotation.numpy()) + laid.shift.numpy()
        return out


def _read_anchors(path: str, latent: int) -> Array:
    try:
        anchors: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The parameter 'anchors' names {path!r}, which cannot be read as a .npy file: {error}."
        ) from error
    if anchors.ndim < 2 or not np.isfinite(anchors).all():
        raise SchemaError(
            f"The frames in {path!r}, the parameter 'anchors', must be finite, of shape (m, ...)."
        )
    if len(anchors) <= latent:
        raise SchemaError(
            f"There are {len(anchors)} frames in {path!r}, the parameter 'anchors'; to lay "
            f"{latent} coordinates on others, at least {latent + 1} are wanted."
        )
    return anchors
