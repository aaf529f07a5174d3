"""GROMACS over IMD version 2: the frames that it writes itself, and what others do to it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import MDAnalysis
import numpy as np
import pytest

from bridge import Command
from bridge.commands import CommandKind
from bridge.staging import Stager, StagerClient
from tests.sim_adapters.common import read_stream, wait_until
from tests.sim_adapters.imd_common import Sidecar, read_events

GMX = shutil.which("gmx")
pytestmark = [
    pytest.mark.skipif(GMX is None, reason="GROMACS (gmx) is not installed."),
    # On a busy machine, its preparation alone takes a minute.
    pytest.mark.timeout(300),
]

EVERY = 10
TIMESTEP = 0.002
PARAMETERS = f"""
integrator = md
dt = {TIMESTEP}
nsteps = 1000000
nstxout = {EVERY}
nstcalcenergy = {EVERY}
nstenergy = {EVERY}
coulombtype = reaction-field
rcoulomb = 0.8
rvdw = 0.8
tcoupl = v-rescale
tc-grps = System
tau-t = 0.5
ref-t = 300
gen-vel = yes
gen-temp = 300
IMD-group = System
"""
TOPOLOGY = """
#include "oplsaa.ff/forcefield.itp"
#include "oplsaa.ff/spc.itp"
[ system ]
water
[ molecules ]
"""


def gmx(folder: Path, *arguments: str, said: str = "") -> None:
    command = [str(GMX), "-nobackup", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False, input=said
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def water(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box of water, ready to run."""
    folder = tmp_path_factory.mktemp("water")
    (folder / "topol.top").write_text(TOPOLOGY)
    (folder / "md.mdp").write_text(PARAMETERS)
    gmx(folder, "solvate", "-cs", "spc216.gro", "-box", "2", "2", "2", "-o", "box.gro", "-p",
        "topol.top")  # fmt: skip
    gmx(folder, "grompp", "-f", "md.mdp", "-c", "box.gro", "-p", "topol.top", "-o", "md.tpr",
        "-maxwarn", "5")  # fmt: skip
    return folder


class Mdrun:
    """A simulation that waits for its reader."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._log = (folder / "mdrun.txt").open("w")
        self.process = subprocess.Popen(
            [str(GMX), "-nobackup", "mdrun", "-s", "md.tpr", "-deffnm", "run", "-ntmpi", "1",
             "-ntomp", "1", "-nb", "cpu", "-imdport", str(self.port), *arguments],
            cwd=folder, stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()


@pytest.fixture
def mdrun(water: Path) -> Iterator[Mdrun]:
    run = Mdrun(water, "-imdwait", "-imdterm", "-imdpull", "-if", "pull.xvg")
    yield run
    run.end()


def test_frames_pause_forces_and_end(
    stager: Stager, client: StagerClient, water: Path, mdrun: Mdrun, send, answers
):
    sidecar = Sidecar(
        stager.address, mdrun.port, engine="gromacs", topology=str(water / "box.gro"),
        timestep=TIMESTEP, pull={"first": {"atoms": [0, 1, 2], "minimum": -2e3, "maximum": 2e3}},
    )  # fmt: skip
    wait_until(lambda: any(t.name == "frames/md" for t in client.topics()), "the stream")

    def order(name: str, kind: CommandKind, parameter: str = "", value: float | None = None) -> int:
        send(Command(kind, "md", name, parameter=parameter, value=value))
        if name != "early":
            wait_until(lambda: name in answers("md"), f"the answer to {name}")
        return client.status("frames/md").end

    order("interval", "interval", value=5.0)
    order("push", "set", "first.fz", 1000.0)
    still = order("pause", "pause")
    order("early", "set", "first.fz", -500.0)
    order("resume", "resume")
    wait_until(lambda: client.status("frames/md").end > still + 40, "frames again")
    order("stop", "stop")
    found = read_stream(client, "md")
    assert sidecar.join() is None
    mdrun.process.wait(60.0)
    told = answers("md")
    assert {a.outcome for a in told.values()} == {"applied"}
    steps = found.steps
    at = {name: int(np.searchsorted(steps, a.step)) for name, a in told.items()}
    # Up to the first multiple of the new interval it may be any number of steps.
    assert np.diff(steps[: at["interval"]]).max(initial=1) <= 5
    assert set(np.diff(steps[at["interval"] :]).tolist()) == {5}
    assert at["pause"] == still - 1
    assert told["resume"].step == told["pause"].step + 5
    np.testing.assert_allclose(found.times, steps * TIMESTEP)

    # What GROMACS wrote into its own trajectory, for the steps that are in both; molecules may
    # lie in another image of the box.
    universe = MDAnalysis.Universe(str(water / "box.gro"), str(water / "run.trr"))
    index = {int(step): row for row, step in enumerate(steps)}
    compared = 0
    for frame in universe.trajectory:
        row = index.get(round(frame.time / TIMESTEP))
        if row is None:
            continue
        box = found["box"][row].diagonal()
        apart = found["positions"][row] - universe.atoms.positions / 10
        np.testing.assert_allclose(apart - box * np.round(apart / box), 0.0, atol=2e-6)
        compared += 1
    assert compared > 10
    gmx(water, "energy", "-f", "run.edr", "-o", "energy.xvg", said="Potential\nTemperature\n")
    compared = 0
    for time, *energies in np.loadtxt(water / "energy.xvg", comments=["#", "@"]):
        row = index.get(round(time / TIMESTEP))
        if row is not None:
            mine = [found["potential_energy"][row], found["temperature"][row]]
            np.testing.assert_allclose(mine, energies, rtol=1e-5)
            compared += 1
    assert compared > 10
    assert client.schema("md").topology is not None

    # GROMACS notes the forces that it applies, in kJ/mol/nm.
    lines = (water / "pull.xvg").read_text().splitlines()
    notes = [line.split() for line in lines if line[0] not in "#@"]
    assert [float(v) for v in notes[0][1:6]] == pytest.approx([3, 1, 0, 0, 1000], rel=1e-4)
    assert [float(v) for v in notes[1][1:6]] == pytest.approx([3, 1, 0, 0, -500], rel=1e-4)
    assert float(notes[0][0]) <= told["push"].time
    assert (water / "run.cpt").is_file()
    assert read_events(client)["imd_ended"].data["step"] == steps[-1]


def test_an_engine_that_may_not_be_ended(
    stager: Stager, client: StagerClient, water: Path, send, answers
):
    run = Mdrun(water, "-imdwait")
    sidecar = Sidecar(
        stager.address, run.port, engine="gromacs", timestep=TIMESTEP, rate=50,
        command_patience=1.0,
    )  # fmt: skip
    try:
        wait_until(lambda: any(t.name == "frames/md" for t in client.topics()), "the stream")
        send(Command("stop", "md", "stop"))
        wait_until(lambda: "stop" in answers("md"), "the answer")
        assert "only when started with -imdterm" in answers("md")["stop"].reason
    finally:
        run.end()
    assert sidecar.join() is None
