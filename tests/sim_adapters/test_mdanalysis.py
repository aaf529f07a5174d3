"""Streams as trajectories of MDAnalysis: the same as the file, whatever becomes of the stream."""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import MDAnalysis as mda  # noqa: N813 - as everybody does
import numpy as np
import pytest
from MDAnalysisTests.datafiles import DCD, GRO, PSF, TRR, XTC

import sim_adapters.mdanalysis
from bridge.errors import ConfigError, NobodyListening, OffsetOutOfRange, StagingError
from bridge.schema import StreamSchema, Topology, Variable
from bridge.staging import Producer, Stager, StagerClient, StreamOptions
from bridge.staging.connection import Connection
from bridge.transports.context import open_ends
from sim_adapters.mdanalysis_units import to_mdanalysis
from sim_adapters.replay import Replay

assert sim_adapters.mdanalysis.PREFIX == "headrace://"


def stream(stager: Stager, topology: Any, trajectory: Any, **table: Any) -> str:
    """Replay a file into a stager to its end; returns the stream's name for MDAnalysis."""
    keys = {"topology": str(topology), "trajectory": str(trajectory), "name": "w", **table}
    connection = Connection(address=stager.address)
    Replay.from_table(keys, Path()).run("w", connection, seed=0, resume=False)
    return url(stager)


def url(stager: Stager, name: str = "w") -> str:
    return f"headrace://{stager.address.removeprefix('tcp://')}/{name}"


@pytest.mark.parametrize(("topology", "trajectory"), [(PSF, DCD), (GRO, XTC), (GRO, TRR)])
def test_a_finished_stream_is_the_file(stager: Stager, topology: Any, trajectory: Any) -> None:
    file = mda.Universe(topology, trajectory)
    step = file.trajectory.ts
    fields = ["positions"] + ["velocities"] * step.has_velocities + ["forces"] * step.has_forces
    found = mda.Universe(topology, stream(stager, topology, trajectory, fields=fields))
    assert len(found.trajectory) == len(file.trajectory)
    assert found.trajectory.finished
    order = [5, -1, 0, 3, 4]
    for number in order:
        one, other = file.trajectory[number], found.trajectory[number]
        assert other.frame == one.frame
        assert other.time == pytest.approx(one.time)
        np.testing.assert_allclose(other.positions, one.positions, rtol=3e-7, atol=1e-6)
        if one.has_velocities:
            np.testing.assert_allclose(other.velocities, one.velocities, rtol=3e-7, atol=1e-6)
        if one.dimensions is None:
            assert other.dimensions is None
        else:
            np.testing.assert_allclose(other.dimensions, one.dimensions, rtol=1e-6)
    assert found.trajectory.dt == pytest.approx(file.trajectory.dt)
    assert [ts.frame for ts in found.trajectory[np.array([7, 2])]] == [7, 2]
    sliced = [ts.frame for ts in found.trajectory[1:9:3]]
    assert sliced == [1, 4, 7]
    assert found.trajectory.frame == 0
    with pytest.raises(IndexError):
        found.trajectory[10_000]
    assert f"{len(file.trajectory)} frames of {file.atoms.n_atoms} atoms" in repr(found.trajectory)


def test_the_topology_comes_from_the_stream(stager: Stager) -> None:
    file = mda.Universe(PSF, DCD)
    select = "protein and resid 1-20"
    found = mda.Universe(stream(stager, PSF, DCD, select=select, every=10))
    atoms = file.select_atoms(select)
    for name in ("names", "resnames", "resids", "masses"):
        np.testing.assert_array_equal(getattr(found.atoms, name), getattr(atoms, name))
    assert len(found.bonds) == len(atoms.intra_bonds)
    assert found.residues.n_residues == 20
    for one, other in zip(file.trajectory[::10], found.trajectory, strict=True):
        np.testing.assert_allclose(other.positions, atoms.positions, rtol=3e-7, atol=1e-6)
        assert other.data["step"] == one.frame
        rows = found.select_atoms("name CA and resid 3-5")
        assert len(rows) == 3


@pytest.fixture
def producer(stager: Stager) -> Iterator[Callable[..., Producer]]:
    made: list[Producer] = []

    def make(schema: StreamSchema, **more: Any) -> Producer:
        made.append(Producer("w", schema, address=stager.address, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


WATER = StreamSchema(
    (
        Variable("x", "<f8", (3, 3), "pm"),
        Variable("forces", "<f4", (3, 3), "kcal/mol/Å"),
        Variable("box", "<f8", (3,), "nm"),
        Variable("energy", "<f8", (), "eV"),
        Variable("charges", "<f4", (3,)),
    ),
    time_unit="fs",
    topology=Topology(names=("O", "H1", "H2"), elements=("O", "H", "H"), bonds=((0, 1), (0, 2))),
)


def put(producer: Producer, steps: range) -> None:
    for step in steps:
        values = {
            "x": np.full((3, 3), 100.0 * step), "forces": np.ones((3, 3), np.float32),
            "box": np.full(3, 2.0), "energy": np.array(-1.5 * step),
            "charges": np.array([-0.8, 0.4, 0.4], np.float32),
        }  # fmt: skip
        producer.put(step, 2.0 * step, values)


def test_a_running_stream_is_waited_for(stager: Stager, producer: Any) -> None:
    running = producer(WATER)
    put(running, range(3))
    running.flush()
    u = mda.Universe(url(stager), names={"positions": "x"})
    assert "frames so far of 3 atoms" in repr(u.trajectory)
    with pytest.raises(StagingError, match="is unknown while it runs; it has 3 so far"):
        len(u.trajectory)
    with pytest.raises(StagingError, match="Frames cannot be counted from the end"):
        u.trajectory[:-1]
    assert u.trajectory[2].frame == 2

    def go_on() -> None:
        put(running, range(3, 40))
        running.close()

    thread = threading.Timer(0.05, go_on)
    thread.start()
    seen = [(ts.frame, ts.time, float(ts.positions[0, 0])) for ts in u.trajectory[1::2]]
    thread.join()
    assert seen == [(n, pytest.approx(0.002 * n), pytest.approx(float(n))) for n in range(1, 40, 2)]
    assert len(u.trajectory) == 40
    assert [ts.frame for ts in u.trajectory] == list(range(40))
    ts = u.trajectory[7]
    np.testing.assert_allclose(ts.forces, 4.184)
    np.testing.assert_allclose(ts.dimensions, [20.0, 20.0, 20.0, 90.0, 90.0, 90.0])
    assert (ts.data["energy"], ts.data["step"], ts.data["offset"]) == (-10.5, 7, 7)
    np.testing.assert_allclose(ts.data["charges"], [-0.8, 0.4, 0.4])
    assert u.trajectory.dt == pytest.approx(0.002)
    assert len(u.atoms.bonds) == 2
    native = mda.Universe(url(stager), names={"positions": "x"}, convert_units=False)
    assert native.trajectory[7].positions[0, 0] == 700.0
    native.trajectory.close()
    u.trajectory.close()
    u.trajectory.close()


def test_a_universe_that_is_dropped_is_closed(stager: Stager, producer: Any) -> None:
    put(running := producer(WATER), range(2))
    running.flush()
    gc.collect()
    before = set(open_ends)
    for _ in range(3):
        u = mda.Universe(url(stager), names={"positions": "x"})
        # Rings of garbage, whose members may be finalized in any order.
        u.trajectory.ring = [u.trajectory.source, u, u.trajectory.source._client._session.channel]
    opened = set(open_ends) - before
    assert len(opened) == 3
    del u, opened
    gc.collect()
    assert set(open_ends) == before
    # What could not be made leaves nothing behind, either.
    with pytest.raises(ConfigError, match="none of positions"):
        sim_adapters.mdanalysis.HeadraceReader(url(stager), names={"forces": "y"})
    with pytest.raises(ConfigError, match="into a length"):
        sim_adapters.mdanalysis.HeadraceReader(
            url(stager), names={"positions": "x"}, units={"positions": "eV"}
        )
    assert set(open_ends) == before


def test_what_is_there_so_far(stager: Stager, producer: Any) -> None:
    running = producer(WATER)
    put(running, range(5))
    running.flush()
    u = mda.Universe(url(stager), names={"positions": "x"}, so_far=True)
    put(running, range(5, 9))
    running.flush()
    assert len(u.trajectory) == 5
    assert [ts.frame for ts in u.trajectory] == list(range(5))


def test_waits_end_with_a_sentence(stager: Stager, producer: Any) -> None:
    with pytest.raises(StagingError, match=r"Waited 0\.1 s for a first frame of 'w'"):
        mda.Universe(url(stager), patience=0.1)
    # MDAnalysis makes an OSError of whatever a parser could not reach.
    with pytest.raises(OSError, match="Start one with 'headrace stage'"):
        mda.Universe("headrace://127.0.0.1:9/w", timeout=0.2)
    with pytest.raises(NobodyListening):
        mda.Universe(PSF, "headrace://127.0.0.1:9/w", timeout=0.2)
    running = producer(WATER)
    put(running, range(2))
    running.flush()
    u = mda.Universe(url(stager), names={"positions": "x"}, patience=0.1)
    with pytest.raises(StagingError, match=r"for frame 2 of 'w' .* the newest one is 1, of step 1"):
        for _ in u.trajectory:
            pass
    with pytest.raises(StagingError, match="for frame 10 of 'w'"):
        u.trajectory[10]


def test_a_lost_stager_is_no_end(producer: Any) -> None:
    with Stager() as stager:
        stager.start()
        running = Producer("w", WATER, address=stager.address)
        put(running, range(2))
        running.flush()
        u = mda.Universe(url(stager), names={"positions": "x"}, timeout=0.5, patience=0.5)
        running.close(finished=False)
    with pytest.raises(StagingError):
        for _ in u.trajectory:
            pass


def test_frames_that_were_released_are_told_and_a_group_keeps_them(
    stager: Stager, producer: Any
) -> None:
    schema = StreamSchema((Variable("positions", "<f4", (2000, 3), "nm"),), time_unit="ps")
    options = StreamOptions(when_full="drop_oldest", capacity=1 << 20, keep=0)
    running = producer(schema, options=options)
    values = {"positions": np.zeros((2000, 3), np.float32)}
    for step in range(5):
        running.put(step, float(step), values)
    running.flush()
    u = mda.Universe(url(stager), to_guess=())
    for step in range(5, 300):
        running.put(step, float(step), values)
    running.close()
    with pytest.raises(OffsetOutOfRange, match="Frame 50 of 'w' was released before"):
        u.trajectory[50]
    assert u.trajectory[-1].data["step"] == 299
    late = mda.Universe(url(stager), to_guess=())
    first = late.trajectory[0].data["step"]
    assert [ts.data["step"] for ts in late.trajectory] == list(range(first, 300))
    late.trajectory.close()


def test_a_group_holds_frames_back(stager: Stager, client: StagerClient, producer: Any) -> None:
    schema = StreamSchema((Variable("positions", "<f4", (2000, 3), "nm"),), time_unit="ps")
    running = producer(schema, options=StreamOptions(capacity=1 << 20, keep=0))
    values = {"positions": np.zeros((2000, 3), np.float32)}
    running.put(0, 0.0, values)
    running.flush()
    client.commit("engine", {"frames/w": 0})
    u = mda.Universe(url(stager), to_guess=(), group="looker")

    def write() -> None:
        for step in range(1, 400):
            running.put(step, float(step), values)
        running.close()

    thread = threading.Thread(target=write)
    thread.start()
    seen = []
    for ts in u.trajectory:
        seen.append(ts.data["step"])
        client.commit("engine", {"frames/w": ts.data["offset"] + 1})
    thread.join()
    assert seen == list(range(400))
    assert client.status("frames/w").groups.keys() == {"engine", "looker"}
    u.trajectory.close()
    assert client.status("frames/w").groups.keys() == {"engine"}


@pytest.mark.parametrize(
    ("variables", "options", "message"),
    [
        ([Variable("x", "<f4", (4, 3), "nm")], {}, "none of positions, velocities, forces"),
        ([Variable("positions", "<f4", (2,), "nm")], {}, r"has shape \(2,\)"),
        ([Variable("positions", "<f4", (4, 3))], {}, r"no unit.*units=\{'positions': 'nm'\}"),
        ([Variable("positions", "<f4", (4, 3), "kJ/mol")], {}, "into a length"),
        ([Variable("positions", "<f4", (4, 3), "nm")], {"patiance": 3}, "did you mean 'patience'"),
        (
            [Variable("positions", "<f4", (4, 3), "nm"), Variable("forces", "<f4", (5, 3), "nm")],
            {}, "must have the same atoms",
        ),
    ],
)  # fmt: skip
def test_streams_that_are_no_trajectories(
    stager: Stager, producer: Any, variables: Any, options: Any, message: str
) -> None:
    running = producer(StreamSchema(tuple(variables), time_unit="ps"))
    running.put(0, 0.0, {v.name: np.zeros(v.shape, np.float32) for v in variables})
    running.flush()
    # ConfigError, or what MDAnalysis makes of one that a parser raised.
    with pytest.raises(ValueError, match=message):
        mda.Universe(url(stager), to_guess=(), **options)


def test_units_that_are_told(stager: Stager, producer: Any) -> None:
    running = producer(StreamSchema((Variable("positions", "<f4", (2, 3)),)))
    running.put(0, 3.0, {"positions": np.ones((2, 3), np.float32)})
    running.flush()
    u = mda.Universe(url(stager), to_guess=(), units={"positions": "bohr", "time": "ns"})
    np.testing.assert_allclose(u.atoms.positions, 0.529177, rtol=1e-6)
    assert u.trajectory.ts.time == 3000.0


@pytest.mark.parametrize(
    ("unit", "quantity", "factor"),
    [
        ("nm", "length", 10.0), ("Å", "length", 1.0), ("nm/ps", "velocity", 10.0),
        ("Å/fs", "velocity", 1000.0), ("m/s", "velocity", 0.01),
        ("kJ/mol/nm", "force", 0.1), ("kJ/(mol*nm)", "force", 0.1),
        ("kcal/mol/Å", "force", 4.184), ("eV/Å", "force", 96.4853321),
        ("kJ/mol nm", "force", None), ("parsec", "length", None),
    ],
)  # fmt: skip
def test_units(unit: str, quantity: str, factor: float | None) -> None:
    if factor is None:
        with pytest.raises(ConfigError, match="cannot be converted"):
            to_mdanalysis(unit, quantity, "variable positions")
    else:
        assert to_mdanalysis(unit, quantity, "variable positions") == pytest.approx(factor)


def test_names_and_other_ways_to_name_a_stream(
    stager: Stager, producer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(producer(WATER), range(2))
    options: dict[str, Any] = {"names": {"positions": "x"}}
    for stream_, more in (
        ("w", {"format": "HEADRACE", "topology_format": "HEADRACE", "stager": stager.address}),
        (f"headrace://{stager.address}/w", {}),
    ):
        u = mda.Universe(stream_, stream_, **options, **more)
        assert u.atoms.n_atoms == 3
        u.trajectory.close()
    monkeypatch.setenv("HEADRACE_STAGER", stager.address)
    assert mda.Universe("headrace:///w", **options).atoms.n_atoms == 3
    with pytest.raises(ValueError, match="given twice"):
        mda.Universe(url(stager), stager=stager.address)
    with pytest.raises(ValueError, match="names no simulation"):
        mda.Universe("headrace://127.0.0.1:5555/")


def test_copies_read_on_their_own(stager: Stager) -> None:
    found = mda.Universe(PSF, stream(stager, PSF, DCD, every=7))
    found.trajectory[3]
    # What MDAnalysis hands to worker processes travels as a shallow copy does.
    for other in (found.copy().trajectory, copy.copy(found.trajectory)):
        assert other.frame == 3
        np.testing.assert_array_equal(other.ts.positions, found.trajectory.ts.positions)
        assert other[4].frame == 4
        assert found.trajectory.frame == 3
        other.close()
