"""How long it took from a frame to its decision, and to the command that took effect.

Three stamps make it up, all of them in the log: that of the frame which caused the decision, the
decision's, and the acknowledgement's. Each is of the clock of whoever wrote it: the simulation, the
engine, the simulation. On several nodes a time is as good as their clocks agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice

from bridge.staging.client import StagerClient
from bridge.steering import LedgerLine

__all__ = ["find_cause", "read_put_times"]

MOST = 2000
"""Decisions whose frames are looked up; each takes a request."""


def find_cause(command: str, simulations: Collection[str]) -> tuple[str, int] | None:
    """Return the frame that caused a command, by its id: the simulation and the offset.

    Parameters
    ----------
    command
        Made by an engine, see `bridge.engines.outcome.number_commands`; there is none in others.
    simulations
        Those whose frames are looked for.
    """
    head, _, place = command.rpartition("@")
    offset = place.partition("#")[0]
    parts = head.split("/")
    # After those of pipeline and operator: names of simulations may have slashes, too.
    names = ("/".join(parts[i:]) for i in range(2, len(parts)))
    name = next((n for n in names if n in simulations), None)
    return None if name is None or not offset.isdecimal() else (name, int(offset))


def read_put_times(client: StagerClient, lines: Iterable[LedgerLine]) -> dict[str, float]:
    """Return when the frames were put that caused commands: id to Unix time.

    Only of frames that staging still holds, and of the newest `MOST` decisions that an engine made.
    Frames that were sent together bear the stamp of the newest of them.
    """
    topics = {t.name.removeprefix("frames/"): t for t in client.topics("frames/", schemas=False)}
    caused = ((line.id, find_cause(line.id, topics)) for line in reversed(list(lines)))
    out = {}
    for command, cause in islice(((c, f) for c, f in caused if f is not None), MOST):
        name, offset = cause
        topic = topics[name]
        if not topic.low <= offset < topic.end:
            continue
        with client.fetch({topic.name: offset}, max_frames=1, wait=0.0) as fetched:
            if fetched.batches and fetched.batches[0].first == offset:
                out[command] = fetched.stamps[0]
    return out
