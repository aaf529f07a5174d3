"""What the report's plots need: which columns, and which frames in any case."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.runs.columns import root_of
from bridge.runs.configuration import ReportTable
from bridge.steering import LedgerLine

__all__ = ["MAX_MARKS", "applied_restarts", "marked_frames", "wanted_columns"]

MAX_MARKS = 5_000
"""Restarts whose frames are kept exactly; of more, every second, fourth... one is."""


def wanted_columns(table: ReportTable) -> set[str]:
    """Return the columns that the maps of a report show."""
    texts = [t for m in table.maps for t in (m.x, m.y, m.version) if t]
    return {root_of(text) for text in texts}


def applied_restarts(ledger: Iterable[LedgerLine]) -> list[LedgerLine]:
    """Return the restarts that took effect and name their frame; at most `MAX_MARKS`."""
    lines = [
        line
        for line in ledger
        if line.kind == "restart" and line.outcome == "applied" and line.frame is not None
    ]
    return lines[:: -(-len(lines) // MAX_MARKS) or 1]


def marked_frames(ledger: Iterable[LedgerLine]) -> dict[str, set[int]]:
    """Return the frames that walkers were restarted from: simulation to offsets."""
    marks: dict[str, set[int]] = {}
    for line in applied_restarts(ledger):
        assert line.frame is not None
        marks.setdefault(line.frame.simulation, set()).add(line.frame.offset)
    return marks
