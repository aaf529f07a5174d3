"""What the tests of engines share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from bridge.commands import Approval, ApprovalWord, Command, Decision, Event
from bridge.engines.protocol import EngineStatistics
from bridge.engines.results import iterate_results, read_results
from bridge.frames import FrameBatch
from bridge.staging import StagerClient
from bridge.steering import read_ledger
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


def say(client: StagerClient, command: str, word: ApprovalWord) -> None:
    """Say a word on a command, as Ada does, who is gone before she can carry it out."""
    data = msgspec.msgpack.encode(Approval(command, word, "Ada"))
    client.append("approvals", [data], writer=command, first=0, stop=1)


def check_words(client: StagerClient, words: Mapping[str, ApprovalWord]) -> None:
    """Assert that Ada's words were carried out once, and that the job denied the rest at its end.

    Parameters
    ----------
    words
        Command to what she said; those that she approved must have been applied.
    """
    lines = {line.id: line for line in read_ledger(client)}
    assert words.keys() < lines.keys()
    for name, line in lines.items():
        assert line.approval is not None
        word = words.get(name, "deny")
        assert line.approval.by == ("Ada" if name in words else "the engine"), line
        applied = ("sent", "applied", 1) if word == "approve" else ("denied", None, 0)
        assert (line.verdict, line.outcome, line.answers) == applied, line
    decided: list[Decision] = read(client, "decisions", Decision)
    assert len(decided) == 2 * len(lines)
    sent = [c.id for t in client.topics("commands/") for c in read(client, t.name, Command)]
    assert sorted(sent) == sorted(name for name, word in words.items() if word == "approve")


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
