"""What was decided about models, written down, so that a trainer that goes back decides the same.

A trainer that is killed begins again at its last checkpoint and comes to the same candidates once
more; but the registry has moved on in the meantime. So each judgement is written into a file beside
the registry as soon as it is made, under a key made from what was judged, and is read there when it
comes to be made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["Judgement", "Judgements"]


class Judgement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was decided.

    Attributes
    ----------
    key
        Of what was judged.
    number
        What is served after it, as a number in the history of the name; 0 for nothing.
    version
        Of the model that was judged; of a look at the one in service, what is served after it.
    promoted
        The candidate was; of a look at the one in service, something was gone back to.
    score, served_score
        Of the candidate and of the model in service, on the same frames.
    reason
        In sentences.
    watched
        What a look at the one in service left to be remembered.
    """

    key: str
    number: int = 0
    version: str = ""
    promoted: bool = False
    score: float | None = None
    served_score: float | None = None
    reason: str = ""
    watched: dict[str, Any] = {}


class Judgements:
    """The file of judgements of one trainer.

    Parameters
    ----------
    path
        The file; its folder is made when the first judgement is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Judgement] | None = None

    def get(self, key: str, make: Callable[[], Judgement]) -> Judgement:
        """Return what was decided under a key, or decide, and write it down."""
        known = self._read()
        found = known.get(key)
        if found is None:
            found = known[key] = make()
            self._append(found)
        return found

    def _read(self) -> dict[str, Judgement]:
        if self._known is None:
            self._known = {}
            try:
                lines = self.path.read_bytes().split(b"\n")
            except FileNotFoundError:
                return self._known
            for line in lines:
                try:
                    one = msgspec.json.decode(line, type=Judgement)
                except msgspec.MsgspecError:
                    # Cut short when its writer was killed: it was not acted on.
                    continue
                self._known[one.key] = one
        return self._known

    def _append(self, judgement: Judgement) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o644)
        try:
            # A line feed first: what a killed writer left is then a line of its own.
            os.write(descriptor, b"\n" + msgspec.json.encode(judgement) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
