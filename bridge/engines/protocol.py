"""What an engine is, what it tells of its progress, and what it asks of whoever guards commands."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import msgspec

from bridge.commands import Command, Decision

__all__ = [
    "Engine",
    "EngineState",
    "EngineStatistics",
    "Guard",
    "OnError",
    "SimulationProgress",
    "Unguarded",
    "Until",
]

EngineState = Literal["starting", "running", "stopping", "stopped", "finished", "failed"]

OnError = Literal["stop", "skip"]
"""What becomes of frames on which an operator fails: the engine stops before them, or sets them
aside, tells so, and goes on."""

Until = Literal["finished", "stopped"]
"""Run until all streams have finished, or until `stop` is called."""


@runtime_checkable
class Guard(Protocol):
    """Whoever says whether a command may be sent."""

    def check(self, command: Command, now: float) -> Decision:
        """Return the verdict on a numbered command.

        Parameters
        ----------
        command
            With its id.
        now
            Unix time in seconds.
        """
        ...


class Unguarded:
    """The guard that lets everything pass; simulations still hold to their own bounds."""

    def check(self, command: Command, now: float) -> Decision:
        """Return the verdict ``sent``."""
        return Decision(command, "sent", stamp=now)


class SimulationProgress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far an engine is with one simulation.

    Attributes
    ----------
    position
        Offset of the next frame to be analysed.
    lag
        Frames that staging holds and that were not analysed yet, when last asked.
    step, time
        The simulation's step and time of the newest analysed frame.
    frames
        Frames that came since the engine began, those set aside included.
    quarantined
        Frames set aside because a value was not finite, or an operator failed on them.
    missed
        Frames that staging released before they were read.
    finished
        The simulation said that no more will come.
    """

    position: int = 0
    lag: int = 0
    step: int = -1
    time: float = 0.0
    frames: int = 0
    quarantined: int = 0
    missed: int = 0
    finished: bool = False


class EngineStatistics(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an engine did so far; published on the topic ``status/<pipeline>``.

    Attributes
    ----------
    pipeline, engine
        Name of the pipeline, and kind of engine.
    state
        What the engine is doing.
    frames, batches
        Frames and batches that came since the engine began.
    rate
        Frames a second, over the last few seconds.
    latency, latency_99
        Seconds from the put of a batch's newest frame until everything that follows from it was
        stored: median and 99th percentile of the last 1000 batches, by the clocks of both nodes.
    quarantined
        Frames set aside.
    decisions, sent
        Commands decided on, and those of them that were sent.
    verdicts
        Verdict to number of decisions.
    events
        Events told.
    replayed
        Frames analysed again after a restart, whose results were stored before.
    checkpoints
        Checkpoints written.
    seconds
        Operator to time spent in it, in seconds.
    states
        Operator to bytes of its state, of all simulations together, when it was last saved; without
        those that were never saved.
    units
        Column of the results to its unit; without those that have none.
    page
        Address of the engine's own page; empty if it has none.
    simulations
        Name to progress.
    uptime
        Seconds since the engine began.
    stamp
        Unix time in seconds.
    """

    pipeline: str
    engine: str = "local"
    state: EngineState = "starting"
    frames: int = 0
    batches: int = 0
    rate: float = 0.0
    latency: float = 0.0
    latency_99: float = 0.0
    quarantined: int = 0
    decisions: int = 0
    sent: int = 0
    verdicts: dict[str, int] = {}
    events: int = 0
    replayed: int = 0
    checkpoints: int = 0
    seconds: dict[str, float] = {}
    states: dict[str, int] = {}
    units: dict[str, str] = {}
    page: str = ""
    simulations: dict[str, SimulationProgress] = {}
    uptime: float = 0.0
    stamp: float = 0.0

    @property
    def lag(self) -> int:
        """Frames of all simulations that wait to be analysed."""
        return sum(s.lag for s in self.simulations.values())


class Engine(Protocol):
    """Something that runs a pipeline over the streams of a stager."""

    def run(self, until: Until = "finished") -> EngineStatistics:
        """Run, and return what was done; blocks."""
        ...

    def stop(self) -> None:
        """Ask the engine to end soon, in good order; from any thread."""
        ...

    def statistics(self) -> EngineStatistics:
        """Return what was done so far; from any thread."""
        ...
