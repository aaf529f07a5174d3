"""What the tests of the C library share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

__all__ = ["Simulate", "Start", "finish", "run"]

Simulate = Callable[..., str]
Start = Callable[..., "subprocess.Popen[str]"]


def run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a simulation that ends well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, f"status {process.returncode}\n{out}\n{err}"
    assert not err, err
    return out
