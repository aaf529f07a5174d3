"""Real OpenMM walkers of alanine dipeptide: streamed, unchanged, and steered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge import Command, FrameReference
from bridge.codec import encode_state
from bridge.staging import Stager, StagerClient
from sim_adapters.openmm import link, run
from sim_adapters.openmm_system import SystemTable, build_simulation, read_structure
from tests.sim_adapters.common import read_stream, wait_until

FOLDER = Path(__file__).parents[2] / "examples" / "alanine_dipeptide"
TABLE = SystemTable(
    prmtop="alanine-dipeptide.prmtop", coordinates="alanine-dipeptide.crd",
    implicit_solvent="OBC2", hydrogen_mass=3.0, timestep=0.004, platform="Reference",
)  # fmt: skip


@pytest.fixture(scope="module")
def make() -> Callable[[int], Any]:
    structure = read_structure(TABLE, FOLDER)
    return lambda seed: build_simulation(structure, TABLE, seed)


def positions(simulation: Any) -> np.ndarray:
    state = simulation.context.getState(positions=True)
    return np.array(state.getPositions(asNumpy=True)._value)


def test_a_linked_run_is_the_same_to_the_bit(
    stager: Stager, client: StagerClient, make: Callable[[int], Any]
):
    # One after the other: the Reference platform has one random number generator a process.
    plain = make(3)
    frames = []
    for _ in range(8):
        plain.step(25)
        frames.append(positions(plain))
    linked = make(3)
    with link(linked, "w", stager=stager.address, every=25, driven=True) as reporter:
        assert run(linked, reporter, last=200)
    assert np.array_equal(positions(linked), frames[-1])
    found = read_stream(client, "w")
    assert found.steps.tolist() == list(range(25, 201, 25))
    np.testing.assert_allclose(found.times, found.steps * 0.004)
    assert np.array_equal(found["positions"], np.array(frames, np.float32))
    schema = client.schema("w")
    assert schema.time_unit == "ps"
    assert schema.variable("positions").unit == "nm"
    assert schema.topology is not None
    assert len(schema.topology.names) == 22


def test_fields_and_selections(stager: Stager, client: StagerClient, make: Callable[[int], Any]):
    simulation = make(1)
    fields = ("positions", "velocities", "forces", "energies")
    with link(
        simulation, "w", stager=stager.address, every=10, select="heavy", fields=fields
    ) as reporter:
        simulation.reporters.append(reporter)
        simulation.step(10)
        state = simulation.context.getState(
            positions=True, velocities=True, forces=True, energy=True
        )
        simulation.reporters.clear()
    found = read_stream(client, "w")
    heavy = [a.index for a in simulation.topology.atoms() if a.element.symbol != "H"]
    for name, value in (
        ("positions", state.getPositions(asNumpy=True)._value),
        ("velocities", state.getVelocities(asNumpy=True)._value),
        ("forces", state.getForces(asNumpy=True)._value),
    ):
        np.testing.assert_array_equal(found[name][0], value[heavy].astype(np.float32))
    assert found["potential_energy"][0] == state.getPotentialEnergy()._value
    assert found["kinetic_energy"][0] == state.getKineticEnergy()._value


def test_restart_temperature_and_stop(
    stager: Stager, client: StagerClient, make: Callable[[int], Any], send, answers
):
    simulation = make(2)
    with link(
        simulation, "w", stager=stager.address, every=10, driven=True, temperature=(250.0, 400.0)
    ) as reporter:
        assert run(simulation, reporter, last=100)
        where = positions(simulation).astype(np.float32)
        assert run(simulation, reporter, last=200)
        state = encode_state({"positions": where})
        for command in (
            Command("set", "w", "warm", parameter="temperature", value=350.0),
            Command("set", "w", "hot", parameter="temperature", value=1000.0),
            Command("restart", "w", "inline", state=state),
            Command("restart", "w", "reference", frame=FrameReference("w", 4), at_step=300),
            Command("restart", "w", "missing", frame=FrameReference("w", 10**6)),
            Command("stop", "w", "end", at_step=400),
        ):
            send(command)
        link_ = reporter.link
        wait_until(lambda: link_.producer.statistics().commands == 6, "six commands")
        assert not run(simulation, reporter, last=10_000)
        assert simulation.currentStep == 400
        assert simulation.integrator.getTemperature()._value == 350.0
    told = answers("w")
    assert {k: a.outcome for k, a in told.items()} == {
        "warm": "applied", "hot": "refused", "inline": "applied", "reference": "applied",
        "missing": "refused", "end": "applied",
    }  # fmt: skip
    assert (told["reference"].step, told["end"].step) == (300, 400)
    found = read_stream(client, "w")
    # Ten steps from where it was put, a walker is near; ten steps are 40 fs.
    for id_, origin in (("inline", where), ("reference", found["positions"][4])):
        first = int(np.argmax(found.steps > told[id_].step))
        assert found.epochs[first] == found.epochs[first - 1] + 1
        moved = np.abs(found["positions"][first] - origin).max()
        assert moved < 0.1
    assert sorted(set(found.epochs.tolist())) == [0, 1, 2]
