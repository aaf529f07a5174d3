"""What a notebook shows of a run, asked again and again in a thread; free of any widget."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.dashboard.feed import Feed, Table
from bridge.dashboard.units import shown_of, with_unit
from bridge.errors import ConfigError, HeadraceError

__all__ = ["Message", "Pump", "Question"]

log = logging.getLogger(__name__)

Message = tuple[dict[str, Any], list[bytes]]
"""Plain data, and the bytes of the arrays that it names."""

GRACE = 2.0
"""Seconds that a run which is over is given to be read to its end."""
PATIENCE = 5.0
"""Seconds after which a message counts as lost: a kernel that computes hears no answers."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown: see `bridge.notebook.watch`."""

    x: str = ""
    y: str = ""
    colour: str = "time"
    series: tuple[str, ...] = ()
    simulations: tuple[str, ...] | None = None
    points: int = 20_000
    rows: int = 1000

    def __post_init__(self) -> None:
        if bool(self.x) != bool(self.y):
            raise ConfigError("Name both columns of the reduced space, x and y, or neither.")
        if self.points < 1 or self.rows < 2:
            raise ConfigError("A picture has at least one point, and two rows of a series.")


class Pump:
    """Reads a feed and hands on what is new, one message at a time.

    Parameters
    ----------
    feed
        The run.
    question
        What is shown.
    every
        Seconds between two messages at least.
    seconds
        Time limit of the thread.
    owns
        Whether the feed is closed at the end.

    Attributes
    ----------
    sent
        Messages handed on.
    """

    def __init__(
        self,
        feed: Feed,
        question: Question,
        *,
        every: float = 0.5,
        seconds: float = 12 * 3600.0,
        owns: bool = False,
    ) -> None:
        if not every > 0 or not seconds > 0:
            raise ConfigError("The times of a live view, every and seconds, are above 0.")
        self.sent = 0
        self._feed = feed
        self._question = question
        self._every = every
        self._seconds = seconds
        self._owns = owns
        self._send: Callable[[dict[str, Any], list[bytes]], None] = lambda content, buffers: None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch-notebook", daemon=True)
        self._in_flight = False
        self._sent_at = 0.0
        self._cursors: dict[str, Any] = {}
        self._status: dict[str, Any] = {}
        self._why = ""

    @property
    def running(self) -> bool:
        """Whether the run is still followed."""
        return self._thread.is_alive()

    @property
    def why_ended(self) -> str:
        """Why it is followed no more; empty while it is."""
        return self._why

    def start(self, send: Callable[[dict[str, Any], list[bytes]], None]) -> None:
        """Begin; `send` is called in the thread, and by `hear` after its end."""
        self._send = send
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """End; waits for the thread. Calling it again does nothing."""
        self._why = self._why or "It was told to stop."
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the run is followed no more; return whether that is so."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def hear(self, content: Mapping[str, Any]) -> None:
        """Take in what the browser says: that it is there (again), or done with a message."""
        if content.get("kind") == "hello":
            with self._lock:
                self._cursors.clear()
                self._status = {}
                self._in_flight = False
            if self.running:
                self._wake.set()
            else:
                # The feed remembers what it read: a page that is opened late sees the last picture.
                self._tick()
        elif content.get("kind") == "ack":
            with self._lock:
                self._in_flight = False

    # ------------------------------------------------------------- thread

    def _run(self) -> None:
        end = time.monotonic() + self._seconds
        ended = None
        try:
            while not self._stop.is_set():
                if self._feed.run()["state"] == "ended":
                    ended = time.monotonic() if ended is None else ended
                else:
                    ended = None
                over = ended is not None and (
                    self._feed.wait_until_read(0.0) or time.monotonic() - ended > GRACE
                )
                if time.monotonic() > end:
                    self._why = f"The time limit of {self._seconds:g} s is over."
                    over = True
                elif over:
                    self._why = "The run is over."
                if self._tick(last=over) and over:
                    return
                self._wake.wait(self._every)
                self._wake.clear()
        except Exception as error:
            self._why = str(error)
            log.exception("A run cannot be shown any further.")
        finally:
            if self._owns:
                self._feed.close()

    def _tick(self, *, last: bool = False) -> bool:
        """Send what is new; return whether everything was handed on."""
        with self._lock:
            late = time.monotonic() - self._sent_at > PATIENCE
            if self._in_flight and not late and not last:
                return False
            content, buffers = self._make()
            if not buffers and content["status"] == self._status:
                return True
            self._status = content["status"]
            self._in_flight, self._sent_at = True, time.monotonic()
            self.sent += 1
            content["number"] = self.sent
        self._send(content, buffers)
        return True

    def _make(self) -> Message:
        run, totals = self._feed.run(), self._feed.overview()["totals"]
        content: dict[str, Any] = {"kind": "update", "arrays": []}
        buffers: list[bytes] = []
        status = {
            "title": run["title"] or run["name"], "state": run["state"], "outcome": run["outcome"],
            "time_unit": run["time_unit"], "error": run.get("error", ""), "why": self._why,
            **{k: totals[k] for k in ("simulations", "frames", "dropped", "lag")},
            # That of a run which is over may not be known.
            "rate": None if totals["rate"] is None else round(totals["rate"], 1),
        }  # fmt: skip
        try:
            self._ask("points", self._points(run), run, content, buffers)
            self._ask("series", self._series(run), run, content, buffers)
        except HeadraceError as error:
            status["error"] = str(error)
        content["status"] = status
        return content, buffers

    def _points(self, run: Mapping[str, Any]) -> Callable[[Any], Table] | None:
        q, guess = self._question, run["embedding"] or {}
        x, y = q.x or guess.get("x", ""), q.y or guess.get("y", "")
        if not x or not run["columns"]:
            return None
        return lambda since: self._feed.points(
            x, y, q.colour, since=since, limit=q.points, simulations=q.simulations
        )

    def _series(self, run: Mapping[str, Any]) -> Callable[[Any], Table] | None:
        q = self._question
        results = [c for c in run["columns"] if c["source"] == "results" and c.get("kept", True)]
        single = [c["name"] for c in results if c["size"] == 1]
        # The version of a model says little over time.
        single.sort(key=lambda name: name.endswith("_version"))
        names = list(q.series) or single[:1]
        if not names or not results:
            return None
        return lambda since: self._feed.series(
            names, q.simulations, x="time", limit=q.rows, since=since
        )

    def _ask(
        self,
        kind: str,
        ask: Callable[[Any], Table] | None,
        run: Mapping[str, Any],
        content: dict[str, Any],
        buffers: list[bytes],
    ) -> None:
        if ask is None:
            return
        since = self._cursors.get(kind)
        meta, arrays = ask(since)
        reset = since is None or bool(meta.get("reset"))
        self._cursors[kind] = meta["cursor"]
        if not reset and not any(a.size for a in arrays.values()):
            return
        columns = _columns(meta)
        shown = {name: shown_of(name, run) for name in set(columns.values())}
        titles = {name: with_unit(name, unit) for name, (unit, _) in shown.items()}
        content[kind] = {**meta, "reset": reset, "titles": titles}
        for name, array in arrays.items():
            if array.ndim == 1:
                content["arrays"].append({"of": kind, "name": name})
                factor = shown[columns[name]][1] if name in columns else 1.0
                buffers.append(_floats(array if factor == 1.0 else array * factor))


def _columns(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return which column the numbers of an array are of, by the array's name."""
    if "series" in meta:
        return {f"y{entry['index']}": entry["column"] for entry in meta["series"]}
    axes = {k: str(v) for k, v in meta["columns"].items() if k in ("x", "y", "colour")}
    heads = {f"head_{k}": v for k, v in axes.items() if k != "colour"}
    return axes | heads


def _floats(array: npt.NDArray[Any]) -> bytes:
    """Return the bytes of an array as float32: what a picture needs, in one type."""
    return np.ascontiguousarray(array, "<f4").tobytes()
