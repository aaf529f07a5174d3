"""An IMD engine as a stream: units, gaps, commands and what goes wrong."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from MDAnalysisTests.datafiles import GRO, PSF

from bridge import Command, FrameBatch
from bridge.errors import ConfigError, ConnectionLost, NobodyListening, ProtocolError
from bridge.staging import Stager, StagerClient
from bridge.staging.connection import Connection
from sim_adapters.imd import ImdEngine
from sim_adapters.imd_gaps import make_box, read_file
from tests.bridge.transports.imd.engine import (
    COORDINATES,
    DISCONNECT,
    KILL,
    PAUSE,
    RATE,
    RESUME,
    Engine,
    energies,
    frame_v3,
    head,
    vectors,
)
from tests.sim_adapters.common import read_stream, wait_until
from tests.sim_adapters.imd_common import Sidecar, read_events

RNG = np.random.default_rng(7)
ATOMS = 12
ALL = (1, 1, 1, 1, 1, 1, 1)
KCAL = 4.184


def close(found: FrameBatch, name: str, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found[name], expected, rtol=1e-6)


def pull(atoms: list[int], minimum: float) -> dict[str, object]:
    return {"atoms": atoms, "minimum": minimum, "maximum": 2.0}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("engine", "units", "length", "velocity", "force", "energy", "time", "unit"),
    [
        ("protocol", "", 0.1, 0.1, 10.0, 1.0, 1.0, "nm"),
        ("gromacs", "", 0.1, 0.1, 10.0, 1.0, 1.0, "nm"),
        ("lammps", "real", 0.1, 100.0, 10 * KCAL, KCAL, 1e-3, "nm"),
        ("lammps", "metal", 0.1, 0.1, 964.8533212331, 96.48533212331, 1.0, "nm"),
        ("lammps", "lj", 1.0, 1.0, 1.0, 1.0, 1.0, "sigma"),
    ],
)
def test_version_3_in_declared_units(
    stager: Stager, client: StagerClient, order: str, engine: str, units: str, length: float,
    velocity: float, force: float, energy: float, time: float, unit: str,
):  # fmt: skip
    x, v, f = RNG.normal(size=(3, 50, ATOMS, 3)).astype("f4").astype("f8")
    box = np.array([[30.0, 0, 0], [5, 30, 0], [5, 5, 30]])

    def serve(server: Engine) -> None:
        for i in range(50):
            server.send(
                frame_v3(100 + 4 * i, x[i], v=v[i], f=f[i], box=box, energy=True, order=order)
            )

    server = Engine(serve, order=order, flags=ALL)
    sidecar = Sidecar(stager.address, server.port, engine=engine, units=units, atoms=ATOMS)
    found = read_stream(client, "md")
    assert sidecar.join() is None
    server.close()
    assert found.steps.tolist() == [100 + 4 * i for i in range(50)]
    np.testing.assert_allclose(found.times, found.steps * 0.5 * time)
    close(found, "positions", x * length)
    close(found, "velocities", v * velocity)
    close(found, "forces", f * force)
    close(found, "box", np.broadcast_to(box * length, (50, 3, 3)))
    close(found, "temperature", 300.0 + found.steps)
    close(found, "improper_energy", np.full(50, 7.0 * energy))
    schema = client.schema("md")
    assert schema.variable("positions").unit == unit
    assert schema.attributes["wrapped"] == "true"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "give --engine gromacs"),
        ({"engine": "charmm"}, "Nobody knows the engine 'charmm'"),
        ({"engine": "lammps"}, "give --units real, metal, lj"),
        ({"engine": "lammps", "units": "imperial"}, "unit style 'imperial'"),
        ({"engine": "gromacs", "units": "real"}, "is for LAMMPS"),
        ({"engine": "namd", "atoms": -1}, "'atoms' is -1"),
        ({"engine": "namd", "silence": 0.0}, "'silence' is 0.0"),
        (
            {"engine": "namd", "pull": {"a": {"atoms": [1, 1], "minimum": 0, "maximum": 1}}},
            "no set",
        ),
        (
            {"engine": "namd", "pull": {"a": {"atoms": [1], "minimum": 1, "maximum": 2}}},
            "include 0",
        ),
    ],
)
def test_tables_that_cannot_be(table: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        ImdEngine.from_table({"port": 9, **table}, Path())


def test_version_2_with_gaps_filled(stager: Stager, client: StagerClient):
    x = RNG.normal(size=(20, 47681, 3)).astype("f4")
    server = Engine(
        lambda s: [s.send(energies(10 * i) + vectors(COORDINATES, x[i])) for i in range(20)],  # type: ignore[func-returns-value]
        version=2,
    )
    sidecar = Sidecar(
        stager.address, server.port, engine="namd", topology=str(GRO), timestep=0.002,
        start_time=5.0,
    )  # fmt: skip
    found = read_stream(client, "md")
    assert sidecar.join() is None
    server.close()
    np.testing.assert_allclose(found.times, 5.0 + found.steps * 0.002)
    close(found, "positions", x * 0.1)
    close(found, "improper_energy", np.full(20, 7 * KCAL))
    schema = client.schema("md")
    assert schema.topology is not None
    assert schema.topology.names[:3] == ("N", "H1", "H2")
    assert schema.attributes["box"].startswith("constant")
    _, box = read_file(Path(str(GRO)))
    assert box is not None
    close(found, "box", np.broadcast_to(box, (20, 3, 3)))


def test_version_2_without_steps_is_counted(stager: Stager, client: StagerClient):
    server = Engine(
        lambda s: s.send(vectors(COORDINATES, np.ones((ATOMS, 3))) * 7), version=2, order=">"
    )
    sidecar = Sidecar(stager.address, server.port, engine="namd", every=5, timestep=0.5)
    found = read_stream(client, "md")
    assert sidecar.join() is None
    server.close()
    assert found.steps.tolist() == [5 * i for i in range(1, 8)]
    assert client.schema("md").attributes["step"].startswith("counted")
    offered = {c.kind for c in client.status("frames/md").capabilities}
    assert offered == {"pause", "resume", "stop"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "give --every"),
        ({"every": 5}, "give --timestep"),
        ({"every": 5, "timestep": 1.0, "rate": 10}, "another rate holds"),
    ],
)
def test_nothing_is_guessed(
    stager: Stager, client: StagerClient, table: dict[str, object], message: str
):
    data = vectors(COORDINATES, np.ones((ATOMS, 3))) * 3
    server = Engine(lambda s: s.send(data), version=2)
    sidecar = Sidecar(stager.address, server.port, engine="namd", **table)
    error = sidecar.join()
    server.close()
    assert isinstance(error, ConfigError)
    assert message in str(error)
    assert message in read_events(client)["imd_failed"].message


@pytest.mark.parametrize("engine", ["namd", "gromacs"])
@pytest.mark.parametrize("packets", ["EPPPEPPPEP", "PPEPPPEPP", "PEPPPEPPPE"])
def test_version_2_with_energies_beside_some_frames(
    stager: Stager, client: StagerClient, packets: str, engine: str
):
    x = RNG.normal(size=(7, ATOMS, 3)).astype("f4")
    ahead = 1 if engine == "gromacs" else 0
    before = packets.startswith("PE")
    data, at = b"", 0
    for one in packets:
        if one == "P":
            data += vectors(COORDINATES, x[at])
            at += 1
        else:
            data += energies(10 * (at - before) + ahead)
    server = Engine(lambda s: s.send(data), version=2)
    sidecar = Sidecar(
        stager.address, server.port, engine=engine, every=10, first_step=0, timestep=0.5,
        energies=True,
    )  # fmt: skip
    found = read_stream(client, "md")
    assert sidecar.join() is None
    server.close()
    assert found.steps.tolist() == [10 * i for i in range(7)]
    assert found.times.tolist() == [5.0 * i for i in range(7)]
    close(found, "positions", x * 0.1)
    temperature = np.full(7, np.nan)
    told = [2, 5] if packets.startswith("PP") else [0, 3, 6]
    temperature[told] = [300.0 + 10 * i + ahead for i in told]
    close(found, "temperature", temperature)
    assert np.isnan(found["total_energy"]).tolist() == np.isnan(temperature).tolist()
    assert "beside which the engine sends none" in client.schema("md").attributes["energies"]


@pytest.mark.parametrize(
    ("packets", "table", "steps", "message"),
    [
        ("EPEPP", {}, [0, 10], "give --every, the steps between two frames"),
        ("PPEP", {"every": 10, "first_step": 0}, [0, 10], "give --energies"),
        ("PPEP", {"every": 5, "energies": True}, [5, 10], "step 20 where counting came to 15"),
        ("EPPEP", {"every": 5}, [0, 5], "step 20 where counting came to 10"),
    ],
)
def test_energies_that_would_be_lost_and_steps_that_would_be_guessed(
    stager: Stager, client: StagerClient, packets: str, table: dict[str, object],
    steps: list[int], message: str,
):  # fmt: skip
    data, at = b"", 0
    for one in packets:
        data += vectors(COORDINATES, np.ones((ATOMS, 3))) if one == "P" else energies(10 * at)
        at += one == "P"
    server = Engine(lambda s: s.send(data), version=2)
    sidecar = Sidecar(stager.address, server.port, engine="namd", timestep=0.5, **table)
    error = sidecar.join()
    server.close()
    assert isinstance(error, ConfigError)
    assert message in str(error)
    # What came before is not lost, and the stream is not taken for finished.
    with client.fetch({"frames/md": 0}, wait=30.0) as got:
        assert [int(s) for batch in got.batches for s in batch.steps] == steps
        assert not got.finished


def test_boxes():
    assert make_box(()) is None
    np.testing.assert_allclose(make_box((1.0, 2.0, 3.0)), np.diag([1.0, 2.0, 3.0]))
    cell = make_box((2.0, 3.0, 4.0, 80.0, 95.0, 110.0))
    assert cell is not None
    lengths = np.linalg.norm(cell, axis=1)
    np.testing.assert_allclose(lengths, [2.0, 3.0, 4.0])
    cosines = [cell[1] @ cell[2] / 12, cell[0] @ cell[2] / 8, cell[0] @ cell[1] / 6]
    np.testing.assert_allclose(np.degrees(np.arccos(cosines)), [80.0, 95.0, 110.0])
    with pytest.raises(ConfigError, match="The box has 2 numbers"):
        make_box((1.0, 2.0))
    with pytest.raises(ConfigError, match="no volume"):
        make_box((1.0, 2.0, 0.0))


def test_a_topology_without_a_box_and_with_other_atoms(stager: Stager):
    topology, box = read_file(Path(str(PSF)))
    assert (len(topology.names), box) == (3341, None)
    adapter = ImdEngine.from_table(
        {"port": 9, "engine": "namd", "topology": str(PSF), "atoms": 9}, Path()
    )
    with pytest.raises(ConfigError, match="has 3341 atoms, the key 'atoms' says 9"):
        adapter.run("imd", Connection(address=stager.address, timeout=30.0), seed=0, resume=False)
    with pytest.raises(ConfigError, match="does not exist"):
        read_file(Path("nowhere.gro"))


# --------------------------------------------------------------------- commands


class Simulation:
    """Serves a frame each `rate` steps until it is killed, and pauses as engines do."""

    def __init__(self, version: int, *, deaf: bool = False) -> None:
        self.version = version
        self.deaf = deaf
        self.end = threading.Event()

    def __call__(self, server: Engine) -> None:
        step = 0
        x = np.zeros((ATOMS, 3))
        while not self.end.is_set() and not server.left.is_set():
            if not self.deaf:
                server.hold()
                if server.asked_for(KILL):
                    return
            rates = [length for kind, length in server.received if kind == RATE]
            step += 1
            if step % (rates[-1] if rates and not self.deaf else 2):
                continue
            frame = (
                energies(step) + vectors(COORDINATES, x) if self.version == 2 else frame_v3(step, x)
            )
            server.send(frame)
            self.end.wait(0.001)


@pytest.mark.parametrize("version", [2, 3])
def test_commands_reach_the_engine_and_are_answered(
    stager: Stager, client: StagerClient, send, answers, version: int
):
    simulation = Simulation(version)
    server = Engine(simulation, version=version)
    sidecar = Sidecar(
        stager.address, server.port, timestep=0.5,
        pull={"tip": {"atoms": [3, 5], "minimum": -90.0, "maximum": 90.0},
              "end": {"atoms": [5], "minimum": -90.0, "maximum": 90.0}},
    )  # fmt: skip
    wait_until(lambda: any(t.name == "frames/md" for t in client.topics()), "the stream")

    def answered(*ids: str) -> None:
        wait_until(lambda: set(ids) <= set(answers("md")), f"the answer to {ids}")

    send(Command("interval", "md", "rate", value=5.0))
    answered("rate")
    send(Command("set", "md", "up", parameter="tip.fz", value=83.68))
    send(Command("set", "md", "more", parameter="end.fx", value=-41.84))
    send(Command("set", "md", "wild", parameter="tip.fz", value=91.0))
    send(Command("set", "md", "odd", parameter="tip.fq", value=1.0))
    answered("up", "more", "wild", "odd")
    send(Command("resume", "md", "early"))
    send(Command("pause", "md", "pause"))
    answered("pause", "early")
    still = client.status("frames/md").end
    send(Command("pause", "md", "again"))
    answered("again")
    assert client.status("frames/md").end == still
    send(Command("resume", "md", "resume"))
    answered("resume")
    send(Command("stop", "md", "stop"))
    found = read_stream(client, "md")
    assert sidecar.join() is None
    server.close()
    told = answers("md")
    outcomes = {k: a.outcome for k, a in told.items()}
    assert outcomes == {
        "rate": "applied", "up": "applied", "more": "applied", "wild": "refused",
        "odd": "refused", "early": "refused", "pause": "applied", "again": "refused",
        "resume": "applied", "stop": "applied",
    }  # fmt: skip
    steps = found.steps.tolist()
    at = {k: steps.index(a.step) for k, a in told.items() if a.outcome == "applied"}
    assert set(np.diff(steps[at["rate"] :]).tolist()) == {5}
    assert steps[at["rate"]] % 5 == 0
    assert at["pause"] + 1 == still
    assert at["pause"] < at["resume"]
    assert told["stop"].step == steps[-1]
    one = 41.84 if version == 2 else 10.0
    indices, forces = server.pulls[1]
    by_atom = dict(zip(indices, np.reshape(forces, (-1, 3)).tolist(), strict=True))
    assert set(by_atom) == {3, 5}
    np.testing.assert_allclose(by_atom[3], [0, 0, 83.68 / one], rtol=1e-6)
    np.testing.assert_allclose(by_atom[5], [-41.84 / one, 0, 83.68 / one], rtol=1e-6)
    kinds = [kind for kind, _ in server.received]
    assert kinds.count(PAUSE) + kinds.count(RESUME) == 2
    assert kinds.count(RESUME) == (0 if version == 2 else 1)
    assert not kinds.count(DISCONNECT)
    assert read_events(client)["imd_ended"].data["step"] == steps[-1]


def test_what_has_no_effect_is_refused(
    stager: Stager, client: StagerClient, send, answers, monkeypatch: pytest.MonkeyPatch
):
    # An engine that has to wait for its turn on a busy machine does not count as paused.
    monkeypatch.setattr("sim_adapters.imd_commands.QUIET", 60.0)
    simulation = Simulation(3, deaf=True)
    server = Engine(simulation)
    sidecar = Sidecar(stager.address, server.port, command_patience=0.3)
    wait_until(lambda: any(t.name == "frames/md" for t in client.topics()), "the stream")
    for kind in ("pause", "stop", "interval"):
        send(Command(kind, "md", kind, value=7.0 if kind == "interval" else None))  # type: ignore[arg-type]
    wait_until(lambda: len(answers("md")) == 3, "three answers")
    told = answers("md")
    assert {a.outcome for a in told.values()} == {"refused"}
    assert "goes on as before" in told["pause"].reason
    assert "-imdterm" in told["stop"].reason
    simulation.end.set()
    assert sidecar.join() is None
    server.close()


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (frame_v3(0, np.zeros((ATOMS, 3))) + bytes(20), ConnectionLost, "in the middle of a"),
        (frame_v3(0, np.zeros((5, 3))), ProtocolError, "sends 5 atoms, and 12 were expected"),
        (frame_v3(0, np.zeros((ATOMS, 3))) + head(99, 9) + bytes(999), ProtocolError, "type 99"),
        (b"", ConnectionLost, "No frame came"),
    ],
)
def test_what_engines_get_wrong_is_an_event_too(
    stager: Stager, client: StagerClient, data: bytes, error: type[Exception], message: str
):
    server = Engine(lambda s: s.send(data))
    sidecar = Sidecar(stager.address, server.port, atoms=ATOMS)
    failure = sidecar.join()
    server.close()
    assert isinstance(failure, error)
    assert message in str(failure)
    event = read_events(client)["imd_failed"]
    assert message in event.message
    assert (event.level, event.simulation) == ("error", "md")
    assert all(not t.finished for t in client.topics("frames/"))


def test_no_other_rate_where_frames_are_counted(
    stager: Stager, client: StagerClient, send, answers
):
    end = threading.Event()

    def serve(server: Engine) -> None:
        server.send(energies(0) + vectors(COORDINATES, np.ones((ATOMS, 3))) * 3)
        end.wait(60.0)

    server = Engine(serve, version=2)
    sidecar = Sidecar(stager.address, server.port, engine="namd", every=10, timestep=0.5)
    wait_until(
        lambda: any(t.name == "frames/md" and t.end == 3 for t in client.topics()), "the frames"
    )
    send(Command("interval", "md", "rate", value=5.0))
    wait_until(lambda: "rate" in answers("md"), "the answer")
    end.set()
    assert sidecar.join() is None
    server.close()
    assert answers("md")["rate"].outcome == "refused"
    assert "numbers only some of its frames" in answers("md")["rate"].reason


def test_an_engine_that_falls_silent(stager: Stager, client: StagerClient):
    def serve(server: Engine) -> None:
        server.send(frame_v3(0, np.zeros((ATOMS, 3))))
        server.left.wait(60.0)

    server = Engine(serve)
    failure = Sidecar(stager.address, server.port, silence=0.3).join()
    server.close()
    assert isinstance(failure, ConnectionLost)
    assert "has said nothing for" in read_events(client)["imd_failed"].message


def test_nobody_is_there(stager: Stager, client: StagerClient):
    failure = Sidecar(stager.address, 9, patience=0.2).join()
    assert isinstance(failure, NobodyListening)
    assert "none listens there" in read_events(client)["imd_failed"].message


def test_an_engine_that_comes_again(stager: Stager, client: StagerClient):
    x = np.ones((ATOMS, 3))

    def serve(first: int) -> Engine:
        return Engine(
            lambda s: s.send(b"".join(frame_v3(first + i, x) for i in range(10))), port=port
        )

    port = 0
    server = serve(0)
    port = server.port
    sidecar = Sidecar(stager.address, port, reconnect=3.0)
    wait_until(lambda: "imd_ended" in read_events(client), "the end of the first session")
    server.close()
    server = serve(7)
    found = read_stream(client, "md")
    assert sidecar.join() is None
    server.close()
    assert found.steps.tolist() == list(range(17))
    assert found.epochs.tolist() == [0] * 10 + [1] * 7
    assert "3 frames" in read_events(client)["steps_repeated"].message


def test_an_engine_that_sends_a_step_twice(stager: Stager, client: StagerClient):
    x = np.ones((ATOMS, 3))
    # LAMMPS does where one run ends and another begins; here all of it comes at once.
    data = b"".join(frame_v3(step, x) for step in (0, 10, 10, 20, 0, 30))
    server = Engine(lambda s: s.send(data))
    sidecar = Sidecar(stager.address, server.port)
    found = read_stream(client, "md")
    assert sidecar.join() is None
    server.close()
    assert found.steps.tolist() == [0, 10, 20, 30]
    said = read_events(client)["steps_repeated"].message
    assert "2 frames of 'md', from step 10 on" in said
    assert "has come to step 10" in said


def test_many_read_an_engine_that_serves_one(stager: Stager, client: StagerClient):
    x = RNG.normal(size=(200, ATOMS, 3))
    begin = threading.Event()

    def serve(server: Engine) -> None:
        begin.wait(60.0)
        for i in range(200):
            server.send(frame_v3(i, x[i]))

    server = Engine(serve)
    sidecar = Sidecar(stager.address, server.port)
    found: dict[int, FrameBatch] = {}

    def read(number: int) -> None:
        with StagerClient(stager.address) as mine:
            found[number] = read_stream(mine, "md")

    readers = [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for reader in readers:
        reader.start()
    begin.set()
    for reader in readers:
        reader.join(100.0)
    assert sidecar.join() is None
    server.close()
    assert set(found) == {0, 1, 2, 3}
    for batch in found.values():
        close(batch, "positions", x.astype("f4") * np.float32(0.1))
