"""The order in which an engine took the batches, written ahead, so that a replay takes the same.

Offsets say what each simulation's frames are; they do not say in which order the simulations took
turns, and a global operator's answer depends on that. So an engine with a checkpoint notes each
turn before it takes it, in a journal that survives the kill of the process. After a restart it
takes the noted turns again, cut for cut: results, commands and their numbers come out the same, to
the bit, and staging drops what it already holds.

Journal ``<checkpoint>.turns-N`` holds what followed checkpoint N. The ones that the newest
checkpoint and the one before it need are kept.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path

import msgspec

from bridge.errors import CorruptSegment, VersionMismatch
from bridge.staging.journal import Journal

__all__ = ["Turn", "TurnLog"]


class Turn(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One step of an engine.

    Attributes
    ----------
    simulation
        Whose frames.
    first, stop
        Which; both the same where the stream has ended at that offset.
    known
        Simulations that operators are told of from this turn on; None if they stay the same.
    together
        With how many turns, this one included, it went through the frame operators at once; 0 for
        those after the first.
    """

    simulation: str
    first: int
    stop: int
    known: tuple[str, ...] | None = None
    together: int = 1

    @property
    def is_end(self) -> bool:
        """The stream has ended; there are no frames."""
        return self.first == self.stop


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Turn)


class TurnLog:
    """The journals of turns beside a checkpoint.

    Parameters
    ----------
    checkpoint
        Path of the checkpoint.
    """

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self._journal: Journal | None = None

    def newest(self) -> int:
        """Return the number of the newest journal, 0 if there is none."""
        return max(self._numbers(), default=0)

    def since(self, number: int) -> tuple[list[Turn], str]:
        """Return the turns noted after checkpoint `number`, and a sentence if some are lost."""
        turns: list[Turn] = []
        while (path := self._path(number)).exists():
            try:
                with Journal(path) as journal:
                    turns += [_decoder.decode(record) for record in journal.replay()]
            except (CorruptSegment, VersionMismatch, msgspec.MsgspecError) as error:
                return turns, (
                    f"The order of the turns after checkpoint {number} is lost: "
                    f"{str(error).rstrip('.')}. The frames are analysed again in another order."
                )
            number += 1
        return turns, ""

    def begin(self, number: int, *, anew: bool) -> None:
        """Note the turns that follow from now on for checkpoint `number`.

        With `anew`, what was noted for it, and for later ones, is forgotten.
        """
        self.close()
        if anew:
            self.forget(lambda n: n >= number)
        self._journal = Journal(self._path(number))
        self._journal.replay()

    def note(self, turn: Turn) -> None:
        """Write a turn ahead; it survives the kill of this process when this returns."""
        if self._journal is not None:
            self._journal.append(_encoder.encode(turn))

    def forget(self, unwanted: Callable[[int], bool]) -> None:
        """Remove the journals of the checkpoints whose number is `unwanted`."""
        for number in self._numbers():
            if unwanted(number):
                self._path(number).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the journal; more than once does no harm."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def _path(self, number: int) -> Path:
        return self._checkpoint.with_name(f"{self._checkpoint.name}.turns-{number}")

    def _numbers(self) -> list[int]:
        head = f"{self._checkpoint.name}.turns-"
        found = self._checkpoint.parent.glob(f"{glob.escape(head)}*")
        tails = [path.name.removeprefix(head) for path in found]
        return [int(tail) for tail in tails if tail.isdecimal()]
