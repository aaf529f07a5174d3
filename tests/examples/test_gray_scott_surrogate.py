"""Gray-Scott with a reaction that a network may answer: exact, and whole where nobody answers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bridge.staging import Stager, StagerClient
from tests.sim_adapters.common import read_stream

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "gray_scott_surrogate"
STEPS = 40


@pytest.fixture
def stager() -> Iterator[Stager]:
    with Stager("tcp://127.0.0.1:0") as service:
        yield service.start()


def simulate(stager: Stager, name: str, *more: str) -> None:
    command = [sys.executable, str(FOLDER / "gray_scott.py"), "--stager", stager.address]
    command += ["--name", name, "--size", "8", "--steps", str(STEPS), "--samples", "16", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, timeout=90.0)


def test_the_reaction_is_that_of_the_differential_equation():
    integrate = pytest.importorskip("scipy.integrate")
    # By path: the example beside it has a module of the same name.
    spec = importlib.util.spec_from_file_location("surrogate", FOLDER / "gray_scott.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    u, v = np.meshgrid(np.linspace(0.0, 1.0, 6), np.linspace(0.0, 0.6, 5))
    found = program.react(u.ravel(), v.ravel(), 1.0)
    for a, b, gone in zip(u.ravel(), v.ravel(), found, strict=True):
        # u turns into v, and their sum stays: one equation is left.
        exact = integrate.solve_ivp(
            lambda _, x, a=a, b=b: (a - x) * (b + x) ** 2, (0.0, 1.0), [0.0], rtol=1e-11, atol=1e-13
        )
        assert gone == pytest.approx(exact.y[0, -1], rel=1e-8, abs=1e-11)
        assert -1e-15 <= gone <= a


def test_it_integrates_for_itself_where_nobody_answers(stager: Stager):
    simulate(stager, "alone")
    simulate(stager, "asks", "--service", "reaction", "--timeout", "0.2")
    with StagerClient(stager.address) as client:
        alone, asks = read_stream(client, "alone"), read_stream(client, "asks")
    assert alone.steps.tolist() == asks.steps.tolist() == list(range(STEPS))
    for name in ("before", "reacted", "v_mean"):
        assert np.array_equal(alone[name], asks[name]), name
    assert not asks["version"].any()
    assert not asks["trusted"].any()
    assert np.ptp(alone["v_mean"]) > 0.0
