"""A specimen of the IMD adapter: LAMMPS with ``fix imd``, and ``headrace link-imd`` beside it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from bridge.staging import StagerClient
from bridge.testing.adapters import PATIENCE, AdapterCase, ProcessMaker, Settable

__all__ = ["Reader", "imd_case"]

ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parents[2])}
ENGINE = ProcessMaker(
    [sys.executable, str(Path(__file__).with_name("imd_adapter_engine.py"))],
    environment=ENVIRONMENT,
)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


class Reader:
    """``headrace link-imd`` as a process of its own, beside an engine at `port`.

    An engine that is watched for the second time goes on with its stream.
    """

    def __init__(self, name: str, address: str, *options: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        with StagerClient(address) as client:
            again = any(t.name == f"frames/{name}" for t in client.topics())
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bridge.cli", "link-imd", f"127.0.0.1:{self.port}", "--stager",
             address, "--simulation", name, "--silence", f"{PATIENCE:g}", "--patience", "100",
             *options, *["--again"] * again],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
        weakref.finalize(self, _end, self._process)

    def leave(self) -> None:
        """End it as a user does whose engine goes on."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.communicate(timeout=PATIENCE)

    def join(self) -> None:
        """Wait for its end, which must be a good one."""
        if self._process.stdout.closed:
            return
        said, _ = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, said


class _Watched:
    """An engine, and the process that reads it."""

    def __init__(
        self, name: str, address: str | None, *, every: int = 1, select: Any = None
    ) -> None:
        self.reader: Reader | None = None
        if address is None:
            self.engine = ENGINE(name, None, every=every)
            return
        self.reader = Reader(
            name, address, "--engine", "lammps", "--units", "real", "--pull", "tip=2:-500:500"
        )
        self.engine = ENGINE(name, str(self.reader.port), every=every)
        self.went = False

    @property
    def step(self) -> int:
        return self.engine.step

    def advance(self, steps: int) -> bool:
        self.went = True
        return self.engine.advance(steps)

    def state(self) -> Any:
        return self.engine.state()

    def frame(self) -> Any:
        return self.engine.frame()

    def read(self, parameter: str) -> float:
        return self.engine.read(parameter)

    def close(self, *, finished: bool = True) -> None:
        if self.reader is not None and not finished:
            self.reader.leave()
        self.engine.close(finished=finished)
        if self.reader is not None and finished and self.went:
            self.reader.join()


def imd_case() -> AdapterCase:
    """Return LAMMPS over IMD; pause, resume, forces and the end are steered."""
    pytest.importorskip("mpi4py", exc_type=ImportError)
    pytest.importorskip("lammps", exc_type=ImportError)
    return AdapterCase(
        make=_Watched,
        units={
            "positions": "nm", "velocities": "nm/ps", "forces": "kJ/mol/nm", "box": "nm",
        },
        timestep=0.002,
        settable=Settable(parameter="tip.fx", values=(100.0, -50.0), outside=900.0),
        atol=1e-4,
        lag=4,
    )  # fmt: skip
