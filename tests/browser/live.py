"""A live run and its dashboard, as processes of their own, for the tests in a browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.bridge.runs.commands import finish, start

LIMIT = 60.0
"""Seconds that anything may take to come about on a loaded machine."""

EXAMPLE = Path(__file__).parents[2] / "examples" / "alanine_dipeptide"

RUN = """
[run]
name = "watched"
seed = 5
max_wall_time = "20 min"
drain = "20 s"
nice = 19

[steering]
approval = ["restart"]
approval_timeout = 600

[simulation]
adapter = "openmm"
members = 2
every = 200
prmtop = "{example}/alanine-dipeptide.prmtop"
coordinates = "{example}/alanine-dipeptide.crd"
implicit_solvent = "OBC2"
constraints = "HBonds"
hydrogen_mass = 3.0
temperature = 300.0
friction = 1.0
timestep = 0.004
platform = "Reference"

[pipeline]
name = "adaptive"
outputs = ["phi_psi", "tica", "tica_version"]

[[pipeline.operators]]
name = "backbone"
use = "dihedrals"
atoms = [[4, 6, 8, 14], [6, 8, 14, 16]]
encoding = "sincos"
output = "backbone"

[[pipeline.operators]]
name = "tica"
use = "tica"
input = "backbone"
lag = 2
n_components = 2
scaling = "unit"
update_every = 20
min_frames = 20
publish_model = true

[[pipeline.operators]]
name = "restarts"
use = "restart_rare"
mode = "sparse"
input = "tica"
features = "backbone"
update_every = 20
min_frames = 40
interval = 200

[[pipeline.operators]]
name = "phi_psi"
use = "dihedrals"
atoms = [[4, 6, 8, 14], [6, 8, 14, 16]]
output = "phi_psi"

[[report.maps]]
name = "ramachandran"
title = "Ramachandran"
x = "phi_psi[0]"
y = "phi_psi[1]"
labels = ["φ / °", "ψ / °"]
degrees = true

[[report.maps]]
name = "embedding"
title = "The space learned while the walkers ran"
x = "tica[0]"
y = "tica[1]"
version = "tica_version"
colour = "time"
"""


class Dashboard:
    """``headrace dashboard`` on a run."""

    def __init__(self, run: Path, *arguments: str, port: int = 0) -> None:
        # Tests keep a machine busy; how often pages are told then is tested elsewhere.
        given = (*arguments, "--share", "1", "--port", str(port), "--json")
        self.process: subprocess.Popen[str] = start("dashboard", run, *given)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, finish(self.process)[2]
        self.facts: dict[str, Any] = json.loads(line)
        self.url: str = self.facts["url"]
        self.address: str = self.facts["address"].rstrip("/")
        self.token: str = self.facts["token"]

    @property
    def port(self) -> int:
        return int(self.facts["port"])

    def get(self, path: str, **parameters: Any) -> Any:
        """Return what the interface answers."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.get(self.address + path, params=parameters, headers=headers, timeout=LIMIT)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, path: str, what: Callable[[Any], Any], **parameters: Any) -> Any:
        """Ask until the answer is what is wanted; return what `what` made of it."""
        deadline = time.monotonic() + LIMIT
        while True:
            answer = self.get(path, **parameters)
            if found := what(answer):
                return found
            assert time.monotonic() < deadline, answer
            time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        finish(self.process)


class Live:
    """A run of two molecules that goes on until somebody stops it."""

    def __init__(self, folder: Path) -> None:
        path = folder / "run.toml"
        path.write_text(RUN.format(example=EXAMPLE), encoding="utf-8")
        self.folder = folder / "run"
        self.process = start("run", path, "--output", self.folder, "--no-dashboard", "--no-plots")
        deadline = time.monotonic() + LIMIT
        while not (self.folder / "resolved.json").exists():
            assert self.process.poll() is None, finish(self.process)
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(2)
            finish(self.process)


def browser_path() -> str | None:
    """Return where a browser of the system lies."""
    given = os.environ.get("HEADRACE_BROWSER")
    names = (given,) if given else ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)
