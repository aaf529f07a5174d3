"""Who names a wrong folder is told what was expected, and where runs are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.runs.directory import RunDirectory, write_json
from bridge.runs.locating import require_run


def test_the_runs_that_are_near_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Runs of other tests are not near.
    tmp_path /= "somebody/else/here"
    for name in ("runs/a", "runs/b", "nothing"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no such folder\. Name the folder that headrace run"):
        require_run(RunDirectory(tmp_path / "c"))
    write_json(tmp_path / "runs/a/resolved.json", {})
    for wrong, why in (
        ("runs", "it has no resolved.json, which headrace run writes"),
        ("nothing", "it has no resolved.json"),
        ("runs/b/c", "there is no such folder"),
        ("runs/a/resolved.json", "it is a file"),
    ):
        with pytest.raises(ConfigError, match=r"is not the folder of a run: ") as caught:
            require_run(RunDirectory(tmp_path / wrong))
        assert why in str(caught.value)
        assert f"Runs are in {tmp_path / 'runs' / 'a'}; name one of them." in str(caught.value)
    require_run(RunDirectory(tmp_path / "runs/a"))


def test_a_run_that_goes_on_can_be_shown_as_a_page(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    write_json(directory.resolved, {})
    with pytest.raises(ConfigError, match=r"goes on still.*--html FILE\."):
        require_run(directory, over=True)
    write_json(directory.report, {})
    require_run(directory, over=True)
