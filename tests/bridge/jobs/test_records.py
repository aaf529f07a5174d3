"""Jobs are remembered in files, and processes by more than their number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.jobs.looking import look
from bridge.jobs.records import JobRecord, JobStore, is_running, started_at


def record(job: str, **more: object) -> JobRecord:
    fields = {"pipeline": "means", "engine": "flink", "stagers": "tcp://127.0.0.1:1", **more}
    return JobRecord(id=job, **fields)  # type: ignore[arg-type]


def test_records_are_found_again(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    assert store.all() == []
    store.write(record("abc1", submitted=1.0))
    store.write(record("abd2", submitted=2.0, pipeline="other", flink="f00d"))
    (tmp_path / "jobs" / "torn.json").write_text("{")
    assert [r.id for r in store.all()] == ["abd2", "abc1"]
    assert store.find("abc").id == "abc1"
    assert store.find("other").id == "abd2"
    assert store.find("f00").id == "abd2"
    with pytest.raises(ConfigError, match="2 jobs begin with 'ab'"):
        store.find("ab")
    with pytest.raises(ConfigError, match=r"There is no job 'x'; known are: abd2 \(other\)"):
        store.find("x")
    store.forget(store.find("abc1"))
    assert [r.id for r in store.all()] == ["abd2"]


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADRACE_STATE", str(tmp_path / "mine"))
    assert JobStore().folder == tmp_path / "mine"
    monkeypatch.delenv("HEADRACE_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert JobStore().folder == tmp_path / "headrace"


def test_a_process_is_not_mistaken_for_a_later_one() -> None:
    me = os.getpid()
    assert is_running(me, started_at(me))
    assert not is_running(me, "1")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = started_at(child.pid)
    assert is_running(child.pid, started)
    child.communicate(b"\n")
    assert not is_running(child.pid, started)


def test_a_job_of_which_nobody_knows_is_lost() -> None:
    view = look(record("abc", rest="http://127.0.0.1:9", flink="f00d"))
    assert view.state == "lost"
    assert "127.0.0.1" in view.why
