"""Which rows of a frame lie in which stream, and where there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import ProtocolError
from bridge.transports.adios.source import Source

__all__ = ["Piece", "find_pieces"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that one source holds, and where they go."""

    source: int
    """Which of the sources."""
    target: int
    """First row in the frame."""
    count: int
    """Number of rows."""
    rows: tuple[int, int] | None = None
    """First row and number of rows in the source's array, if that is not all of it."""
    block: int | None = None
    """Number of the block, in a variable that has only those."""


def find_pieces(sources: Sequence[Source], name: str) -> list[Piece]:
    """Return who holds which rows of a variable in the present step.

    Of several streams, each may declare the whole array and hold a part of it, and then its place
    there counts; or else their rows come one behind another, in the order of the streams.

    Raises
    ------
    ProtocolError
        If a stream lacks the variable.
    """
    if len(sources) > 1 and (placed := _find_placed(sources, name)) is not None:
        return placed
    out: list[Piece] = []
    at = 0
    for index, source in enumerate(sources):
        found = source.find(name)
        if found is None or not found.shape:
            raise ProtocolError(f"A step of {source.described} lacks the array {name!r}.")
        if found.form == "blocks":
            for number, (_, count) in enumerate(source.blocks(name)):
                out.append(Piece(index, at, count[0], block=number))
                at += count[0]
        else:
            out.append(Piece(index, at, found.shape[0]))
            at += found.shape[0]
    return out


def _find_placed(sources: Sequence[Source], name: str) -> list[Piece] | None:
    found = [source.find(name) for source in sources]
    totals = {f.shape[0] for f in found if f is not None and f.form == "array"}
    if len(totals) != 1 or any(f is None or f.form != "array" for f in found):
        return None
    out = []
    for index, source in enumerate(sources):
        for start, count in source.blocks(name):
            out.append(Piece(index, start[0], count[0], rows=(start[0], count[0])))
    out.sort(key=lambda piece: piece.target)
    at = 0
    for piece in out:
        if piece.target != at:
            return None
        at += piece.count
    return out if at == totals.pop() else None
