"""The folder of a run: nothing is overwritten that was not meant to be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.runs.directory import RunDirectory, free_directory, write_json


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "a" / "b")
    directory.prepare()
    assert directory.logs.is_dir()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(ConfigError, match=r"exists and is not empty.*--output.*--resume"):
        RunDirectory(tmp_path).prepare()


def test_what_is_no_run_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        RunDirectory(tmp_path).prepare("overwrite")
    assert (tmp_path / "thesis.tex").exists()


def test_a_run_is_overwritten_when_asked_for(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.prepare()
    write_json(directory.resolved, {"old": True})
    directory.prepare("overwrite")
    assert not directory.resolved.exists()


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.prepare()
    write_json(directory.resolved, {})
    directory.topics.mkdir()
    body = "print(flush=True); input()"
    command = [sys.executable, "-c", body, str(directory.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()  # It has begun, and its command line can be read.
        write_json(directory.processes, {"gone": 2**22 + 1, "engine": child.pid})
        for existing in ("overwrite", "resume"):
            with pytest.raises(ConfigError, match=rf"goes on \(engine is process {child.pid}\)"):
                directory.prepare(existing)
        child.communicate(b"\n")
    directory.prepare("overwrite")
    assert not directory.resolved.exists()


def test_a_file_that_is_not_there_is_told_for_what_it_means(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    with pytest.raises(ConfigError, match="there is no such folder"):
        directory.read_json(directory.report)
    directory.prepare()
    with pytest.raises(ConfigError, match=r"is not the folder of a run: it has no resolved\.json"):
        directory.read_json(directory.report)
    write_json(directory.resolved, {})
    with pytest.raises(ConfigError, match=r"has no report\.json: it goes on still, or was ended"):
        directory.read_json(directory.report)


def test_only_a_durable_run_can_be_resumed(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    with pytest.raises(ConfigError, match="there is no run to resume"):
        directory.prepare("resume")
    directory.prepare()
    write_json(directory.resolved, {})
    with pytest.raises(ConfigError, match="durable = true"):
        directory.prepare("resume")
    directory.topics.mkdir()
    directory.prepare("resume")


def test_a_free_name_is_found(tmp_path: Path) -> None:
    base = tmp_path / "run"
    assert free_directory(base) == base
    base.mkdir()
    assert free_directory(base) == base
    (base / "x").touch()
    assert free_directory(base) == tmp_path / "run-2"
    (tmp_path / "run-2").touch()
    assert free_directory(base) == tmp_path / "run-3"


def test_what_is_no_run_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        RunDirectory(tmp_path).read_resolved()
    (tmp_path / "resolved.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        RunDirectory(tmp_path).read_resolved()
