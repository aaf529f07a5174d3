"""Streams served by IMD, read by imdclient, MDAnalysis and ourselves."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from bridge.errors import AddressInUse, ConfigError, NobodyListening
from bridge.runs.imd_frames import Outgoing, read_factor
from bridge.runs.imd_server import ImdServer
from bridge.schema import StreamSchema, Variable
from bridge.staging import Producer, Stager, StagerClient, StreamOptions
from bridge.transports.imd import ENERGY_NAMES, EngineConnection, Kind

ATOMS = 30
RNG = np.random.default_rng(3)
FRAMES = 60
X, V, F = RNG.normal(size=(3, FRAMES, ATOMS, 3)).astype("f4")
BOX = np.array([[3.0, 0, 0], [0.5, 3.0, 0], [0.2, 0.3, 3.0]])

MDANALYSIS = """
import json, sys
import MDAnalysis
universe = MDAnalysis.Universe.empty(int(sys.argv[2]), trajectory=False)
universe.load_new(f"imd://127.0.0.1:{sys.argv[1]}", n_atoms=int(sys.argv[2]))
for ts in universe.trajectory:
    print(json.dumps({
        "step": ts.data["step"], "dt": ts.data["dt"], "time": ts.time,
        "energy": ts.data.get("potential_energy"),
        "x": ts.positions.tolist(), "v": ts.velocities.tolist(), "f": ts.forces.tolist(),
        "box": ts.triclinic_dimensions.tolist(),
    }), flush=True)
"""

IMDCLIENT = """
import json, sys
from imdclient.IMDClient import IMDClient
# So small a buffer lets it pause and resume us all the time.
client = IMDClient("127.0.0.1", int(sys.argv[1]), int(sys.argv[2]), buffer_size=10_000)
info = client.get_imdsessioninfo()
while True:
    try:
        frame = client.get_imdframe()
    except EOFError:
        break
    print(json.dumps({"step": frame.step, "x": frame.positions.tolist(), "wrapped":
                      info.wrapped_coords}), flush=True)
"""


def describe(energies: bool = False) -> StreamSchema:
    variables = [
        Variable("positions", "<f4", (ATOMS, 3), "nm"),
        Variable("velocities", "<f4", (ATOMS, 3), "nm/ps"),
        Variable("forces", "<f4", (ATOMS, 3), "kJ/mol/nm"),
        Variable("box", "<f8", (3, 3), "nm"),
    ]
    if energies:
        units = {"temperature": "K"}
        variables += [Variable(n, "<f4", (), units.get(n, "kJ/mol")) for n in ENERGY_NAMES]
    return StreamSchema(tuple(variables), time_unit="ps", attributes={"wrapped": "true"})


def put(producer: Producer, first: int, stop: int, energies: bool = False) -> None:
    for i in range(first, stop):
        values: dict[str, Any] = {"positions": X[i], "velocities": V[i], "forces": F[i], "box": BOX}
        if energies:
            values |= {n: np.float32(i + k) for k, n in enumerate(ENERGY_NAMES)}
        producer.put(10 * i, 0.02 * i, values)
    producer.flush()


@pytest.fixture
def stager() -> Iterator[Stager]:
    with Stager() as service:
        yield service.start()


@pytest.fixture
def producer(stager: Stager) -> Iterator[Producer]:
    options = StreamOptions(when_full="drop_oldest", capacity=8 << 20)
    with Producer("md", describe(), address=stager.address, options=options) as made:
        yield made


@contextlib.contextmanager
def serving(stager: Stager, **more: Any) -> Iterator[ImdServer]:
    server = ImdServer(lambda: StagerClient(stager.address), "md", **more)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(60.0)
        assert not thread.is_alive()


def read(connection: EngineConnection, count: int) -> list[int]:
    """Return the steps of the next frames."""
    steps: list[int] = []
    end = time.monotonic() + 60.0
    while len(steps) < count and not connection.ended:
        frames = connection.read(0.5)
        if frames is not None:
            assert frames.steps is not None
            steps += frames.steps.tolist()
        assert time.monotonic() < end, f"{len(steps)} frames came in 60 s, not {count}."
    return steps


def wait_for(ready: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60.0
    while not ready():
        assert time.monotonic() < end, f"Waited 60 s for {what}."
        time.sleep(0.005)


def lines_of(code: str, server: ImdServer) -> list[dict[str, Any]]:
    """Run another program's reader in a process, for it takes over signals; return its frames."""
    command = [sys.executable, "-c", code, str(server.port), str(ATOMS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_mdanalysis_reads_every_packet(stager: Stager):
    pytest.importorskip("imdclient")
    with Producer("md", describe(energies=True), address=stager.address) as producer:
        put(producer, 0, FRAMES, energies=True)
    with serving(stager, every_frame=True) as server:
        found = lines_of(MDANALYSIS, server)
    assert [one["step"] for one in found] == [10 * i for i in range(FRAMES)]
    for i, one in enumerate(found):
        assert one["time"] == pytest.approx(0.02 * i)
        assert one["energy"] == i + 2
        np.testing.assert_allclose(one["x"], X[i] * 10, rtol=1e-6)
        np.testing.assert_allclose(one["v"], V[i] * 10, rtol=1e-6)
        np.testing.assert_allclose(one["f"], F[i] / 10, rtol=1e-6)
        np.testing.assert_allclose(one["box"], BOX * 10, atol=1e-4)
    assert found[-1]["dt"] == pytest.approx(0.002)


def test_imdclient_reads_and_pauses(stager: Stager, producer: Producer):
    pytest.importorskip("imdclient")
    put(producer, 0, FRAMES)
    producer.close()
    with serving(stager, every_frame=True) as server:
        found = lines_of(IMDCLIENT, server)
        statistics = server.statistics()
    assert [one["step"] for one in found] == [10 * i for i in range(FRAMES)]
    assert found[0]["wrapped"] is True
    np.testing.assert_allclose(found[-1]["x"], X[-1] * 10, rtol=1e-6)
    assert (statistics.frames, statistics.skipped, statistics.refused) == (FRAMES, 0, 0)


def test_several_readers_each_with_the_newest(stager: Stager, producer: Producer):
    put(producer, 0, 20)
    with (
        serving(stager) as server,
        EngineConnection("127.0.0.1", server.port) as quick,
        EngineConnection("127.0.0.1", server.port) as paused,
    ):
        assert read(quick, 1) == [190]
        assert read(paused, 1) == [190]
        paused.send(Kind.PAUSE)
        # Its pause is seen before the next frame: that one it does not get.
        wait_for(lambda: paused.read(0.1) is None, "silence")
        for i in range(20, 30):
            put(producer, i, i + 1)
            assert read(quick, 1) == [10 * i]
        assert paused.read(0.1) is None
        paused.send(Kind.RESUME)
        assert read(paused, 1) == [290]


def test_a_reader_that_takes_nothing_slows_nobody(stager: Stager):
    n = 200_000
    schema = StreamSchema.from_arrays(
        {"positions": np.zeros((n, 3), "f4")}, units={"positions": "nm"}, time_unit="ps"
    )
    options = StreamOptions(when_full="drop_oldest", capacity=64 << 20)
    with Producer("md", schema, address=stager.address, options=options) as producer:
        producer.put(0, 0.0, {"positions": np.zeros((n, 3), "f4")})
        producer.flush()
        with (
            serving(stager) as server,
            EngineConnection("127.0.0.1", server.port) as idle,
            EngineConnection("127.0.0.1", server.port) as quick,
        ):
            read(quick, 1)
            last = [0]
            for i in range(1, 40):
                producer.put(i, float(i), {"positions": np.full((n, 3), i, "f4")})
                producer.flush(60.0)
            while last[-1] != 39:
                last = read(quick, 1)
            assert idle.read(60.0) is not None
        assert producer.statistics().dropped == 0


def test_rate_kill_and_wait(stager: Stager, producer: Producer):
    put(producer, 0, 40)
    with serving(stager, every_frame=True, wait=True) as server:
        with EngineConnection("127.0.0.1", server.port) as first:
            assert read(first, 40) == [10 * i for i in range(40)]
            first.send(Kind.RATE, 50)
            put(producer, 40, 50)
            late = read(first, 2)
            assert set(np.diff([390, *late]).tolist()) == {50}
            first.send(Kind.KILL)
            assert read(first, 99) == []
        wait_for(lambda: server.statistics().readers == 0, "the reader to leave")
        put(producer, 50, 60)
        with EngineConnection("127.0.0.1", server.port) as second:
            second.send(Kind.WAIT, 0)
            assert read(second, 10) == [10 * i for i in range(50, 60)]
        wait_for(lambda: server.statistics().readers == 0, "the reader to leave")
        assert server.statistics().served == 2
        # The second said that nobody need be waited for: the third begins anew.
        with EngineConnection("127.0.0.1", server.port) as third:
            assert read(third, 60)[:2] == [0, 10]


@pytest.mark.parametrize("version", [2, 3])
def test_the_end_of_the_stream_is_the_readers_end(stager: Stager, version: int):
    with Producer("md", describe(), address=stager.address) as producer:
        put(producer, 0, FRAMES)
    with (
        serving(stager, every_frame=True, version=version) as server,
        EngineConnection("127.0.0.1", server.port, atoms=ATOMS) as reader,
    ):
        assert reader.info.version == version
        found = []
        while (frames := reader.read(60.0)) is not None:
            found.append(frames.vectors["positions"].copy())
            assert (frames.steps is None) == (version == 2)
        assert "closed" in reader.ended
    np.testing.assert_allclose(np.concatenate(found), X * 10, rtol=1e-6)


def test_who_says_nothing_or_nonsense_is_sent_away(
    stager: Stager, producer: Producer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bridge.transports.imd.server.GO_WAIT", 0.2)
    put(producer, 0, 2)
    with serving(stager, most=2) as server:
        for said in (b"", b"GET / HT", struct.pack("!ii", 7, 0)):
            with socket.create_connection(("127.0.0.1", server.port)) as silent:
                silent.settimeout(60.0)
                assert len(silent.recv(99)) == 8 + 15
                silent.sendall(said)
                with contextlib.suppress(ConnectionResetError):
                    assert silent.recv(99) == b""
        wait_for(lambda: server.statistics().readers == 0, "all to be gone")
        # Whoever comes when all places are taken is sent away at once.
        monkeypatch.undo()
        with (
            EngineConnection("127.0.0.1", server.port),
            EngineConnection("127.0.0.1", server.port),
            pytest.raises(NobodyListening, match="may serve another reader"),
        ):
            EngineConnection("127.0.0.1", server.port)


def test_what_cannot_be_served(stager: Stager, producer: Producer):
    def make(**more: Any) -> ImdServer:
        return ImdServer(lambda: StagerClient(stager.address), "md", **more)

    with pytest.raises(ConfigError, match="--allow-remote"):
        make(host="0.0.0.0")
    with pytest.raises(ConfigError, match="no version 4"):
        make(version=4)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=f"Port {port} of 127.0.0.1 is in use"):
            # Nobody waits for the stream before that is told.
            ImdServer(lambda: StagerClient(stager.address), "nobody", port=port, patience=600.0)
    with pytest.raises(ConfigError, match="is no port"):
        ImdServer(lambda: StagerClient(stager.address), "nobody", port=70_000, patience=600.0)
    with pytest.raises(NobodyListening, match="stream 'frames/nobody'"):
        ImdServer(lambda: StagerClient(stager.address), "nobody", patience=0.2)
    allowed = make(host="0.0.0.0", allow_remote=True)
    assert allowed.port
    allowed.close()


@pytest.mark.parametrize(
    ("unit", "quantity", "factor"),
    [
        ("nm", "length", 10.0), ("Å", "length", 1.0), ("bohr", "length", 0.529177210903),
        ("nm/ps", "velocity", 10.0), ("A/fs", "velocity", 1e3), ("kJ/mol/nm", "force", 0.1),
        ("kcal/mol/Å", "force", 4.184), ("eV/angstrom", "force", 96.48533212331),
        ("ns", "time", 1e3), ("kcal/mol", "energy", 4.184),
    ],
)  # fmt: skip
def test_units(unit: str, quantity: str, factor: float):
    assert read_factor(unit, quantity) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("unit", "quantity"),
    [
        ("", "length"),
        ("sigma", "length"),
        ("nm", "velocity"),
        ("ps/nm", "velocity"),
        ("K", "force"),
    ],
)
def test_units_that_are_not_known(unit: str, quantity: str):
    with pytest.raises(ConfigError, match="--unit NAME=nm"):
        read_factor(unit, quantity)


def test_names_and_units_can_be_declared():
    x = np.zeros((4, 3))
    schema = StreamSchema.from_arrays({"r": x, "cell": np.zeros(3), "n": np.zeros(5)})
    with pytest.raises(ConfigError, match=r"no variable 'positions'.*--variable positions=NAME"):
        Outgoing(schema)
    names = {"positions": "r", "box": "cell"}
    with pytest.raises(ConfigError, match="no declared unit"):
        Outgoing(schema, names=names)
    made = Outgoing(schema, names=names, units={"r": "nm", "cell": "nm", "time": "fs"})
    assert made.atoms == 4
    assert made.info.box
    with pytest.raises(ConfigError, match="cannot be sent as positions"):
        Outgoing(schema, names={"positions": "n"})
