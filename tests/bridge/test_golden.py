"""The bytes on the wire are pinned: a client in another language reads the same vectors.

``tests/golden/wire.json`` maps a name to bytes in hexadecimal. To add a vector, add it to `make`
and run this file as a script; a vector that changes is a new version of the format.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bridge import Capability, FrameBatch, StreamSchema, Topology, Variable
from bridge.codec import decode_batch, decode_state, encode_batch, encode_state
from bridge.staging import messages as m
from bridge.staging.layout import Chunk, chunk_layout

GOLDEN = Path(__file__).parents[1] / "golden" / "wire.json"

SCHEMA = StreamSchema(
    (
        Variable("positions", "<f4", (2, 3), "nm"),
        Variable("energy", "<f8", (), "kJ/mol", description="Potential energy."),
    ),
    time_unit="ps",
    topology=Topology(names=("C1", "O2"), bonds=((0, 1),)),
    selection="all",
    attributes={"engine": "test"},
)
BLOCKS = StreamSchema((Variable("x", "<f4", (4, 3), decomposed=True),), n_ranks=2)
PART = m.Part(7, 1024, 16, 3, 5, 0x0123456789ABCDEF)
BLOCK = m.Part(8, 0, 1, 0, 1, 42, 3, True, 1, 1)
OPTIONS = m.StreamOptions("drop_oldest", 1 << 20)


def batch() -> FrameBatch:
    x = np.arange(12, dtype="<f4").reshape(2, 2, 3)
    return FrameBatch.from_arrays(
        "walker-0",
        {"x": x, "flag": np.array([True, False]), "n": np.array([[1], [2]], "<i2")},
        first_offset=5, steps=[10, 20], times=[0.5, 1.0], epochs=[0, 1],
    )  # fmt: skip


def messages() -> dict[str, m.Request | m.Reply]:
    entry = m.Entry(4, 5, [PART], 1.5e9)
    status = m.TopicStatus("frames/w", "frames", end=9, groups={"g": 4}, options=OPTIONS)
    return {
        "hello": m.Hello(1, "client", "0.1.0"),
        "take_joined": m.TakeJoined(0),
        "open_stream": m.OpenStream(
            2, "w", SCHEMA, OPTIONS, "token", 3, 1, [Capability("set", "T", 250.0, 400.0, "K")], 17
        ),
        "lease": m.Lease(3, "w", 1, 4096, 1),
        "commit": m.Commit(
            4, "w", 1, 100, [PART, BLOCK], [10, 20], [0.5, 1.0], [0, 1], 1.5e9, False, 1, 2
        ),
        "fetch": m.Fetch(
            5, {"frames/w": 9}, "frames/", "g", {"frames/w": 4}, 10, 20, 0.5, 6, False, ["x"], True
        ),
        "append": m.Append(6, "results/p/w", "p", 0, 10, 1.5e9, OPTIONS),
        "commit_offsets": m.CommitOffsets(7, "g", {"frames/w": -1}, 3),
        "query_topics": m.QueryTopics(8, "frames/", True),
        "ping": m.Ping(9, 4),
        "bye": m.Bye(10, "w", 1, 0, True, 5, "out of memory"),
        "welcome": m.Welcome(1, "instance", "0.1.0", "/dev/shm/probe", "nonce"),
        "opened": m.Opened(2, 3, 17, 99, 500, 12.5, 2),
        "leased": m.Leased(3, 7, "/dev/shm/x/0000000007.segment", 1 << 20),
        "ack": m.Ack(4, 105, 104),
        "appended": m.Appended(6, 3, True, 10),
        "fetched": m.Fetched(
            5, 12,
            [
                m.TopicSlice("frames/w", 9, 0, 9, False, [entry], [], SCHEMA),
                m.TopicSlice("events", 1, 0, 1, True, [], [m.Record(0, 1.5e9)]),
            ],
            [m.SegmentName(7, "/dev/shm/x/0000000007.segment", 1 << 20)],
        ),
        "fetched_joined": m.FetchedJoined(
            5, 12,
            [
                m.TopicSlice(
                    "events", 2, 0, 2, False, [], [m.Record(0, 1.5e9), m.Record(1, 1.5e9)]
                )
            ],
            [],
            [13, -1],
        ),
        "topics": m.Topics(8, [status]),
        "done": m.Done(7),
        "refused": m.Refused(4, "StaleIncarnation", "A newer life took over."),
    }  # fmt: skip


def chunk(lead: int, ids: bool) -> tuple[bytes, int]:
    schema = BLOCKS if lead >= 0 else SCHEMA
    layout = chunk_layout(schema, 1 if lead >= 0 else 3, lead=lead, ids=ids)
    data = bytearray(layout.nbytes)
    made = Chunk(layout, memoryview(data))
    for number, array in enumerate(made.arrays.values()):
        array[...] = np.arange(array.size).reshape(array.shape) + number
    return bytes(data), made.checksum(0, layout.capacity)


def make() -> dict[str, str]:
    vectors = {
        "batch": bytes(encode_batch(batch(), meta={"pipeline": "p", "first": 5, "stop": 7})),
        "state": encode_state({"mean": np.array([1.0, 2.0]), "count": 3, "name": "é"}),
    }
    vectors |= {f"message/{k}": m.encode(v) for k, v in messages().items()}
    for name, lead, ids in (("frames", -1, False), ("block", 3, False), ("block_ids", 3, True)):
        data, checksum = chunk(lead, ids)
        vectors[f"chunk/{name}"] = data
        vectors[f"chunk/{name}/xxh3"] = checksum.to_bytes(8, "little")
    return {k: v.hex() for k, v in vectors.items()}


VECTORS: dict[str, str] = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}


def test_every_vector_is_pinned() -> None:
    assert make().keys() == VECTORS.keys()


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_what_is_written_is_what_was_pinned(name: str) -> None:
    assert make()[name] == VECTORS[name]


@pytest.mark.parametrize("name", sorted(messages()))
def test_what_was_pinned_is_read(name: str) -> None:
    data = memoryview(bytes.fromhex(VECTORS[f"message/{name}"]))
    message = messages()[name]
    replies = m._Reply
    decode = m.decode_reply if isinstance(message, replies) else m.decode_request
    assert decode(data) == message


def test_pinned_arrays_are_read() -> None:
    found, meta = decode_batch(bytes.fromhex(VECTORS["batch"]))
    assert meta == {"pipeline": "p", "first": 5, "stop": 7}
    assert found.simulation == "walker-0"
    for name, column in batch().columns.items():
        np.testing.assert_array_equal(found[name], column)
        assert found[name].dtype == column.dtype
    state = decode_state(bytes.fromhex(VECTORS["state"]))
    assert state["count"] == 3
    assert state["mean"].tolist() == [1.0, 2.0]


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(make(), indent=1) + "\n")
