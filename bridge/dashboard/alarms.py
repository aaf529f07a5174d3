"""Alarms: rules over the state of the run, raised and cleared, free of I/O."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bridge.config import parse_duration
from bridge.errors import ConfigError
from bridge.runs.dashboard_tables import AlarmTable

__all__ = ["Alarm", "Alarms", "Change", "WatchedFeed"]

LEVELS = {"info": 0, "warning": 1, "error": 2}
NON_FINITE = ("quarantined", "non_finite", "not_finite")
"""Kinds of events that tell of frames that were set aside."""
MOST = 200
"""Alarms that are shown at most."""
FLAPPING = 0.8
"""Part of a limit below which a value must fall before its alarm ends."""


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that people should look at.

    Attributes
    ----------
    id
        The same as long as it lasts.
    rule
        ``lag_above``, ``no_frame_for``, ``non_finite`` or ``event_level``.
    simulation
        Whom it concerns; empty for the run.
    level
        ``warning`` or ``error``.
    message
        One sentence.
    since
        Unix time in seconds.
    """

    id: str
    rule: str
    simulation: str
    level: str
    message: str
    since: float


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm that began or ended.

    Attributes
    ----------
    state
        ``raised`` or ``cleared``.
    run
        Name of the run.
    alarm
        Which.
    stamp
        Unix time in seconds.
    """

    state: str
    run: str
    alarm: Alarm
    stamp: float


class Alarms:
    """Which alarms there are; one thread updates, any reads.

    Parameters
    ----------
    rules
        What raises one.
    """

    def __init__(self, rules: AlarmTable) -> None:
        self._rules = rules
        self._silence = parse_duration(rules.no_frame_for) if rules.no_frame_for else 0.0
        self._hold = parse_duration(rules.hold)
        self._active: dict[str, Alarm] = {}
        # Of each simulation: frames or step seen last, and when that changed.
        self._moved: dict[str, tuple[Any, float]] = {}
        self._aside: dict[str, int] = {}
        # What happened once: until when it is shown, and what it says.
        self._until: dict[str, float] = {}
        self._told: dict[str, Alarm] = {}

    @property
    def active(self) -> list[Alarm]:
        """The worst first, then the newest."""
        found = sorted(self._active.copy().values(), key=lambda a: (-LEVELS[a.level], -a.since))
        return found[:MOST]

    def described(self) -> dict[str, Any]:
        """Return the rules, for people; of the webhook only whether there is one."""
        rules = msgspec.structs.asdict(self._rules)
        return {**rules, "webhook": bool(self._rules.webhook)}

    def update(
        self, overview: Mapping[str, Any], events: list[dict[str, Any]], now: float, run: str = ""
    ) -> list[Change]:
        """Look at the run; return what began and what ended.

        Parameters
        ----------
        overview
            State of the simulations.
        events
            Those that are new.
        now
            Unix time in seconds.
        run
            Name of the run.
        """
        found: dict[str, Alarm] = {}
        for row in overview.get("simulations", []):
            for alarm in self._check(row, now):
                found[alarm.id] = alarm
        for event in events:
            self._note(event, now)
        for id, until in list(self._until.items()):
            if now < until:
                found[id] = self._told[id]
            else:
                del self._until[id], self._told[id]
        before, self._active = self._active, found
        raised = [a for id, a in found.items() if id not in before]
        cleared = [a for id, a in before.items() if id not in found]
        return [Change(state="raised", run=run, alarm=a, stamp=now) for a in raised] + [
            Change(state="cleared", run=run, alarm=a, stamp=now) for a in cleared
        ]

    def _check(self, row: Mapping[str, Any], now: float) -> Iterator[Alarm]:
        name, state = row["name"], row.get("state", "running")
        limit = self._rules.lag_above
        lag = row.get("lag") or 0
        # One that has been raised ends well below the limit, not at each frame around it.
        bar = limit * FLAPPING if f"lag_above/{name}" in self._active else limit
        if limit and lag > bar:
            said = f"{name} is {lag} {'frame' if lag == 1 else 'frames'} ahead of the analysis."
            yield self._alarm("lag_above", name, "warning", now, said)
        moved = (row.get("frames"), row.get("step"), row.get("incarnation"))
        known = self._moved.get(name)
        if known is None or known[0] != moved or state in ("paused", "finished", "waiting"):
            known = self._moved[name] = (moved, now)
        if self._silence and now - known[1] > self._silence:
            text = f"No frame has come from {name} for {_seconds(self._silence)}."
            yield self._alarm("no_frame_for", name, "error", now, text)
        if self._rules.non_finite:
            count = int(row.get("quarantined") or 0)
            if count > self._aside.get(name, 0):
                self._hold_up(
                    "non_finite", name, "error", now,
                    f"{count} frames of {name} were set aside, as they hold values that are not "
                    "finite or an operator failed on them.",
                )  # fmt: skip
            self._aside[name] = count

    def _note(self, event: Mapping[str, Any], now: float) -> None:
        wanted = self._rules.event_level
        level = str(event.get("level", "info"))
        if wanted == "off" or LEVELS.get(level, 0) < LEVELS[wanted]:
            return
        stamp = float(event.get("stamp") or now)
        if now - stamp > self._hold:
            # An old one, read late.
            return
        shown = "error" if level == "error" else "warning"
        kind, simulation = str(event.get("kind", "event")), str(event.get("simulation", ""))
        self._hold_up(f"event/{kind}", simulation, shown, now, str(event.get("message", kind)))

    def _hold_up(self, rule: str, name: str, level: str, now: float, message: str) -> None:
        alarm = self._alarm(rule, name, level, now, message)
        self._told[alarm.id] = alarm
        self._until[alarm.id] = now + self._hold

    def _alarm(self, rule: str, name: str, level: str, now: float, message: str) -> Alarm:
        id = f"{rule}/{name}"
        known = self._active.get(id)
        since = now if known is None else known.since
        word = "event_level" if rule.startswith("event/") else rule
        return Alarm(id=id, rule=word, simulation=name, level=level, message=message, since=since)


def _seconds(value: float) -> str:
    if value >= 120 and math.isclose(value % 60, 0.0):
        return f"{value / 60:g} minutes"
    return f"{value:g} s"


class WatchedFeed:
    """A feed that also tells of alarms; everything else is as it was.

    Parameters
    ----------
    feed
        The run.
    alarms
        Its alarms.
    """

    def __init__(self, feed: Any, alarms: Alarms) -> None:
        self._feed = feed
        self._alarms = alarms
        self._last: int | None = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)

    def run(self) -> dict[str, Any]:
        """Return what the run is, with the rules of its alarms."""
        return {**self._feed.run(), "alarms": self._alarms.described()}

    def overview(self, at: float | None = None) -> dict[str, Any]:
        """Return the feed's overview; that of now has the alarms."""
        found: dict[str, Any] = self._feed.overview(at)
        if at is not None:
            return found
        ours = [msgspec.structs.asdict(alarm) for alarm in self._alarms.active]
        return {**found, "alarms": [*found.get("alarms", []), *ours]}

    def of_run(self, name: str) -> Any:
        """Return the feed of another run that is shown beside this one.

        Raises
        ------
        ConfigError
            If there is none of that name.
        """
        find = getattr(self._feed, "of_run", None)
        if find is None:
            raise ConfigError(
                f"There is no run {name!r} to compare with; name some with --compare when the "
                "dashboard is started."
            )
        return find(name)

    def look(self) -> list[Change]:
        """Look for alarms; return what began and what ended. Called about once a second."""
        with self._lock:
            facts = self._feed.run()
            if facts.get("state") in ("ended", "waiting"):
                return self._alarms.update({}, [], time.time(), facts.get("name", ""))
            found = self._feed.events(after=self._last or 0, limit=1000)
            self._last = found["last"]
            overview = self._feed.overview()
            return self._alarms.update(
                overview, found["events"], time.time(), facts.get("name", "")
            )
