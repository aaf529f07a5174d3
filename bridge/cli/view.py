"""What ``headrace run`` shows while it runs: a live view on a terminal, else plain lines."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bridge.cli.news import KINDS, News
from bridge.commands import Event
from bridge.runs.quantities import convert_time, pick_time_unit
from bridge.runs.supervision import Supervisor
from bridge.runs.watch import SimulationState, Snapshot

__all__ = ["LiveView", "PlainView", "describe_event", "format_time"]

_STYLES = {"info": "", "warning": "yellow", "error": "bold red", "log": "dim"}
_PHASES = {
    "starting": "yellow",
    "running": "green",
    "draining": "yellow",
    "finishing": "yellow",
    "reporting": "cyan",
    "closing": "cyan",
    "ended": "dim",
}
ROWS = 16
"""Simulations that are shown one by one; of more, the first and a line that sums up the rest."""
DECISIONS = 6
EVENTS = 4


def format_time(value: float, unit: str) -> str:
    """Return a simulated time in the unit in which it is easiest to read."""
    shown = pick_time_unit(value, unit)
    return f"{convert_time(value, unit, shown):.4g} {shown}".rstrip()


def describe_event(event: Event) -> str:
    """Return an event as one line."""
    # Who is served concerns all; whose frame came just then says nothing.
    whom = f", {event.simulation}" if event.simulation and event.kind not in KINDS else ""
    return f"{event.kind.replace('_', ' ')}{whom}: {event.message}"


class PlainView:
    """Lines, for logs and pipes: whatever is told, and a line about the state now and then.

    Parameters
    ----------
    console
        Where to write.
    every
        Seconds between two lines about the state.
    """

    def __init__(self, console: Console, *, every: float = 5.0) -> None:
        self._console = console
        self._every = every
        self._due = every
        self._phase = ""
        self._news = News()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None

    def update(self, snapshot: Snapshot, supervisor: Supervisor, elapsed: float) -> None:
        """Write a line when the phase changes and every few seconds, and what events tell."""
        for event in self._news.fresh(snapshot, elapsed):
            self.tell(describe_event(event), event.level)
        if supervisor.phase != self._phase:
            self._phase = supervisor.phase
            self._line(f"{elapsed:7.1f} s  {self._phase}")
        elif elapsed >= self._due:
            self._due = elapsed + self._every
            if supervisor.phase != "running":
                self._line(f"{elapsed:7.1f} s  {self._phase}: waiting {supervisor.waiting_for}")
                return
            rate = sum(s.rate for s in snapshot.simulations)
            lag = sum(s.lag for s in snapshot.simulations)
            applied = snapshot.counts.get("applied", 0)
            self._line(
                f"{elapsed:7.1f} s  {self._phase}: {snapshot.frames} frames, {rate:.0f}/s, "
                f"lag {lag}, {format_time(snapshot.total_time, snapshot.time_unit)} simulated, "
                f"{applied} command{'' if applied == 1 else 's'} applied"
            )

    def tell(self, message: str, level: str) -> None:
        """Write a sentence."""
        self._line(message if level in ("info", "log") else f"{level}: {message}")

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveView:
    """A picture of the run that is drawn anew a few times a second.

    Parameters
    ----------
    console
        A terminal.
    title
        Name of the run.
    """

    def __init__(self, console: Console, title: str) -> None:
        self._title = title
        self._console = console
        self._told: deque[Text] = deque(maxlen=5)
        self._live = Live(Text("Starting…"), console=console, auto_refresh=False, transient=False)
        self._drawn = 0.0
        self._phase = ""
        self._news = News()
        self._events: deque[Text] = deque(maxlen=EVENTS)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def update(self, snapshot: Snapshot, supervisor: Supervisor, elapsed: float) -> None:
        """Draw, four times a second at most."""
        now = time.monotonic()
        if now - self._drawn < 0.25 and supervisor.phase == self._phase:
            return
        self._drawn, self._phase = now, supervisor.phase
        for event in self._news.fresh(snapshot, elapsed):
            self._events.append(Text(describe_event(event), style=_STYLES[event.level]))
        self._live.update(self._draw(snapshot, supervisor, elapsed), refresh=True)

    def tell(self, message: str, level: str) -> None:
        """Show a sentence; warnings and errors stay above the picture for good."""
        text = Text(message, style=_STYLES.get(level, ""))
        if level == "info":
            self._told.append(text)
        else:
            self._live.console.print(text)

    # ------------------------------------------------------------- drawing

    def _draw(self, snapshot: Snapshot, supervisor: Supervisor, elapsed: float) -> RenderableType:
        parts: list[RenderableType] = [
            self._head(snapshot, supervisor, elapsed),
            self._simulations(snapshot, supervisor),
            self._engine(snapshot),
            self._decisions(snapshot),
        ]
        if self._events:
            parts += [Text("\nevents", style="bold"), *self._events]
        if snapshot.target is not None:
            parts.append(Text(snapshot.target.message, style="bold green"))
        if snapshot.error:
            parts.append(Text(snapshot.error, style="yellow"))
        parts += list(self._told)
        return Panel(Group(*parts), title=escape(self._title), border_style="dim")

    def _head(self, snapshot: Snapshot, supervisor: Supervisor, elapsed: float) -> Text:
        phase = supervisor.phase
        text = Text.assemble((phase, _PHASES[phase]), f"  {elapsed:.1f} s")
        total = format_time(snapshot.total_time, snapshot.time_unit)
        rate = sum(s.rate for s in snapshot.simulations)
        text.append(f"   {snapshot.frames} frames   {rate:.0f} frames/s   simulated {total}")
        if phase not in ("running", "ended"):
            text.append(f"\nwaiting {supervisor.waiting_for}", style="dim")
        return text

    def _simulations(self, snapshot: Snapshot, supervisor: Supervisor) -> Table:
        table = Table(box=None, pad_edge=False, expand=True, header_style="bold")
        table.add_column("simulation")
        table.add_column("state")
        for heading in ("step", "time", "restarts", "frames", "frames/s", "lag", "drops"):
            table.add_column(heading, justify="right")
        shown = snapshot.simulations[:ROWS]
        for s in shown:
            table.add_row(*_row(s))
        rest = snapshot.simulations[ROWS:]
        if rest:
            table.add_row(
                f"{len(rest)} more",
                "",
                "",
                format_time(sum(s.time for s in rest), rest[0].time_unit),
                str(sum(s.epoch for s in rest)),
                str(sum(s.frames for s in rest)),
                f"{sum(s.rate for s in rest):.0f}",
                str(sum(s.lag for s in rest)),
                str(sum(s.dropped for s in rest)),
            )
        return table

    def _engine(self, snapshot: Snapshot) -> Text:
        engine = snapshot.engine
        if engine is None:
            return Text("\nengine  not heard of yet", style="dim")
        busy = sum(engine.seconds.values()) / engine.uptime if engine.uptime else 0.0
        text = Text.assemble(
            ("\nengine  ", "bold"),
            f"{engine.state}   {engine.frames} frames   {engine.rate:.0f} frames/s   "
            f"lag {engine.lag}   busy {100 * busy:.0f} %   checkpoints {engine.checkpoints}",
        )
        if engine.quarantined:
            text.append(f"   quarantined {engine.quarantined}", style="yellow")
        return text

    def _decisions(self, snapshot: Snapshot) -> RenderableType:
        counts = snapshot.counts
        told = ", ".join(f"{n} {name.removeprefix('decided: ')}" for name, n in counts.items())
        head = Text.assemble(("decisions  ", "bold"), told or "none yet")
        if not snapshot.decisions:
            return head
        table = Table(box=None, pad_edge=False, show_header=False, expand=True)
        table.add_column(width=10, no_wrap=True)
        table.add_column(width=8, no_wrap=True)
        table.add_column(width=22, no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for decision in snapshot.decisions[-DECISIONS:]:
            answer = snapshot.outcomes.get(decision.command.id)
            became, style = decision.verdict, "yellow"
            if decision.verdict == "sent":
                became, style = "sent", "dim"
            if answer is not None:
                at = f" at {answer.step}" if answer.step >= 0 else ""
                became = f"{answer.outcome}{at}"  # type: ignore[assignment]
                style = "green" if answer.outcome == "applied" else "red"
            command = decision.command
            table.add_row(
                escape(command.simulation),
                command.kind,
                Text(became, style=style),
                escape(command.reason),
            )
        return Group(head, table)


def _row(s: SimulationState) -> tuple[RenderableType, ...]:
    state, style = ("finished", "dim") if s.finished else ("running", "green")
    if not s.finished and not s.connected:
        state, style = "away", "yellow"
    return (
        escape(s.name),
        Text(state, style=style),
        str(s.step) if s.step >= 0 else "",
        format_time(s.time, s.time_unit),
        str(s.epoch),
        str(s.frames),
        f"{s.rate:.0f}",
        str(s.lag),
        Text(str(s.dropped), style="yellow" if s.dropped else ""),
    )
