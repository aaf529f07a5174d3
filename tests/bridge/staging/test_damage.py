"""Damaged bytes: records are passed over and told of, frames are an error that says which."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bridge.commands import Command, Event
from bridge.engines import LocalEngine
from bridge.errors import CorruptSegment
from bridge.staging import Gap, Stager, StagerClient
from bridge.staging.catalogue import Catalogue
from bridge.staging.damage import Damage
from bridge.staging.index import StoredRecord
from bridge.staging.segments import SegmentStore
from tests.bridge.engines.pipelines import make_pipeline
from tests.bridge.staging.common import frame, producer


def text(topic: str, number: int) -> bytes:
    return f"<{topic} {number}>".encode().ljust(64, b".")


def damage(folder: Path, *wanted: bytes) -> None:
    """Spoil the bytes of records, wherever they lie."""
    for segment in (folder / "segments").glob("*.segment"):
        data = segment.read_bytes()
        for one in wanted:
            data = data.replace(one, one[:-1] + b"X")
        segment.write_bytes(data)


def read(client: StagerClient, positions: dict[str, int]) -> tuple[list[bytes], list[Gap]]:
    """Read all there is, as whoever follows topics does."""
    found, gaps = [], []
    while True:
        with client.fetch(positions, wait=0.001) as got:
            found += [bytes(r.data) for r in got.records]
            gaps += got.gaps
            positions.update(got.positions)
            if all(positions[t] >= end for t, end in got.ends.items()):
                return found, gaps


def events(client: StagerClient) -> list[Event]:
    with client.fetch({"events": 0}, wait=0.001) as got:
        return [msgspec.msgpack.decode(r.data, type=Event) for r in got.records]


def test_damaged_records_keep_nobody_from_the_rest(tmp_path: Path) -> None:
    with Stager("memory://damage-a", directory=tmp_path, durable=True) as service:
        service.start()
        with StagerClient(service.address) as client:
            for topic in ("results/p/a", "decisions", "approvals"):
                client.append(topic, [text(topic, i) for i in range(10)])
    damage(
        tmp_path,
        *(text("results/p/a", i) for i in (0, 4, 5, 9)),
        *(text("approvals", i) for i in range(10)),
    )
    with Stager("memory://damage-b", directory=tmp_path, durable=True) as service:
        service.start()
        with StagerClient(service.address) as client, StagerClient(service.address) as other:
            positions = dict.fromkeys(("results/p/a", "decisions", "approvals"), 0)
            found, gaps = read(client, positions)
            whole = [text("results/p/a", i) for i in (1, 2, 3, 6, 7, 8)]
            assert sorted(found) == sorted(whole + [text("decisions", i) for i in range(10)])
            assert positions == dict.fromkeys(positions, 10)
            assert {gap.topic: gap for gap in gaps}["approvals"] == Gap("approvals", 0, 10)
            missing = {o for g in gaps if g.topic == "results/p/a" for o in range(g.first, g.stop)}
            assert missing == {0, 4, 5, 9}
            # What comes later is read, and who follows without positions has the same.
            client.append("approvals", [text("approvals", 10)])
            assert read(client, positions)[0] == [text("approvals", 10)]
            with other.fetch({}, follow="approvals", wait=0.001) as got:
                assert [r.offset for r in got.records] == [10]
            told = [e for e in events(client) if e.kind == "damaged_record"]
            assert sum(e.data["count"] for e in told) == 14, "Each is told of once."
            [approvals] = [e for e in told if e.data["topic"] == "approvals"]
            assert approvals.level == "error"
            assert approvals.message.startswith("Record 0 of approvals is damaged: the 64 bytes")
            assert "So are 9 of the records behind it." in approvals.message


def test_a_damaged_command_keeps_no_simulation_from_the_next(tmp_path: Path) -> None:
    bad, good = (
        msgspec.msgpack.encode(Command("stop", "w0", id=name, reason="." * 40))
        for name in ("bad", "good")
    )
    with Stager("memory://damage-c", directory=tmp_path, durable=True) as service:
        service.start()
        with StagerClient(service.address) as client, producer(service) as p:
            p.put(0, 0.0, frame(0))
            p.close(finished=False)
            client.append("commands/w0", [bad, good])
    damage(tmp_path, bad)
    with Stager("memory://damage-d", directory=tmp_path, durable=True) as service:
        service.start()
        with producer(service) as p:
            assert p.wait_for_command(30.0)
            assert [c.id for c in p.commands()] == ["good"]


def test_an_engine_ends_at_damaged_frames_and_says_which(tmp_path: Path) -> None:
    with Stager("memory://damage-e", directory=tmp_path, durable=True) as service:
        service.start()
        with producer(service) as p:
            for i in range(3):
                p.put(i, float(i), frame(i + 1000))
    damage(tmp_path, frame(1001)["x"].tobytes())
    with Stager("memory://damage-f", directory=tmp_path, durable=True) as service:
        service.start()
        with StagerClient(service.address) as client, StagerClient(service.address) as other:
            engine = LocalEngine(make_pipeline(), client)
            with pytest.raises(CorruptSegment, match=r"of frames/w0 are damaged"):
                engine.run()
            [failed] = [e for e in events(other) if e.kind == "engine_failed"]
            assert "of frames/w0 are damaged" in failed.message


def test_damage_that_was_released_is_told_once_and_forgotten(tmp_path: Path):
    store = SegmentStore(tmp_path, limit=1 << 20)
    topic = Catalogue(store, journals=None, options=None).records("results/p/o", None)
    known = Damage()
    for offset in range(5000):
        topic.low = offset
        for _ in range(2):
            known.note(topic, StoredRecord(offset, 0, 0, 1, 0, 0.0), "It is damaged.")
    (event,) = known.take()
    assert event.data == {"topic": "results/p/o", "first": 0, "last": 4999, "count": 5000}
    assert not known.take()
    assert len(known._known["results/p/o"]) <= 1024
    store.close(remove=True)
