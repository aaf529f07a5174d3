"""A run that closes begins nothing anew, and its ledger has an end for everything."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

from bridge.runs.directory import RunDirectory
from bridge.runs.records import load_ledger
from bridge.steering import read_ledger
from tests.bridge.runs.commands import connect, finish, start, write_walkers

RULES = """
[control.ask]
remove = ["target"]
steering = { approval = ["restart"], approval_default = "approve" }
"""


def test_a_frozen_engine_and_commands_that_wait_when_a_run_is_interrupted(tmp_path: Path) -> None:
    path = write_walkers(tmp_path, members=2, per_process=2, steps=2_000_000_000)
    text = re.sub('drain = ".*"', 'drain = "5 s"', path.read_text())
    path.write_text(text + RULES)
    folder = tmp_path / "run"
    process = start(
        "run", path, "--output", folder, "--control", "ask", "--no-plots", "--no-dashboard"
    )
    with connect(folder) as client:
        deadline = time.monotonic() + 60
        while not (waiting := [x.id for x in read_ledger(client) if x.approval is not None]):
            assert time.monotonic() < deadline, "No policy asked for anything."
            time.sleep(0.05)
    engine = json.loads((folder / "processes.json").read_text())["engine"]
    os.kill(engine, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    code, output, errors = finish(process)
    told = output + errors
    assert code == 1, told
    # One sentence, and no engine that is started only to be ended.
    assert told.count("The engine did not end within 5 s of being told to; killed;") == 1, told
    assert "starting it again" not in told
    report = json.loads((folder / "report.json").read_text())
    assert report["outcome"] == "interrupted"
    assert sum("engine" in failure.lower() for failure in report["failures"]) == 1
    lines = {line.id: line for line in load_ledger(RunDirectory(folder).ledger)}
    assert set(waiting) <= set(lines)
    for line in lines.values():
        if line.approval is not None:
            # Not approved, though that is the default: its time was not up.
            assert (line.verdict, line.approval.by) == ("denied", "headrace run")
            assert line.verdict_reason.endswith("The run ended before anybody decided.")
