"""What an engine counts, and how its numbers are told."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping

from bridge.engines.protocol import EngineState, EngineStatistics, SimulationProgress
from bridge.frames import FrameBatch
from bridge.staging.messages import StreamOptions

__all__ = ["STATUS", "Progress"]

STATUS = StreamOptions(when_full="drop_oldest", capacity=4 << 20)
"""How staging keeps the topic of statuses."""

_WINDOW = 5.0  # seconds over which the rate is taken
_LATENCIES = 1000  # batches over which the latencies are taken


class _Simulation:
    """Mutable counterpart of `SimulationProgress`."""

    __slots__ = ("end", "finished", "frames", "missed", "position", "quarantined", "step", "time")

    def __init__(self) -> None:
        self.position = 0
        self.end = 0
        self.step = -1
        self.time = 0.0
        self.frames = 0
        self.quarantined = 0
        self.missed = 0
        self.finished = False

    def frozen(self) -> SimulationProgress:
        return SimulationProgress(
            self.position,
            max(0, self.end - self.position),
            self.step,
            self.time,
            self.frames,
            self.quarantined,
            self.missed,
            self.finished,
        )


class Progress:
    """Counters of one engine; one thread counts, any thread may ask.

    Parameters
    ----------
    pipeline, engine
        Name of the pipeline, and kind of engine.
    """

    def __init__(self, pipeline: str, engine: str) -> None:
        self.state: EngineState = "starting"
        self.checkpoints = 0
        self._pipeline = pipeline
        self._engine = engine
        self._lock = threading.Lock()
        self._simulations: dict[str, _Simulation] = {}
        self._began = time.monotonic()
        self._frames = 0
        self._batches = 0
        self._quarantined = 0
        self._replayed = 0
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._marks: deque[tuple[float, int]] = deque([(self._began, 0)])

    def _of(self, simulation: str) -> _Simulation:
        found = self._simulations.get(simulation)
        if found is None:
            found = self._simulations[simulation] = _Simulation()
        return found

    def count(
        self, batch: FrameBatch, quarantined: int, *, put: float = 0.0, replayed: bool = False
    ) -> None:
        """Count a batch that was analysed just now, whose newest frame was `put` then."""
        self.advance(
            batch.simulation,
            batch.stop,
            frames=len(batch),
            quarantined=quarantined,
            last=(int(batch.steps[-1]), float(batch.times[-1])),
            put=put,
            replayed=replayed,
        )

    def advance(
        self,
        simulation: str,
        position: int,
        *,
        frames: int,
        quarantined: int,
        last: tuple[int, float] | None = None,
        put: float = 0.0,
        replayed: bool = False,
    ) -> None:
        """Count frames that were analysed just now.

        Parameters
        ----------
        simulation
            Whose.
        position
            Offset after the last of them.
        frames, quarantined
            How many came, and how many of them were set aside.
        last
            Step and time of the newest one, where known.
        put
            Unix time at which the newest one was put; 0 where unknown.
        replayed
            They were analysed before.
        """
        with self._lock:
            one = self._of(simulation)
            one.position = position
            one.end = max(one.end, position)
            if last is not None:
                one.step, one.time = last
            one.frames += frames
            one.quarantined += quarantined
            self._frames += frames
            self._batches += 1
            self._quarantined += quarantined
            self._replayed += frames if replayed else 0
            if put and not replayed:
                self._latencies.append(max(0.0, time.time() - put))

    def adopt(
        self,
        simulation: str,
        progress: SimulationProgress,
        *,
        batches: int,
        replayed: int,
        latency: float | None,
    ) -> None:
        """Take over what a worker counted of one simulation, instead of counting here.

        Parameters
        ----------
        simulation
            Which one.
        progress
            Its numbers since the job began.
        batches, replayed
            To be added to the totals.
        latency
            Seconds from the put of the newest frame until its results were stored, if that is news.
        """
        with self._lock:
            one = self._of(simulation)
            self._frames += progress.frames - one.frames
            self._quarantined += progress.quarantined - one.quarantined
            self._batches += batches
            self._replayed += replayed
            one.position, one.step, one.time = progress.position, progress.step, progress.time
            one.end = max(one.end, one.position)
            one.frames, one.quarantined = progress.frames, progress.quarantined
            one.missed, one.finished = progress.missed, progress.finished
            if latency is not None:
                self._latencies.append(max(0.0, latency))

    def missed(self, simulation: str, first: int, stop: int) -> None:
        """Count frames that were released before they were read."""
        with self._lock:
            one = self._of(simulation)
            one.missed += stop - first
            one.position = max(one.position, stop)

    def ends(self, ends: Mapping[str, int]) -> None:
        """Take note of where the streams end at present."""
        with self._lock:
            for simulation, end in ends.items():
                self._of(simulation).end = end

    def finished(self, simulation: str, *, finished: bool = True) -> None:
        """Take note that a stream has ended, or goes on."""
        with self._lock:
            self._of(simulation).finished = finished

    def counts(self) -> dict[str, int]:
        """Return the totals that a checkpoint keeps."""
        with self._lock:
            out = {"frames": self._frames, "quarantined": self._quarantined}
            for name, one in self._simulations.items():
                out[f"frames {name}"] = one.frames
                out[f"quarantined {name}"] = one.quarantined
                out[f"missed {name}"] = one.missed
            return out

    def restore(self, counts: Mapping[str, int], positions: Mapping[str, int]) -> None:
        """Go on from the totals of a checkpoint."""
        with self._lock:
            self._frames = counts.get("frames", 0)
            self._quarantined = counts.get("quarantined", 0)
            for name, position in positions.items():
                one = self._of(name)
                one.position = one.end = position
                one.frames = counts.get(f"frames {name}", 0)
                one.quarantined = counts.get(f"quarantined {name}", 0)
                one.missed = counts.get(f"missed {name}", 0)
            self._marks = deque([(time.monotonic(), self._frames)])

    def statistics(
        self,
        seconds: Mapping[str, float],
        verdicts: Mapping[str, int],
        events: int,
        states: Mapping[str, int],
        units: Mapping[str, str],
        page: str = "",
    ) -> EngineStatistics:
        """Return the present state; call about once a second for a smooth rate."""
        now = time.monotonic()
        with self._lock:
            while len(self._marks) > 1 and self._marks[0][0] < now - _WINDOW:
                self._marks.popleft()
            since, frames = self._marks[0]
            if now - self._marks[-1][0] > 0.1:
                self._marks.append((now, self._frames))
            waited = sorted(self._latencies)
            return EngineStatistics(
                self._pipeline,
                engine=self._engine,
                state=self.state,
                frames=self._frames,
                batches=self._batches,
                rate=round((self._frames - frames) / max(now - since, 1e-3), 1),
                latency=waited[len(waited) // 2] if waited else 0.0,
                latency_99=waited[len(waited) * 99 // 100] if waited else 0.0,
                quarantined=self._quarantined,
                decisions=sum(verdicts.values()),
                sent=verdicts.get("sent", 0),
                verdicts=dict(verdicts),
                events=events,
                replayed=self._replayed,
                checkpoints=self.checkpoints,
                seconds=dict(seconds),
                states=dict(states),
                units=dict(units),
                page=page,
                simulations={n: s.frozen() for n, s in self._simulations.items()},
                uptime=now - self._began,
                stamp=time.time(),
            )
