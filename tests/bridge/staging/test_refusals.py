"""Bad input gets a sentence that says what was wrong, where, and what to do; nothing is stored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bridge import StreamSchema, Variable
from bridge.errors import (
    AddressInUse,
    CorruptSegment,
    FrameOrderError,
    NobodyListening,
    SchemaError,
    StaleIncarnation,
    VersionMismatch,
)
from bridge.staging import Producer, Stager, StagerClient
from bridge.staging import messages as m
from bridge.transports import open_channel
from tests.bridge.staging.common import SCHEMA, frame, producer, read_all


def test_wrong_shape(stager: Stager):
    with producer(stager) as p:
        bad = frame(0) | {"x": np.zeros((4, 3), np.float32)}
        with pytest.raises(SchemaError, match=r"'x' of 'w0' has shape \(4, 3\).*\(5, 3\)"):
            p.put(0, 0.0, bad)
        assert p.statistics().frames == 0
        p.put(0, 0.0, frame(0))


def test_wrong_dtype(stager: Stager):
    with producer(stager) as p:
        bad = frame(0) | {"x": np.zeros((5, 3), complex)}
        with pytest.raises(SchemaError, match="dtype complex128; the stream declares float32"):
            p.put(0, 0.0, bad)
        p.put(0, 0.0, frame(0) | {"x": np.zeros((5, 3), np.float64)})


def test_missing_and_unknown_variables(stager: Stager):
    with producer(stager) as p:
        with pytest.raises(SchemaError, match="lacks the variable 'energy'"):
            p.put(0, 0.0, {"x": frame(0)["x"]})
        with pytest.raises(SchemaError, match="has 'forces', which the stream does not declare"):
            p.put(0, 0.0, frame(0) | {"forces": np.zeros(3)})


def test_frames_twice_and_out_of_order(stager: Stager, client: StagerClient):
    with producer(stager) as p:
        p.put(10, 1.0, frame(0))
        with pytest.raises(FrameOrderError, match="Step 10 of 'w0' came twice"):
            p.put(10, 1.0, frame(1))
        with pytest.raises(FrameOrderError, match="Step 9 of 'w0' is out of order"):
            p.put(9, 1.0, frame(1))
        x = np.zeros((3, 5, 3), np.float32)
        with pytest.raises(FrameOrderError, match="Step 12 of 'w0', at index 2"):
            p.put_many([12, 13, 12], [0.0] * 3, {"x": x, "energy": np.zeros(3)})
        p.put(11, 2.0, frame(1))
    assert read_all(client, "w0") == [0, 1]


def test_a_stale_incarnation_is_refused(stager: Stager, client: StagerClient):
    old = producer(stager)
    old.put(0, 0.0, frame(0))
    old.flush()
    with producer(stager) as new:
        assert new.resumed.incarnation == 2
        old.put(1, 1.0, frame(1))
        with pytest.raises(StaleIncarnation, match="Incarnation 1 of frames/w0 is stale"):
            old.flush()
        with pytest.raises(StaleIncarnation):
            old.close()
        new.put(5, 5.0, frame(1))
    assert read_all(client, "w0") == [0, 1]


def test_a_frame_over_the_size_limit():
    with pytest.raises(SchemaError, match="more than the limit of 4294967296"):
        StreamSchema((Variable("x", "<f8", (1 << 30,)),))


def test_another_schema_for_a_stream_that_holds_frames(stager: Stager):
    with producer(stager) as p:
        p.put(0, 0.0, frame(0))
        p.close(finished=False)
    other = StreamSchema.from_arrays({"x": np.zeros((6, 3), np.float32)})
    with pytest.raises(SchemaError, match="the new incarnation declares x <f4"):
        Producer("w0", other, address=stager.address)


def test_a_peer_of_another_protocol_version(stager: Stager):
    channel = open_channel(stager.address)
    try:
        hello = bytearray(m.encode(m.Hello(1, "old")))
        hello[2] = 99
        channel.send([hello])
        reply = m.decode_reply(channel.receive(5.0)[0])
        assert isinstance(reply, m.Refused)
        assert reply.code == "VersionMismatch"
        assert "speaks protocol version 99, this side version 1" in reply.message
        channel.send([b"GET / HTTP/1.1"])
        reply = m.decode_reply(channel.receive(5.0)[0])
        assert "not Headrace's protocol" in reply.message
    finally:
        channel.close()
    with pytest.raises(VersionMismatch):
        m.decode_request(memoryview(bytes(hello)))


def test_nobody_listening():
    with pytest.raises(NobodyListening, match=r"Waited 1 s .* 'headrace stage'"):
        Producer("w0", SCHEMA, address="tcp://127.0.0.1:9", timeout=1.0)


def test_a_port_in_use(stager: Stager):
    if stager.address.startswith("memory"):
        pytest.skip("A memory address has no port.")
    with pytest.raises(AddressInUse, match=stager.address.rpartition(":")[2]):
        Stager(stager.address)


def test_a_corrupt_segment_is_told(tmp_path: Path):
    with Stager("memory://a", directory=tmp_path, durable=True) as stager:
        stager.start()
        with producer(stager) as p:
            for i in range(100):
                p.put(i, float(i), frame(i))
    segment = max((tmp_path / "segments").glob("*.segment"))
    segments = sorted((tmp_path / "segments").glob("*.segment"))
    for segment in segments:
        data = bytearray(segment.read_bytes())
        for at in range(len(data)):
            if data[at]:
                data[at] ^= 1
                break
        segment.write_bytes(data)
    with Stager("memory://b", directory=tmp_path, durable=True) as stager:
        stager.start()
        with (
            StagerClient(stager.address) as client,
            pytest.raises(CorruptSegment, match=r"of frames/w0 are damaged"),
        ):
            client.fetch({"frames/w0": 0})


def test_a_missing_segment_is_told(tmp_path: Path):
    with Stager("memory://a", directory=tmp_path, durable=True) as stager:
        stager.start()
        with producer(stager) as p:
            p.put(0, 0.0, frame(0))
    for segment in (tmp_path / "segments").glob("*.segment"):
        segment.unlink()
    with pytest.raises(CorruptSegment, match="missing"):
        Stager("memory://b", directory=tmp_path, durable=True)


PRODUCER = """
import os, sys
sys.path[:0] = {path!r}
from tests.bridge.staging.common import SCHEMA, frame
from bridge.staging import Producer
p = Producer("w0", SCHEMA, address={address!r})
for i in range(1000):
    p.put(i, float(i), frame(i))
p.flush()
for i in range(1000, 1100):
    p.put(i, float(i), frame(i))
print("put", flush=True)
os.kill(os.getpid(), {signal})
"""


def test_a_producer_that_dies_leaves_nothing_half_written(stager: Stager, client: StagerClient):
    if stager.address.startswith("memory"):
        pytest.skip("Another process cannot reach a memory address.")
    here = [str(Path(__file__).parent), os.getcwd()]
    code = PRODUCER.format(path=here, address=stager.address, signal=int(signal.SIGKILL))
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60, stdout=subprocess.PIPE)
    with producer(stager) as p:
        held = p.resumed.next_offset
        assert 1000 <= held <= 1100
        for i in range(p.resumed.last_step + 1, 1200):
            p.put(i, float(i), frame(i))
    assert read_all(client, "w0") == list(range(1200))


def hostile(incarnation: int) -> dict[str, m.Request]:
    """Requests that no client of ours makes, of a peer that has opened ``w0``."""
    part = m.Part(0, 0, 10, 0, 1, 0)

    def commit(*parts: m.Part, steps: int = 1, sequence: int = 0) -> m.Commit:
        times, epochs = [0.0] * steps, [0] * steps
        return m.Commit(
            9, "w0", incarnation, sequence, list(parts), [5] * steps, times, epochs, 0.0
        )

    return {
        "too few steps": commit(part, part),
        "a segment of somebody else": commit(m.Part(10**6, 0, 10, 0, 1, 0)),
        "beyond the segment": commit(m.Part(0, 1 << 40, 10, 0, 1, 0)),
        "a huge chunk": commit(m.Part(0, 0, 1 << 50, 0, 1, 0)),
        "rows beyond the chunk": commit(m.Part(0, 0, 10, 8, 5, 0)),
        "negative rows": commit(m.Part(0, 0, 10, -3, 1, 0)),
        "no rows": commit(m.Part(0, 0, 10, 0, 0, 0)),
        "a first row beyond all numbers": commit(m.Part(0, 0, 10, 0, 1, 0, start=1 << 63)),
        "a negative first row": commit(m.Part(0, 0, 10, 0, 1, 0, start=-1)),
        "not aligned": commit(m.Part(0, 3, 10, 0, 1, 0)),
        "a hole in the numbers": commit(part, sequence=77),
        "a rank that is none": m.Lease(9, "w0", incarnation, 100, 5),
        "a stream that is none": m.Lease(9, "nobody", 1, 100),
        "frames as records": m.Append(9, "frames/w0", "", -1, -1, 0.0),
        "a topic outside": m.Append(9, "../x", "", -1, -1, 0.0),
        "beyond the end": m.Fetch(9, {"frames/w0": 1 << 60}),
        "an unknown topic": m.CommitOffsets(9, "g", {"nope": 3}),
    }


@pytest.mark.parametrize("name", sorted(hostile(1)))
def test_a_hostile_request_is_refused_and_changes_nothing(
    stager: Stager, client: StagerClient, name: str
):
    channel = open_channel(stager.address)
    try:
        channel.send([m.encode(m.Hello(1, "hostile"))])
        assert isinstance(m.decode_reply(channel.receive(5.0)[0]), m.Welcome)
        channel.send([m.encode(m.OpenStream(2, "w0", SCHEMA, m.StreamOptions(), "t"))])
        opened = m.decode_reply(channel.receive(5.0)[0])
        channel.send([m.encode(m.Lease(3, "w0", opened.incarnation, 0))])
        assert isinstance(m.decode_reply(channel.receive(5.0)[0]), m.Leased)
        channel.send([m.encode(hostile(opened.incarnation)[name]), b"data"])
        reply = m.decode_reply(channel.receive(5.0)[0])
        assert isinstance(reply, m.Refused), reply
        assert reply.message.endswith(".")
        assert "failed on a request" not in reply.message
        assert client.status("frames/w0").end == 0
    finally:
        channel.close()
