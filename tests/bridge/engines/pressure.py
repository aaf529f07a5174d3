"""Back pressure: simulations that are faster than a slow operator, and what is seen of it."""

from __future__ import annotations

from collections.abc import Callable

from bridge.engines.job import Job
from bridge.engines.options import JobOptions
from bridge.engines.protocol import EngineStatistics
from bridge.engines.results import read_results
from bridge.pipeline import Pipeline
from bridge.staging import StagerClient, StreamOptions
from bridge.testing.sources import END, ScriptedSource, make_frames
from tests.bridge.engines.common import read_events, read_status
from tests.bridge.engines.pipelines import Norm, Slow

FRAMES = 240
ROOM = 80
"""Frames that staging holds of each stream at most."""

_MARGIN = 48 << 20
_POLICIES = {"held": "block", "drops": "drop_oldest"}


def make_slow_job(address: str) -> Job:
    """Return a job whose workers take 4 ms for a frame."""
    pipeline = Pipeline("test", [("slow", Slow(seconds=0.004)), ("norm", Norm())])
    options = JobOptions(save_every=0.2, checkpoint_every=0.3, status_every=0.1, max_frames=16)
    return Job(pipeline, address, options=options, expected=tuple(_POLICIES))


class Pressure:
    """Two streams put as fast as they are taken: one waits for room, one lets old frames go.

    Parameters
    ----------
    address
        Of the stager.
    memory
        Returns the bytes that each worker process has at the moment.
    """

    def __init__(self, address: str, memory: Callable[[], list[int]]) -> None:
        frames = {name: make_frames(name, FRAMES, {"x": (10_000, 3)}) for name in _POLICIES}
        self._size = frames["held"].nbytes // FRAMES
        self._memory = memory
        self._before = max(memory())
        self._most = 0
        self.sources = {
            name: ScriptedSource(
                name,
                [batch, END],
                address=address,
                options=StreamOptions(_POLICIES[name], capacity=ROOM * self._size, keep=0),
                time_limit=100.0,
            ).start()
            for name, batch in frames.items()
        }

    def look(self, status: EngineStatistics) -> bool:
        """Take note of the present; true when nearly all is done."""
        self._most = max(self._most, *self._memory())
        held = status.simulations.get("held")
        return held is not None and held.position > FRAMES - ROOM

    def check(self, reader: StagerClient, last: EngineStatistics) -> None:
        """Assert that only what was let go is missing, that lag was seen, and memory bounded."""
        for source in self.sources.values():
            source.join()
        held, drops = last.simulations["held"], last.simulations["drops"]
        assert (held.position, held.frames, held.missed) == (FRAMES, FRAMES, 0)
        results = read_results(reader, "test", "held")
        assert results is not None
        assert results.offsets.tolist() == list(range(FRAMES))
        # What was let go is told of, and everything else is there, once.
        told = [e for e in read_events(reader, "gap") if e.simulation == "drops"]
        assert drops.missed == sum(event.data["count"] for event in told)
        results = read_results(reader, "test", "drops")
        assert results is not None
        gone = {i for e in told for i in range(e.data["first"], e.data["stop"])}
        for event in read_events(reader, "joined_late"):
            gone.update(range(event.data["offset"]))
        assert gone
        assert results.offsets.tolist() == [i for i in range(FRAMES) if i not in gone]
        # The simulation was never much further ahead than staging has room for; what was told of
        # its position is a little old.
        lags = [s.simulations["held"].lag for s in read_status(reader) if "held" in s.simulations]
        assert 10 < max(lags) <= 2 * ROOM, lags
        assert self._most - self._before < _MARGIN + 2 * ROOM * self._size
