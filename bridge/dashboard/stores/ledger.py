"""The ledger of a run for a page: what changed since, how it stood at a time, bounded."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from bridge.commands import Decision, Verdict
from bridge.dashboard.stores.plain import fields, shorten
from bridge.steering import ApprovalState, Ledger, LedgerLine, state_of

__all__ = ["LedgerStore"]


class LedgerStore(Ledger):
    """Joins what the log says of commands, and knows which lines changed since when.

    Parameters
    ----------
    keep
        Lines at most; those that were touched longest ago are forgotten.

    Attributes
    ----------
    revision
        Grows with each change of a line.
    forgotten
        Lines that are not kept any more.
    """

    def __init__(self, keep: int = 20_000) -> None:
        super().__init__()
        self.revision = 0
        self.forgotten = 0
        self._keep = max(1, keep)
        self._changed: dict[str, int] = {}  # id -> revision, newest change last
        self._words: dict[str, list[tuple[float, Verdict, str]]] = {}
        self._newest: dict[str, str] = {}  # simulation -> id
        self._pauses: dict[str, dict[str, None]] = {}  # simulation -> ids of pauses and resumes

    def add_decision(self, decision: Decision) -> None:
        """Take in what the guard said, or a later word on the same command."""
        word = (decision.stamp, decision.verdict, decision.reason)
        self._words.setdefault(decision.command.id, []).append(word)
        super().add_decision(decision)

    def put(self, line: LedgerLine) -> None:
        """Take in a whole line, as a file has it."""
        if line.verdict is not None:
            self._words[line.id] = [(line.decided, line.verdict, line.verdict_reason)]
        self._put(line)

    def line(self, command: str) -> LedgerLine | None:
        """Return the line of a command."""
        return self._lines.get(command)

    def _put(self, line: LedgerLine, **changes: Any) -> None:
        if "evidence" in changes:
            changes["evidence"] = shorten(changes["evidence"])
        super()._put(line, **changes)
        self.revision += 1
        self._changed.pop(line.id, None)
        self._changed[line.id] = self.revision
        line = self._lines[line.id]
        if line.simulation:
            before = self._lines.get(self._newest.get(line.simulation, ""))
            if before is None or before.decided <= line.decided:
                self._newest[line.simulation] = line.id
            if line.kind in ("pause", "resume"):
                self._pauses.setdefault(line.simulation, {})[line.id] = None
        while len(self._lines) > self._keep:
            self._forget(next(iter(self._changed)))

    def _forget(self, command: str) -> None:
        line = self._lines.pop(command)
        del self._changed[command]
        self._words.pop(command, None)
        self._pauses.get(line.simulation, {}).pop(command, None)
        self.forgotten += 1

    # ------------------------------------------------------------------- reading

    def state_at(self, line: LedgerLine, at: float | None) -> LedgerLine | None:
        """Return a line as it stood at a time; None if there was none yet."""
        if at is None:
            return line
        if (line.decided or line.answered) > at:
            words = [w for w in self._words.get(line.id, ()) if w[0] <= at]
            if not words:
                return None
        if line.answered > at:
            line = msgspec.structs.replace(
                line, outcome=None, outcome_reason="", step=None, time=None, answered=0.0,
                latency=None, answers=0,
            )  # fmt: skip
        approval = line.approval
        if approval is not None and approval.at > at:
            approval = ApprovalState(until=approval.until, default=approval.default)
            line = msgspec.structs.replace(
                line, approval=approval, verdict="awaiting_approval", verdict_reason=""
            )
        said = [w for w in self._words.get(line.id, ()) if w[0] <= at]
        if said:
            _, verdict, reason = said[-1]
            line = msgspec.structs.replace(line, verdict=verdict, verdict_reason=reason)
        return line

    def changes(
        self, after: int = 0, limit: int = 500, at: float | None = None
    ) -> tuple[int, list[LedgerLine]]:
        """Return a revision, and the lines that changed behind another one.

        Parameters
        ----------
        after
            Lines whose last change has a greater revision, in the order of changes; with 0, the
            newest lines, in the order of their decisions.
        limit
            How many at most.
        at
            Unix time in seconds: lines as they stood then.
        """
        limit = max(1, limit)
        if not after or at is not None:
            states = (self.state_at(line, at) for line in self._lines.values())
            lines = sorted((s for s in states if s is not None), key=lambda x: x.decided)
            return self.revision, lines[-limit:]
        found: list[str] = []
        for command in reversed(self._changed):
            if self._changed[command] <= after:
                break
            found.append(command)
        found = found[::-1][:limit]
        revision = self._changed[found[-1]] if found else max(after, 0)
        return revision, [self._lines[command] for command in found]

    def last_commands(
        self, at: float | None = None, *, over: bool = False
    ) -> dict[str, dict[str, Any]]:
        """Return what the newest command to each simulation is, and what became of it.

        Parameters
        ----------
        at
            Unix time in seconds; None for now.
        over
            The run is over.
        """
        found: dict[str, LedgerLine] = {}
        if at is None:
            newest = ((s, self._lines.get(command)) for s, command in self._newest.items())
            found = {simulation: line for simulation, line in newest if line is not None}
        else:
            for line in self._lines.values():
                before = found.get(line.simulation)
                if before is not None and line.decided <= before.decided:
                    continue
                state = self.state_at(line, at)
                if state is not None:
                    found[line.simulation] = state
        return {
            simulation: {
                "id": line.id,
                "what": line.what or line.kind,
                "state": state_of(line, over=over),
                "step": line.step,
                "stamp": line.answered or line.decided,
            }
            for simulation, line in found.items()
        }

    def paused(self, simulation: str, at: float | None = None) -> bool:
        """Return whether the last pause that a simulation applied was not followed by a resume."""
        newest: tuple[float, str] = (0.0, "")
        for command in self._pauses.get(simulation, ()):
            line = self._lines[command]
            if line.outcome == "applied" and (at is None or line.answered <= at):
                newest = max(newest, (line.answered, line.kind))
        return newest[1] == "pause"

    @property
    def verdicts(self) -> dict[str, int]:
        """Verdict or outcome to number of lines that are kept."""
        return dict(Counter(state_of(x) for x in self._lines.values()))

    @staticmethod
    def as_data(line: LedgerLine) -> dict[str, Any]:
        """Return a line as plain data, with all its fields."""
        return fields(line)
