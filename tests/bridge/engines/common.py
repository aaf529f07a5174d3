"""What the tests of engines share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from bridge.commands import Command, Decision, Event
from bridge.engines.protocol import EngineStatistics
from bridge.engines.results import iterate_results, read_results
from bridge.frames import FrameBatch
from bridge.staging import StagerClient
from bridge.testing.sources import END, ScriptedSource, make_frames

NAMES = ("a", "b", "c")


def make_streams(frames: int = 200, names: Sequence[str] = NAMES) -> dict[str, FrameBatch]:
    """Return the frames of some simulations."""
    return {name: make_frames(name, frames, {"x": (4, 3)}) for name in names}


def play(address: str, streams: dict[str, FrameBatch], **more: Any) -> list[ScriptedSource]:
    """Put whole streams, and their ends, in this thread."""
    sources = [
        ScriptedSource(name, [frames, END], address=address, **more)
        for name, frames in streams.items()
    ]
    for source in sources:
        source.play()
    return sources


def read(client: StagerClient, topic: str, kind: type[Any]) -> list[Any]:
    """Return all records of a topic."""
    found = {t.name for t in client.topics(topic)}
    out: list[Any] = []
    position = 0
    while topic in found:
        fetched = client.fetch({topic: position}, wait=0.0)
        if not fetched.records:
            break
        out += [msgspec.msgpack.decode(r.data, type=kind) for r in fetched.records]
        position = fetched.positions[topic]
    return out


def read_events(client: StagerClient, *kinds: str) -> list[Event]:
    """Return the events, of some kinds only if given."""
    return [e for e in read(client, "events", Event) if not kinds or e.kind in kinds]


def read_status(client: StagerClient, pipeline: str = "test") -> list[EngineStatistics]:
    """Return what the engine told of itself."""
    return read(client, f"status/{pipeline}", EngineStatistics)


def check_results(
    client: StagerClient,
    streams: dict[str, FrameBatch],
    *,
    pipeline: str = "test",
    without: Iterable[tuple[str, int]] = (),
    ended: Mapping[str, int] | None = None,
) -> int:
    """Assert that each frame's result is stored exactly once and right; return how many.

    The places, which a global operator counts over all simulations, must be each number once. The
    streams in `ended` had ended once, after so many frames, and their sums have begun anew.
    """
    places = []
    gone = set(without)
    for name, frames in streams.items():
        kept = frames.take(np.array([(name, int(o)) not in gone for o in frames.offsets]))
        results = read_results(client, pipeline, name)
        assert results is not None, f"There are no results of {name!r}."
        assert results.offsets.tolist() == kept.offsets.tolist()
        assert results.steps.tolist() == kept.steps.tolist()
        flat = kept["x"].reshape(len(kept), -1).astype(np.float64)
        norm = (flat * flat).sum(axis=1)
        assert np.array_equal(results["norm"], norm)
        begins = np.zeros(len(norm), int)
        begins[(ended or {}).get(name, len(norm)) :] = (ended or {}).get(name, 0)
        running = np.array([sum(norm[at : i + 1].tolist()) for i, at in enumerate(begins)])
        np.testing.assert_allclose(results["running"], running, rtol=1e-12)
        places += results["place"].tolist()
        stops = [meta["stop"] for _, meta in iterate_results(client, pipeline, name)]
        assert stops == sorted(set(stops))
    assert sorted(places) == list(range(len(places))), "The global operator lost its place."
    return len(places)


def check_commands(client: StagerClient, names: Iterable[str], *, every: int, frames: int) -> None:
    """Assert that each decision was made once, and its command sent once."""
    decisions: list[Decision] = read(client, "decisions", Decision)
    values = sorted(int(d.command.value or 0) for d in decisions)
    assert values == list(range(every - 1, frames, every))
    sent = [d.command for d in decisions if d.verdict == "sent"]
    received: list[Command] = []
    for name in names:
        theirs = read(client, f"commands/{name}", Command)
        assert all(c.simulation == name for c in theirs)
        received += theirs
    assert len({c.id for c in received}) == len(received)
    assert {c.id: c for c in received} == {c.id: c for c in sent}
