"""Programs that write ADIOS2 as members of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.errors import ConfigError, MemberFailed, StagingError
from bridge.staging import Stager, StagerClient, StreamOptions
from tests.sim_adapters.common import read_stream
from tests.sim_adapters.imd_common import read_events

pytest.importorskip("adios2", reason="ADIOS2 is not installed.")

from sim_adapters.adios_member import AdiosWriter

WRITER = Path(__file__).parents[1] / "bridge" / "staging" / "adios" / "writers.py"
RUN = """
[run]
name = "melt"
max_wall_time = "5 min"
drain = "60 s"

[simulation]
adapter = "sim_adapters.adios_member:AdiosWriter"
command = ["{{python}}", "{writer}", "{{name}}", "steps=40"]
sources = ["{{name}}"]
name = "melt"

[pipeline]
name = "look"

[[pipeline.operators]]
use = "moments"
input = "positions"
"""

Run = Callable[..., None]


@pytest.fixture
def run(stager: Stager, tmp_path: Path) -> Run:
    def start(*words: str, resume: bool = False, **table: Any) -> None:
        given = {"sources": ["sim.bp"], "name": "sim", "open_timeout": 60.0, **table}
        if words:
            given["command"] = ["{python}", str(WRITER), *words]
        connection: Any = SimpleNamespace(
            address=stager.address, keys=None, timeout=30.0, options=StreamOptions()
        )
        AdiosWriter.from_table(given, tmp_path).run("sim", connection, seed=1, resume=resume)

    return start


# On a machine that is ten times slower, it takes a minute.
@pytest.mark.timeout(300)
def test_a_run_of_a_program_over_sst(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(RUN.format(writer=WRITER))
    done = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "run", path, "--output", tmp_path / "out"],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    log = tmp_path / "out" / "logs" / "melt.log"
    said = log.read_text()[-1500:] if log.exists() else ""
    assert done.returncode == 0, done.stdout + done.stderr + said
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {s["name"]: s["frames"] for s in report["simulations"]} == {"melt": 40}
    assert all(s["unanalysed"] == 0 for s in report["simulations"])


def test_a_file_that_is_there(run: Run, client: StagerClient, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, WRITER, tmp_path / "sim.bp", "engine=BP5", "steps=6"],
        check=True, timeout=100,
    )  # fmt: skip
    run()
    assert read_stream(client, "sim").steps.tolist() == list(range(6))
    with pytest.raises(StagingError, match="holds 6 frames"):
        run()
    # It is finished: there is nothing to resume.
    run(resume=True)


def test_a_program_that_is_killed_goes_on(run: Run, client: StagerClient) -> None:
    with pytest.raises(MemberFailed, match="exit code 137"):
        run("sim", "kill=5", sources=["sim"])
    event = read_events(client)["failed"]
    assert (event.simulation, event.level) == ("sim", "error")
    assert "exit code 137" in event.message
    run("sim", "first=2", "steps=8", sources=["sim"], resume=True)
    found = read_stream(client, "sim")
    assert found.steps.tolist() == list(range(10))
    # What was still in the queue of the first life died with it, and came again with the second.
    first = found.epochs.tolist().count(0)
    assert 2 <= first <= 5
    assert found.epochs.tolist() == [0] * first + [1] * (10 - first)


def test_what_an_earlier_run_left_is_not_read(run: Run, client: StagerClient, tmp_path: Path):
    old = [sys.executable, WRITER, tmp_path / "sim.bp", "engine=BP5", "steps=9"]
    subprocess.run(old, check=True, timeout=100)
    with pytest.raises(MemberFailed, match="before it ended; what is there is of an earlier"):
        run("elsewhere.bp", "engine=BP5", "steps=3")
    run("sim.bp", "engine=BP5", "steps=3", resume=True)
    assert read_stream(client, "sim").steps.tolist() == [0, 1, 2]


def test_a_program_that_does_not_start(run: Run) -> None:
    with pytest.raises(MemberFailed, match=r"exit code 127.*Cannot start /no/such"):
        run(command=["/no/such/program"])


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"sources": []}, "names SST streams or BP files"),
        ({"sources": ["a"], "members": 2}, "write {name} into 'sources'"),
        ({"sources": ["a"], "ranks": 2}, "for a 'command'"),
        ({"sources": ["a"], "patience": 0}, "is above 0"),
        ({"sources": ["a"], "mapping": {"variables": {"x": {"form": "y"}}}}, "form"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, table: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        AdiosWriter.from_table(table, tmp_path)
