"""People steer a run by the command line: a whole run with walkers, an engine and its desk."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.main import main
from bridge.commands import Decision
from bridge.runs.records import read_events
from bridge.steering import TIME_LIMIT, LedgerLine, read_ledger
from tests.bridge.engines.common import read
from tests.bridge.runs.commands import (
    connect,
    end_all,
    finish,
    start,
    wait_for_frames,
    write_walkers,
)

RULES = """
[control.ask]
remove = ["target"]
steering = { approval = ["restart"], approval_timeout = 5.0, per_simulation = 1000 }
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A run whose restarts wait for approval; it goes on until it is stopped."""
    folder = tmp_path_factory.mktemp("asked")
    path = write_walkers(folder, members=2, per_process=1, steps=2_000_000_000)
    path.write_text(path.read_text() + RULES)
    more = ("--output", folder / "run", "--control", "ask", "--no-plots")
    process = start("run", path, *more)
    wait_for_frames(folder / "run", 50)
    with connect(folder / "run") as client:
        deadline = time.monotonic() + 60
        while len(client.topics("frames/", schemas=False)) < 2:
            assert time.monotonic() < deadline, "The other walker did not come."
            time.sleep(0.1)
    yield folder / "run", process
    end_all()


class Teller:
    """Says things at the command line, in this process, and hears the answer."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str | Path) -> tuple[int, str]:
        code = main(list(map(str, words)))
        return code, self._capsys.readouterr().out

    def json(self, *words: str | Path) -> Any:
        code = main([*map(str, words), "--json"])
        output, errors = self._capsys.readouterr()
        assert code == 0, output + errors
        return json.loads(output)

    def wait_for_waiting(self, run: Path) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            waiting = self.json("approvals", run)
            if waiting:
                return list(waiting)
        raise AssertionError("No policy asked for anything.")


def test_people_approve_deny_and_command_and_the_rest_gets_its_default(
    run: tuple[Path, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, process = run
    tell = Teller(capsys)
    # Approved, and applied by the walker. The policy asks often, so somebody is always late.
    for _ in range(5):
        waiting = tell.wait_for_waiting(folder)
        assert (waiting[-1]["kind"], waiting[-1]["default"]) == ("restart", "deny")
        name = waiting[-1]["id"]
        code, output = tell("approve", folder, name, "--by", "Ada", "--wait", "60")
        if code == 0:
            break
        assert TIME_LIMIT in output
    assert "applied at step" in output
    approved = waiting[-1]["id"]
    code, output = tell("deny", folder, approved, "--by", "Bob")
    assert "applied at step" in output or "sent" in output
    denied: Any = tell.json("deny", folder, tell.wait_for_waiting(folder)[-1]["id"])
    assert denied[0]["state"] == "denied"

    # The engine is killed while somebody makes up his mind: nobody is asked about it twice.
    asked = tell.wait_for_waiting(folder)[-1]["id"]
    os.kill(json.loads((folder / "processes.json").read_text())["engine"], signal.SIGKILL)
    tell("approve", folder, asked, "--by", "Cleo", "--wait", "60")
    with connect(folder) as client:
        deadline = time.monotonic() + 60
        while not any(event.kind == "resumed" for event in read_events(client)):
            assert time.monotonic() < deadline, "The engine did not come back."
            time.sleep(0.1)

    pause = ("command", folder, "pause", "walker-1", "--key", "p1", "--wait", "60")
    paused: Any = tell.json(*pause)
    assert [(one["verdict"], one["outcome"]) for one in paused] == [("sent", "applied")]
    again: Any = tell.json(*pause)
    assert again == [{**paused[0], "already": True}]
    code, output = tell("command", folder, "set", "walker-1", "temperature", "1e9")
    assert code == 1
    assert "refused" in output
    listed: Any = tell.json("command", folder, "list")
    assert {row["kind"] for row in listed} >= {"pause", "resume", "stop", "restart"}

    with connect(folder) as client:
        deadline = time.monotonic() + 60
        # The defaults are carried out by the run itself: nobody else keeps a desk open.
        while not (late := [x for x in read_ledger(client) if _is_over(x)]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert late[0].verdict == "denied"
        decided = Counter(d.command.id for d in read(client, "decisions", Decision))
        # What was asked, and what became of it.
        assert max(decided.values()) == decided[asked] == 2
        lines = {line.id: line for line in read_ledger(client)}
        assert max(line.answers for line in lines.values()) == 1
        assert _by(lines[asked]) in ("Cleo", TIME_LIMIT)
        line = lines[approved]
        assert (_by(line), line.verdict, line.outcome, line.answers) == (
            "Ada",
            "sent",
            "applied",
            1,
        )

    code, output = tell("command", folder, "stop", "--all", "--wait", "60")
    assert code == 0, output
    assert output.count("applied at step") == 2
    code, output, errors = finish(process)
    assert code == 0, output + errors
    # Nothing waits in the ledger of a run that is over.
    ledger: Any = tell.json("inspect", folder)
    verdicts = {line["verdict"] for line in ledger["decisions"]}
    assert "awaiting_approval" not in verdicts
    assert {"sent", "denied"} <= verdicts
    # Who comes too late is told so, whatever he wants to say.
    for words in (
        ("approvals", folder),
        ("approve", folder, approved),
        ("deny", folder, "--all"),
        ("command", folder, "pause", "walker-1"),
        ("command", folder, "list"),
    ):
        assert main(list(map(str, words))) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert f"The run in {folder} is over: nobody listens any more." in said.err
        assert "headrace inspect shows what was decided" in said.err


def _is_over(line: LedgerLine) -> bool:
    """Return whether the default was carried out: its word is followed by a decision."""
    return _by(line) == TIME_LIMIT and line.verdict != "awaiting_approval"


def _by(line: LedgerLine) -> str:
    return line.approval.by if line.approval else ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("approve", "RUN"), "Name the commands, or say --all"),
        (("approve", "RUN", "x", "--all"), "Name the commands, or say --all"),
        (("command", "RUN", "set", "w"), "After set, give SIMULATION PARAMETER VALUE."),
        (("command", "RUN", "pause", "w", "x"), "After pause, give SIMULATION."),
        (("command", "RUN", "set", "w", "t", "hot"), "'hot' is not a number."),
        (("command", "RUN", "restart", "w", "other"), "SIMULATION@OFFSET, not 'other'"),
        (("command", "RUN", "stop", "none-*"), "No running simulation matches 'none-*'"),
        (("approvals", "nowhere"), "there is no such folder"),
    ],
)
def test_what_cannot_be_meant_is_said(
    words: tuple[str, ...], said: str, stager_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [stager_address if word == "RUN" else word for word in words]
    assert main(given) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def stager_address() -> Iterator[str]:
    from bridge.staging import Stager

    with Stager("tcp://127.0.0.1:0") as stager:
        stager.start()
        yield stager.address


def test_nothing_waits_where_nothing_was_decided(
    stager_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["approvals", stager_address]) == 0
    assert "Nothing waits for approval." in capsys.readouterr().out
    assert main(["deny", stager_address, "nobody"]) == 1
    assert "No command 'nobody' was decided on" in capsys.readouterr().err
    # Of several, each has its sentence.
    assert main(["deny", stager_address, "nobody", "neither"]) == 1
    said = capsys.readouterr().out
    for name in ("nobody", "neither"):
        assert f"{name}  left alone  No command '{name}' was decided on in this run." in said
