"""Our reader against an engine that was written from the protocol's text."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from bridge.errors import (
    ConfigError,
    ConnectionLost,
    MessageTooLarge,
    NobodyListening,
    ProtocolError,
    VersionMismatch,
)
from bridge.transports.imd import EngineConnection, Frames, Kind, SessionInfo
from bridge.transports.imd.intake import Intake, open_intake
from tests.bridge.transports.imd.engine import (
    BOX,
    COORDINATES,
    DISCONNECT,
    PAUSE,
    RATE,
    Engine,
    energies,
    frame_v3,
    head,
    vectors,
)

RNG = np.random.default_rng(4)


@contextlib.contextmanager
def session(engine: Engine, **more: object) -> Iterator[EngineConnection]:
    connection = EngineConnection("127.0.0.1", engine.port, timeout=30.0, **more)  # type: ignore[arg-type]
    try:
        yield connection
    finally:
        connection.close()
        engine.close()


def split_frames(frames: Frames) -> list[dict[str, np.ndarray]]:
    """Return each frame by itself, copied."""
    out: list[dict[str, np.ndarray]] = []
    for row in range(frames.count):
        found = {k: v[row].copy() for k, v in frames.vectors.items()}
        for name in ("steps", "times", "energies"):
            values = getattr(frames, name)
            if values is not None:
                found[name] = values[row].copy()
        if frames.told is not None:
            assert frames.steps is not None
            assert frames.told[row] == (frames.steps[row] >= 0)
        out.append(found)
    return out


def read_all(connection: EngineConnection) -> list[dict[str, np.ndarray]]:
    """Return each frame by itself, copied."""
    out: list[dict[str, np.ndarray]] = []
    while (frames := connection.read(60.0)) is not None:
        assert isinstance(frames, Frames)
        out += split_frames(frames)
    assert connection.ended, "Nothing came within 60 s."
    return out


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("atoms", [1, 7, 5000, 120_000])
def test_version_3_whole(order: str, atoms: int):
    count = 40 if atoms < 10_000 else 4
    x, v, f = RNG.normal(size=(3, count, atoms, 3))
    boxes = RNG.normal(size=(count, 3, 3))

    def serve(engine: Engine) -> None:
        for i in range(count):
            engine.send(
                frame_v3(10 * i, x[i], v=v[i], f=f[i], box=boxes[i], energy=True, order=order)
            )

    engine = Engine(serve, order=order, flags=(1, 1, 1, 1, 1, 1, 1))
    with session(engine, atoms=atoms) as connection:
        assert connection.info.version == 3
        assert connection.info.wrapped is True
        found = read_all(connection)
        assert connection.atoms == atoms
    assert [int(one["steps"]) for one in found] == [10 * i for i in range(count)]
    assert [float(one["times"]) for one in found] == [5.0 * i for i in range(count)]
    for i, one in enumerate(found):
        assert np.array_equal(one["positions"], x[i].astype("f4"))
        assert np.array_equal(one["velocities"], v[i].astype("f4"))
        assert np.array_equal(one["forces"], f[i].astype("f4"))
        assert np.array_equal(one["box"], boxes[i].astype("f4"))
        assert one["energies"]["step"] == 10 * i
        assert one["energies"]["temperature"] == 300.0 + 10 * i
        assert one["energies"]["improper_energy"] == 7.0


def test_version_3_byte_by_byte():
    x = RNG.normal(size=(3, 4, 3))

    def serve(engine: Engine) -> None:
        for i in range(3):
            for byte in frame_v3(i, x[i]):
                engine.send(bytes([byte]))

    with session(Engine(serve)) as connection:
        found = read_all(connection)
    assert [int(one["steps"]) for one in found] == [0, 1, 2]
    assert np.array_equal(found[2]["positions"], x[2].astype("f4"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("first", ["energies", "positions", "alone"])
@pytest.mark.parametrize("atoms", [3, 60_000])
def test_version_2(order: str, first: str, atoms: int):
    count = 30
    x = RNG.normal(size=(count, atoms, 3))

    def serve(engine: Engine) -> None:
        for i in range(count):
            body, block = vectors(COORDINATES, x[i], order), energies(5 * i, order)
            engine.send({"energies": block + body, "positions": body + block, "alone": body}[first])

    with session(Engine(serve, version=2, order=order)) as connection:
        assert connection.info.version == 2
        found = read_all(connection)
    assert len(found) == count
    for i, one in enumerate(found):
        assert np.array_equal(one["positions"], x[i].astype("f4"))
        assert ("steps" in one) == (first != "alone")
        if first != "alone":
            assert int(one["steps"]) == 5 * i
            assert one["energies"]["temperature"] == 300.0 + 5 * i


def take(intake: Intake) -> list[dict[str, np.ndarray]]:
    fields = intake.take()
    return [] if fields is None else split_frames(Frames(**fields))


# What comes, E for energies and P for positions, and which frames have the energies.
SPARSE = {
    "EPPPEPPPEP": [0, 3, 6],
    "EPEPEPP": [0, 1, 2],
    "PPEPPPEP": [2, 5],
    "PEPPPEPP": [0, 3],
    "PEPEPPE": [0, 1, 3],
    "PEPPPPP": [0],
}


def encode_packets(packets: str, x: np.ndarray, order: str) -> list[bytes]:
    frames = iter(x)
    told = iter(SPARSE[packets])
    return [
        vectors(COORDINATES, next(frames), order) if one == "P" else energies(next(told), order)
        for one in packets
    ]


def check_sparse(found: list[dict[str, np.ndarray]], packets: str, x: np.ndarray) -> None:
    assert len(found) == len(x)
    for i, one in enumerate(found):
        assert np.array_equal(one["positions"], x[i].astype("f4"))
        if i in SPARSE[packets]:
            assert int(one["steps"]) == i
            assert one["energies"]["temperature"] == 300.0 + i
        else:
            assert int(one.get("steps", -1)) == -1
            assert "energies" not in one or np.isnan(one["energies"]["temperature"])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packets", SPARSE)
def test_version_2_with_energies_beside_some_frames(order: str, packets: str):
    # Two such frames fill the buffer.
    x = RNG.normal(size=(packets.count("P"), 60_000, 3))
    data = encode_packets(packets, x, order)
    engine = Engine(lambda e: [e.send(one) for one in data], version=2, order=order)  # type: ignore[func-returns-value]
    with session(engine) as connection:
        check_sparse(read_all(connection), packets, x)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packets", [*SPARSE, "version 3"])
def test_split_at_every_byte(order: str, packets: str):
    if packets == "version 3":
        info = SessionInfo(version=3, order=order, time=True, energies=True)  # type: ignore[arg-type]
        x = RNG.normal(size=(3, 2, 3))
        data = b"".join(frame_v3(i, x[i], energy=True, order=order) for i in range(3))
    else:
        info = SessionInfo(version=2, order=order)  # type: ignore[arg-type]
        x = RNG.normal(size=(packets.count("P"), 2, 3))
        data = b"".join(encode_packets(packets, x, order))
    for cut in range(1, len(data)):
        intake = open_intake(info, None)
        found: list[dict[str, np.ndarray]] = []
        for part in (data[:cut], data[cut:]):
            while part:
                assert intake.need > 0
                room = intake.room()
                count = min(len(part), len(room))
                room[:count] = part[:count]
                intake.filled(count)
                part = part[count:]
                if intake.full:
                    found += take(intake)
            found += take(intake)
        intake.end()
        found += take(intake)
        assert intake.pending == 0
        if packets == "version 3":
            assert [int(one["steps"]) for one in found] == [0, 1, 2]
            assert np.array_equal([one["positions"] for one in found], x.astype("f4"))
        else:
            check_sparse(found, packets, x)


def test_requests_and_forces_arrive():
    def serve(engine: Engine) -> None:
        engine.wait_for(lambda: len(engine.pulls) == 1 and engine.asked_for(PAUSE))

    engine = Engine(serve, order=">")
    with session(engine) as connection:
        connection.send(Kind.RATE, 25)
        connection.send_forces(np.array([4, 1]), np.arange(6.0).reshape(2, 3))
        connection.send(Kind.PAUSE)
    engine.left.wait(60.0)
    assert engine.pulls == [([4, 1], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]
    assert (RATE, 25) in engine.received
    assert [kind for kind, _ in engine.received][-1] == DISCONNECT


@pytest.mark.parametrize(
    ("version", "data", "error", "message"),
    [
        (3, frame_v3(0, np.zeros((4, 3)))[:-5], ConnectionLost, "in the middle of a frame"),
        (2, vectors(COORDINATES, np.zeros((4, 3)))[:-5], ConnectionLost, "in the middle"),
        (2, head(COORDINATES, 4), ConnectionLost, "in the middle of a frame"),
        (3, frame_v3(0, np.zeros((5, 3))), ProtocolError, "5 atoms, and 4 were expected"),
        (2, vectors(COORDINATES, np.zeros((5, 3))), ProtocolError, "5 atoms, and 4 were"),
        (3, frame_v3(0, np.zeros((4, 3))) + frame_v3(1, np.zeros((3, 3))) + bytes(99),
         ProtocolError, "Frame 1 has positions of 3 atoms; the frames before had 4"),
        (2, vectors(COORDINATES, np.zeros((4, 3))) + head(COORDINATES, 3), ProtocolError,
         "A frame of 3 atoms came; the frames before had 4"),
        (3, head(BOX, 1) + bytes(500), ProtocolError, "type 13 .* came where time"),
        (2, head(77, 1), ProtocolError, "type 77 and length 1 came"),
        (2, head(COORDINATES, -1), ProtocolError, "frames of -1 atoms"),
    ],
)  # fmt: skip
def test_what_engines_get_wrong_is_told(
    version: int, data: bytes, error: type[Exception], message: str
):
    engine = Engine(lambda e: e.send(data), version=version)
    with session(engine, atoms=4) as connection, pytest.raises(error, match=message):
        read_all(connection)


@pytest.mark.parametrize("version", [2, 3])
def test_frames_before_what_is_wrong_are_given(version: int):
    x = np.zeros((4, 3))
    frames = [
        frame_v3(i, x) if version == 3 else energies(i) + vectors(COORDINATES, x) for i in range(9)
    ]
    wrong = head(COORDINATES, 3) + bytes(36)
    frames[5] = energies(5) + wrong if version == 2 else frames[5][: -8 - x.size * 4] + wrong
    engine = Engine(lambda e: e.send(b"".join(frames)), version=version)
    steps: list[int] = []

    def read() -> None:
        while (found := connection.read(60.0)) is not None:
            assert found.steps is not None
            steps.extend(found.steps.tolist())

    # All are in one receive: the first that is wrong counts, not what follows from it.
    told = r"of 3 atoms( came)?; the frames before had 4"
    with session(engine) as connection:
        for _ in range(2):
            with pytest.raises(ProtocolError, match=told):
                read()
    assert steps == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("version", [2, 3])
def test_an_engine_may_say_that_it_leaves(version: int):
    x = np.zeros((4, 3))
    data = (frame_v3(0, x) if version == 3 else vectors(COORDINATES, x)) + head(DISCONNECT, 0)
    with session(Engine(lambda e: e.send(data), version=version)) as connection:
        assert len(read_all(connection)) == 1


def test_one_frame_of_version_2_is_one():
    data = vectors(COORDINATES, np.ones((4, 3)))
    with session(Engine(lambda e: e.send(data), version=2)) as connection:
        assert len(read_all(connection)) == 1


def test_frames_too_large_for_anybody():
    data = frame_v3(0, np.zeros((1, 3)))[:-20] + head(COORDINATES, 2**31 - 1)
    with (
        session(Engine(lambda e: e.send(data))) as connection,
        pytest.raises(MessageTooLarge, match="2147483647 atoms"),
    ):
        read_all(connection)


@pytest.mark.parametrize(
    ("hello", "error", "message"),
    [
        (struct.pack("!ii", 4, 1), VersionMismatch, "speaks version 1 of IMD"),
        (struct.pack("<ii", 4, 2), ProtocolError, "instead of a handshake"),
        (b"HTTP/1.1 400 Bad Request", ProtocolError, "does not speak IMD"),
        (struct.pack("!ii", 4, 3) + head(10, 5) + bytes(5), ProtocolError,
         "length 5 instead of the 7 flags"),
        (b"\0\0", NobodyListening, "Waited 0.3 s for a handshake"),
    ],
)  # fmt: skip
def test_who_is_no_engine(hello: bytes, error: type[Exception], message: str):
    engine = Engine(lambda e: None, hello=hello)
    # Only what is cut off is waited for in vain.
    timeout = 0.3 if error is NobodyListening else 30.0
    with pytest.raises(error, match=message):
        EngineConnection("127.0.0.1", engine.port, timeout=timeout)
    engine.close()


def test_nobody_listens():
    with pytest.raises(NobodyListening, match=r"Waited 0.2 s for an engine at 127.0.0.1:9"):
        EngineConnection("127.0.0.1", 9, patience=0.2)
    with pytest.raises(ConfigError, match="is no port"):
        EngineConnection("127.0.0.1", 0)


def test_an_engine_that_says_nothing_more():
    def serve(engine: Engine) -> None:
        engine.send(frame_v3(0, np.zeros((4, 3))))
        engine.left.wait(60.0)

    with session(Engine(serve)) as connection:
        assert connection.read(60.0) is not None
        assert connection.read(0.05) is None
        assert not connection.ended
        assert connection.silence >= 0.05
