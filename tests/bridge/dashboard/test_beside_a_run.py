"""The dashboard that a run brings along, and ``headrace dashboard``: as processes."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bridge.runs.dashboard import ADDRESS_FILE, Companion, read_address
from bridge.runs.directory import RunDirectory
from tests.bridge.dashboard.feeding import wait_for
from tests.bridge.runs.commands import end_all, finish, headrace, start, write_walkers


@pytest.fixture(autouse=True)
def _nobody_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HEADRACE_DASHBOARD", "on")
    yield
    end_all()


def first_line(process: subprocess.Popen[str]) -> str:
    """Return the first line that a process writes."""
    assert process.stdout is not None
    return process.stdout.readline()


# Ten processes, one after the other: 20 s, and 45 s on a busy machine.
@pytest.mark.timeout(240)
def test_a_run_with_its_dashboard_from_the_first_to_the_last(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    path = write_walkers(tmp_path, members=2, per_process=2, steps=100_000_000)
    text = path.read_text().replace("kT = 15.0", "kT = 2.0").replace("every = 10", "every = 500")
    path.write_text(text + "\n[dashboard.alarms]\nlag_above = 7\n", encoding="utf-8")
    run = start("run", path, "--output", folder, "--no-plots")
    directory = RunDirectory(folder)
    address = wait_for(lambda: read_address(directory), 90.0)
    assert stat.S_IMODE((folder / ADDRESS_FILE).stat().st_mode) == 0o600
    # It is killed; the run starts another in its place, and pages find it where it was.
    os.kill(address.pid, signal.SIGKILL)
    again = wait_for(lambda: (a := read_address(directory)) and a.pid != address.pid and a, 90.0)
    assert again.url == address.url
    with httpx.Client(timeout=60.0, follow_redirects=True) as client:
        base = again.url.partition("?")[0]

        def answers() -> bool:
            try:
                return client.get(again.url).status_code == 200
            except httpx.TransportError:
                return False

        wait_for(answers)
        wait_for(lambda: len(client.get(f"{base}api/run").json()["simulations"]) == 2)
        # A second one of the same run, with the same token, while the first is there.
        late = start("dashboard", folder, "--json")
        facts = json.loads(first_line(late))
        assert facts["token"] in again.url
        headers = {"Authorization": f"Bearer {facts['token']}"}
        told = httpx.get(f"{facts['address']}api/run", headers=headers, timeout=60.0)
        assert told.json()["name"] == "walkers"
        stopped = client.post(
            f"{base}api/all",
            json={"kind": "stop", "confirm": True, "reason": "Seen enough."},
            headers={"Idempotency-Key": "stop-them-all", "Origin": base.rstrip("/")},
        )
        assert [one["verdict"] for one in stopped.json()["results"]] == ["sent", "sent"]
    code, output, errors = finish(run)
    assert code == 0, output + errors
    assert again.url in output
    assert (folder / "recording" / "recording.json").is_file()
    late.send_signal(signal.SIGINT)
    assert finish(late) == (0, "", "")
    # What is over is shown from what it left.
    after = start("dashboard", folder)
    (url,) = re.findall(r"http://\S+", first_line(after))
    with httpx.Client(timeout=60.0, follow_redirects=True) as client:
        assert client.get(url).status_code == 200
        base = url.partition("?")[0]
        assert client.get(f"{base}api/run").json()["state"] == "ended"
        reasons = {line["why"] for line in client.get(f"{base}api/ledger").json()["lines"]}
        assert "Seen enough." in reasons
    after.send_signal(signal.SIGTERM)
    code, output, errors = finish(after)
    assert (code, errors.count("\n")) == (0, 1)


def test_what_is_wrong_is_one_sentence(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, word in (
        ((tmp_path / "none",), "there is no such folder"),
        ((empty,), "not the folder of a run"),
        (("tcp://127.0.0.1:9", "--host", "0.0.0.0"), "unencrypted"),
        (("tcp://127.0.0.1:9", "--certificate", "none.pem"), "Cannot read none.pem"),
    ):
        code, output, errors = headrace("dashboard", *arguments)
        assert (code, output) == (2, "")
        assert word in errors
        assert re.fullmatch(r"headrace: .*\.\n", errors), errors


def test_a_run_goes_on_without_a_dashboard_that_cannot_be(tmp_path: Path) -> None:
    path = write_walkers(tmp_path, members=1, per_process=1, steps=3_000)
    path.write_text(path.read_text() + "\n[dashboard]\nhost = '192.0.2.1'\ncertificate = 'none'\n")
    code, output, errors = headrace("run", path, "--output", tmp_path / "out", "--no-plots")
    assert code == 0, output + errors
    # A run this short may be over before it is heard of.
    log = (tmp_path / "out" / "logs" / "dashboard.log").read_text(encoding="utf-8")
    assert "Traceback" not in log


def test_one_sentence_says_that_packages_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("bridge.runs.dashboard.has_part", lambda part: False)
    companion = Companion(RunDirectory(tmp_path), ".", lambda message, level: told.append(message))
    for _ in range(3):
        companion.begin()
        companion.look()
    companion.end(1.0)
    assert len(told) == 1
    assert "headrace[dashboard]" in told[0]
