"""ASE: thermostats and integrators of every kind, time steps that change, and members of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ase")

from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.md.andersen import Andersen
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from bridge import Command
from bridge.codec import encode_state
from bridge.errors import ConfigError
from bridge.staging import Stager, StagerClient
from bridge.staging.connection import Connection
from sim_adapters.ase import link, list_capabilities
from sim_adapters.ase_member import ASE
from sim_adapters.ase_schema import describe
from sim_adapters.ase_thermostats import find_thermostat
from tests.sim_adapters.common import read_stream, wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "ase_cluster"
FS = units.fs


def copper() -> Any:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    atoms.set_velocities(np.random.default_rng(1).normal(scale=0.02, size=(4, 3)))
    return atoms


def langevin(atoms: Any) -> Any:
    noise = np.random.default_rng(2)
    return Langevin(atoms, FS, temperature_K=300.0, friction=0.1 / FS, fixcm=False, rng=noise)


THERMOSTATS = {
    "langevin": langevin,
    "andersen": lambda a: Andersen(a, FS, temperature_K=300.0, andersen_prob=0.1),
    "berendsen": lambda a: NVTBerendsen(a, FS, temperature_K=300.0, taut=10 * FS),
    "bussi": lambda a: Bussi(a, FS, temperature_K=300.0, taut=10 * FS),
}


@pytest.mark.parametrize("name", THERMOSTATS)
def test_a_thermostat_takes_a_temperature_while_it_runs(name: str) -> None:
    dynamics = THERMOSTATS[name](copper())
    thermostat = find_thermostat(dynamics)
    assert thermostat is not None
    read, heat = thermostat
    assert read() == pytest.approx(300.0)
    dynamics.run(5)
    heat(3000.0)
    assert read() == pytest.approx(3000.0)
    found = []
    dynamics.attach(lambda: found.append(dynamics.atoms.get_temperature()), interval=1)
    dynamics.run(150)
    assert np.mean(found[50:]) > 1200.0
    kinds = {c.kind for c in list_capabilities(dynamics, restart=True, temperature=(1.0, 2.0))}
    assert kinds == {"set", "restart", "stop", "pause", "resume", "interval"}


def test_what_an_integrator_cannot_do_is_not_declared() -> None:
    verlet = VelocityVerlet(copper(), FS)
    chain = NoseHooverChainNVT(copper(), FS, temperature_K=300.0, tdamp=100 * FS)
    groups = Langevin(copper(), FS, temperature_K=np.full((4, 1), 300.0), friction=0.1, fixcm=False)
    for dynamics, restarts in ((verlet, True), (chain, False), (groups, True)):
        assert find_thermostat(dynamics) is None
        kinds = {c.kind for c in list_capabilities(dynamics, restart=True, temperature=None)}
        assert kinds == {"stop", "pause", "resume", "interval"} | (
            {"restart"} if restarts else set()
        )
        with pytest.raises(ConfigError, match="cannot be set while it runs"):
            list_capabilities(dynamics, restart=True, temperature=(1.0, 2.0))


def test_only_dynamics_are_linked_and_selections_must_have_atoms() -> None:
    with pytest.raises(ConfigError, match=r"one of ase\.md; this is a BFGS"):
        link(BFGS(copper(), logfile=None), "w")
    for select in ("Au", "backbone", []):
        with pytest.raises(ConfigError, match="a symbol among Cu"):
            describe(copper(), select=select)
    with pytest.raises(ConfigError, match="Atom 4 is selected"):
        describe(copper(), select=[1, 4])
    with pytest.raises(ConfigError, match="the field 'stress'"):
        describe(copper(), fields=("stress",))  # type: ignore[arg-type]


def test_a_restart_without_a_thermostat_keeps_velocities_and_fixed_atoms(
    stager: Stager, client: StagerClient, send: Any, answers: Any
) -> None:
    atoms = copper()
    atoms.set_constraint(FixAtoms([0]))
    dynamics = VelocityVerlet(atoms, FS)
    fixed = atoms.positions[0].copy()
    where = atoms.positions / 10.0 + 0.003
    velocities = np.full((4, 3), 0.2)
    state = encode_state({"positions": where, "velocities": velocities})
    with link(dynamics, "w", stager=stager.address) as stream:
        dynamics.attach(stream, interval=5)
        dynamics.run(5)
        send(Command("restart", "w", "redrawn", state=state))
        send(Command("restart", "w", "kept", state=state, velocities="keep", at_step=50))
        wait_until(lambda: stream.link.producer.statistics().commands == 2, "two commands")
        dynamics.run(45)
        assert np.array_equal(atoms.positions[0], fixed)
        np.testing.assert_allclose(atoms.positions[1:], where[1:] * 10.0)
        np.testing.assert_allclose(atoms.get_velocities()[1:] * 0.1 * 1000.0 * FS, 0.2)
    told = answers("w")
    assert told["redrawn"].outcome == "refused"
    assert "velocities = 'keep'" in told["redrawn"].reason
    assert (told["kept"].outcome, told["kept"].step) == ("applied", 50)


def test_the_time_goes_on_when_the_time_step_changes(stager: Stager, client: StagerClient) -> None:
    dynamics = langevin(copper())
    with link(dynamics, "w", stager=stager.address, every=2) as stream:
        dynamics.attach(stream)
        dynamics.run(4)
        stream()  # nothing is due: nothing is sent
        dynamics.set_timestep(0.5 * FS)
        stream()
        dynamics.run(4)
    found = read_stream(client, "w")
    assert found.steps.tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_allclose(found.times, [0.0, 0.002, 0.004, 0.005, 0.006])


def test_a_blown_up_simulation_is_told(stager: Stager, client: StagerClient) -> None:
    dynamics = langevin(copper())
    with link(dynamics, "w", stager=stager.address, fields=("velocities",)) as stream:
        stream()
        dynamics.atoms.set_momenta(np.full((4, 3), np.nan))
        dynamics.nsteps = 1
        stream()
    events = client.fetch({"events": 0}, wait=5.0).records
    assert any(b"not finite from step 1 on" in bytes(e.data) for e in events)


def test_a_member_goes_on_from_its_last_frame(stager: Stager, client: StagerClient) -> None:
    table = {
        "make": "cluster.py:make", "max_steps": 100, "members": 2, "every": 10,
        "fields": ["positions", "velocities"],
    }  # fmt: skip
    member = ASE.from_table(table, EXAMPLE)
    assert member.members() == ["walker-0", "walker-1"]
    connection = Connection(address=stager.address)
    dynamics = member._load()(seed=1)
    with link(
        dynamics, "walker-0", stager=stager.address, fields=("positions", "velocities")
    ) as stream:
        dynamics.attach(stream, interval=10)
        dynamics.run(50)
        stream.close(finished=False)
    member.run("walker-0", connection, seed=1, resume=True)
    found = read_stream(client, "walker-0")
    assert found.steps.tolist() == list(range(0, 101, 10))
    np.testing.assert_allclose(found.times, found.steps * 0.005)
    assert found.epochs.tolist() == [0] * 6 + [1] * 5
    # From step 50 on, ten steps of 5 fs: an atom moves less than between frames far apart.
    moved = np.abs(np.diff(found["positions"], axis=0)).max(axis=(1, 2))
    assert moved[5] < 2.0 * moved.mean()
    # A finished walker has nothing left to do.
    member.run("walker-0", connection, seed=1, resume=True)
    assert len(read_stream(client, "walker-0")) == len(found)


def test_a_member_is_stopped(stager: Stager, client: StagerClient, send: Any, answers: Any) -> None:
    table = {
        "make": "cluster.py:make", "max_steps": 1_000_000, "temperature_bounds": [300.0, 1200.0],
    }  # fmt: skip
    send(Command("set", "walker-0", "warm", parameter="temperature", value=1000.0))
    send(Command("stop", "walker-0", "end", at_step=205))
    connection = Connection(address=stager.address)
    ASE.from_table(table, EXAMPLE).run("walker-0", connection, seed=1, resume=False)
    told = answers("walker-0")
    assert (told["warm"].outcome, told["end"].outcome) == ("applied", "applied")
    assert told["end"].step == 205
    assert read_stream(client, "walker-0").steps.tolist() == list(range(0, 201, 10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"make": "cluster.py"}, "'file.py:function'"),
        ({"make": "nowhere.py:make"}, "'make' names does not exist"),
        ({"every": 0}, "'every' is 0"),
        ({"evry": 1}, "did you mean 'every'"),
    ],
)
def test_tables_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ASE.from_table({"make": "cluster.py:make", "max_steps": 10, **change}, EXAMPLE)
