"""Whole runs, with every process that they have."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.bridge.runs.commands import (
    finish,
    headrace,
    headrace_json,
    read_offsets,
    start,
    wait_for_frames,
    write_walkers,
)

EXAMPLES = Path(__file__).parents[3] / "examples"
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A steered run that reached its target: its folder, and what was printed."""
    folder = tmp_path_factory.mktemp("steered")
    code, output, errors = headrace("run", write_walkers(folder), "--output", folder / "run")
    assert code == 0, output + errors
    return folder / "run", output


def test_a_steered_run_reaches_its_target_and_reports(steered: tuple[Path, str]) -> None:
    run, output = steered
    report = json.loads((run / "report.json").read_text())
    assert report["outcome"] == "target_reached"
    assert report["event"]["kind"] == "target_reached"
    time = report["simulated_time"]
    assert 0 < time["to_event"] <= time["total"]
    assert report["frames"] == sum(s["frames"] for s in report["simulations"])
    assert [s["name"] for s in report["simulations"]] == [f"walker-{i}" for i in range(4)]
    assert all(s["unanalysed"] == 0 for s in report["simulations"])
    decisions = report["decisions"]
    assert decisions["kinds"]["stop"] == 4
    assert decisions["answered_twice"] == 0
    assert decisions["decision_to_applied"]["count"] == decisions["outcomes"]["applied"]
    assert decisions["put_to_decision"]["count"] == decisions["verdicts"]["sent"]
    both = decisions["put_to_applied"]
    assert both["count"] == decisions["outcomes"]["applied"]
    assert 0 < both["median_s"] <= both["p99_s"] <= both["max_s"]
    assert both["max_s"] >= decisions["decision_to_applied"]["median_s"]
    assert report["dropped"] == report["quarantined"] == 0
    assert report["versions"]["headrace"]
    assert report["machine"]["cores"] >= 1
    assert report["configuration"]["run"]["seed"] == 3
    assert "target reached" in output


def test_it_leaves_its_configuration_logs_and_pictures(steered: tuple[Path, str]) -> None:
    run, _ = steered
    assert "[run]" in (run / "run.toml").read_text()
    assert {p.name for p in (run / "logs").iterdir()} == {
        "stager.log",
        "engine.log",
        "walkers-0.log",
    }
    pictures = {p.name: p.read_bytes() for p in (run / "plots").iterdir()}
    assert set(pictures) == {"decisions.png", "time_to_event.png", "visited.png"}
    assert all(data.startswith(PNG) and len(data) > 5000 for data in pictures.values())
    assert not (run / "stager.json").exists()


def test_its_ledger_can_be_read_afterwards(steered: tuple[Path, str]) -> None:
    run, _ = steered
    found = headrace_json("inspect", run, "--kind", "stop")
    assert found["topics"] is None
    assert "applied" in {line["outcome"] for line in found["decisions"]}
    code, output, _ = headrace("inspect", run, "--last", "3", "--why")
    assert code == 0
    assert "3 of" in output


def test_what_was_in_memory_cannot_be_replayed_or_resumed(steered: tuple[Path, str]) -> None:
    run, _ = steered
    code, _, errors = headrace("replay", run)
    assert (code, "kept its topics in memory" in errors) == (2, True)
    code, _, errors = headrace("run", "--resume", "--output", run)
    assert (code, "durable = true" in errors) == (2, True)


def test_it_is_not_overwritten_by_chance(steered: tuple[Path, str]) -> None:
    run, _ = steered
    code, _, errors = headrace("run", run / "run.toml", "--output", run)
    assert (code, "is not empty" in errors) == (2, True)


def test_it_is_held_against_its_control(steered: tuple[Path, str], tmp_path: Path) -> None:
    run, _ = steered
    report = headrace_json(
        "run", run / "run.toml", "--output", tmp_path / "random", "--control", "random",
        "--max-time", "1", "--compare", run,
    )  # fmt: skip
    assert report["control"] == "random"
    modes = {
        line["evidence"]["mode"]
        for line in headrace_json("inspect", tmp_path / "random", "--kind", "restart")["decisions"]
    }
    assert modes == {"random"}
    compared = headrace_json("report", run, tmp_path / "random")
    assert [arm["name"] for arm in compared["arms"]] == ["steered", "random"]
    assert len(compared["plots"]) == 3


def test_a_limit_of_simulated_time_ends_the_run_by_commands(tmp_path: Path) -> None:
    report = headrace_json(
        "run", write_walkers(tmp_path), "--output", tmp_path / "run", "--control", "none",
        "--max-time", "2.0", "--no-plots",
    )  # fmt: skip
    assert report["outcome"] == "limit_reached"
    assert report["simulated_time"]["total"] >= 2.0
    assert report["decisions"]["kinds"] == {"stop": 4}
    assert not (tmp_path / "run" / "plots").exists()


def kill(run: Path, name: str) -> None:
    os.kill(json.loads((run / "processes.json").read_text())[name], signal.SIGKILL)


def test_every_frame_is_analysed_once_though_all_kinds_of_process_are_killed(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    path = write_walkers(tmp_path, members=2, per_process=1, steps=60_000, durable=True)
    process = start("run", path, "--output", run, "--control", "none", "--no-plots", "--json")
    for count, victim in ((300, "walker-0"), (900, "engine"), (1500, "stager")):
        wait_for_frames(run, count)
        kill(run, victim)
    code, output, errors = finish(process)
    assert code == 0, errors
    report = json.loads(output)
    assert report["process_restarts"] == {"stager": 1, "engine": 1, "walker-0": 1}
    assert report["simulations"][0]["lives"] == 2
    offsets = read_offsets(run, "explore")
    assert set(offsets) == {"walker-0", "walker-1"}
    for frames, rows in offsets.values():
        assert rows == list(range(frames))
        assert frames >= 6000


def test_a_durable_run_can_be_read_from_its_first_offset(tmp_path: Path) -> None:
    run = tmp_path / "run"
    headrace_json("run", write_walkers(tmp_path, durable=True), "--output", run, "--no-plots")
    code, output, errors = headrace(
        "replay", run, "--topic", "results/explore/walker-0", "--limit", "5", "--json"
    )
    assert code == 0, errors
    rows = [json.loads(line) for line in output.splitlines()]
    assert [row["offset"] for row in rows] == [0, 1, 2, 3, 4]
    assert len(rows[0]["values"]["positions"]) == 2
    topics = headrace_json("inspect", run, "--topics")["topics"]
    assert "decisions" in {topic["name"] for topic in topics}
    code, _, errors = headrace("replay", run, "--topic", "nothing")
    assert (code, "has no topic 'nothing'" in errors) == (2, True)


def test_a_run_that_was_killed_is_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    path = write_walkers(tmp_path, members=2, per_process=1, steps=40_000, durable=True)
    process = start("run", path, "--output", run, "--control", "none", "--no-plots")
    wait_for_frames(run, 500)
    children = psutil.Process(process.pid).children()
    process.kill()
    finish(process)
    expect_gone(children)
    report = headrace_json("run", "--resume", "--output", run, "--no-plots")
    assert report["outcome"] == "finished"
    for frames, rows in read_offsets(run, "explore").values():
        assert rows == list(range(frames))
        assert frames >= 4000


def expect_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=30.0)
    # Whoever has ended may wait for a new parent to take notice.
    assert [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


def test_nobody_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("run", write_walkers(tmp_path), "--output", run, "--control", "none")
    wait_for_frames(run, 100)
    children = psutil.Process(process.pid).children()
    assert len(children) == 3
    process.kill()
    finish(process)
    expect_gone(children)


def test_an_interrupt_ends_the_run_in_good_order(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("run", write_walkers(tmp_path), "--output", run, "--control", "none")
    wait_for_frames(run, 100)
    process.send_signal(signal.SIGINT)
    code, _, _ = finish(process)
    assert code == 1
    report = json.loads((run / "report.json").read_text())
    assert report["outcome"] == "interrupted"
    assert all(s["unanalysed"] == 0 for s in report["simulations"])


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    path = write_walkers(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = path.read_text().replace(
            "[staging]", f'[staging]\naddress = "tcp://127.0.0.1:{port}"'
        )
        path.write_text(text)
        code, output, _ = headrace("run", path, "--output", tmp_path / "run")
    assert code == 1
    assert f"127.0.0.1:{port}" in output
    assert "error: The stager ended with exit code 1: " in output
    assert "topics" not in output


def test_a_column_that_is_not_there_ends_the_run_at_once(tmp_path: Path) -> None:
    path = write_walkers(tmp_path)
    text = path.read_text()
    path.write_text(text.replace('input = "positions"', 'input = "position"', 1))
    assert path.read_text() != text
    code, output, _ = headrace("run", path, "--output", tmp_path / "run", "--no-plots")
    assert code == 1
    assert "error: The engine ended with exit code 2: Operator" in output
    assert "has no column 'position'; it has: positions." in output
    assert "restart 1" not in output


FAILING = '''
class Failing:
    """Fails in the worker's process."""

    @classmethod
    def from_table(cls, table, base):
        return cls()

    def members(self):
        return ["one"]

    def simulations(self, member):
        return [member]

    def run(self, member, connection, *, seed, resume):
        raise RuntimeError("The bond between 1 and 2 broke.")
'''


def test_a_member_that_fails_shows_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    path = tmp_path / "run.toml"
    path.write_text(
        '[run]\nname = "failing"\nrestarts = { member = 1 }\n'
        '[simulation]\nadapter = "failing:Failing"\n'
        '[[pipeline.operators]]\nuse = "moments"\ninput = "positions"\n'
    )
    code, output, _ = headrace("run", path, "--output", tmp_path / "run", folder=tmp_path)
    assert code == 1
    assert "The bond between 1 and 2 broke." in output
    assert "one ended with exit code 1; starting it again (restart 1)." in output
    assert "one ended with exit code 1, after 1 restart." in output


def test_keys_protect_a_run(tmp_path: Path) -> None:
    headrace_json("keys", tmp_path / "keys")
    path = write_walkers(tmp_path)
    path.write_text(path.read_text().replace("[staging]", '[staging]\nkeys = "keys"'))
    report = headrace_json("run", path, "--output", tmp_path / "run", "--no-plots")
    assert report["outcome"] == "target_reached"


def test_the_main_example_runs(tmp_path: Path) -> None:
    pytest.importorskip("openmm")
    report = headrace_json(
        "run", EXAMPLES / "alanine_dipeptide" / "run.toml", "--output", tmp_path / "run",
        "--max-time", "120 ps",
    )  # fmt: skip
    assert report["outcome"] in ("limit_reached", "target_reached")
    assert len(report["simulations"]) == 8
    assert report["decisions"]["outcomes"]["applied"] > 0
    assert {p.name for p in (tmp_path / "run" / "plots").iterdir()} == {
        "decisions.png",
        "embedding.png",
        "ramachandran.png",
        "time_to_event.png",
    }


def test_the_replay_example_runs(tmp_path: Path) -> None:
    pytest.importorskip("MDAnalysisTests")
    report = headrace_json(
        "run", EXAMPLES / "adk_replay" / "run.toml", "--output", tmp_path / "run"
    )
    assert (report["outcome"], report["frames"]) == ("finished", 98)


def test_the_model_example_runs_in_one_process() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "muller_brown" / "in_process.py"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "steps over 8 walkers" in done.stdout


def test_results_are_followed_while_a_run_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("MDAnalysisTests")
    example = EXAMPLES / "adk_replay"
    process = start("run", example / "run.toml", "--output", tmp_path / "run", "--no-plots")
    done = subprocess.run(
        [sys.executable, example / "follow.py", tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    code, _, errors = finish(process)
    assert code == 0, errors
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("frame   0  RMSD 0.000 nm")
