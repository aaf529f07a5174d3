"""Pictures: drawn for what may come, also for nothing at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridge.commands import Event, FrameReference
from bridge.errors import ConfigError
from bridge.runs.comparison import Arm
from bridge.runs.configuration import MapTable
from bridge.runs.traces import Trace
from bridge.steering import LedgerLine

pytest.importorskip("matplotlib")

from bridge.runs.plots.maps import draw_map
from bridge.runs.plots.timeline import draw_timeline
from bridge.runs.plots.waiting import draw_waiting

PNG = b"\x89PNG\r\n"


def make_trace(n: int) -> Trace:
    rng = np.random.default_rng(1)
    rows = {
        "offset": np.arange(n),
        "step": np.arange(n),
        "time": np.arange(n) * 0.1,
        "epoch": np.zeros(n, np.int32),
        "marked": np.zeros(n, bool),
        "phi_psi": rng.uniform(-np.pi, np.pi, (n, 2)),
        "version": np.arange(n) // 10,
    }
    return Trace("walker-0", rows)


LINE = LedgerLine(
    id="1", kind="restart", simulation="walker-0", verdict="sent", outcome="applied",
    decided=11.0, answered=11.1, frame=FrameReference("walker-0", 5),
)  # fmt: skip


@pytest.mark.parametrize("n", [0, 1, 500])
@pytest.mark.parametrize("colour", ["density", "time"])
@pytest.mark.parametrize("degrees", [False, True])
def test_maps(tmp_path: Path, n: int, colour: str, degrees: bool) -> None:
    table = MapTable(
        "map", "phi_psi[0]", "phi_psi[1]", degrees=degrees, colour=colour,  # type: ignore[arg-type]
        restarts=True, version="version", target_x=(20.0, 120.0), target_y=(0.0, 50.0),
    )  # fmt: skip
    traces = [make_trace(n)] if n else [Trace("none", {"offset": np.zeros(0)})]
    path = draw_map(table, traces, [LINE], tmp_path / "map.png", time_unit="ps")
    assert path.read_bytes().startswith(PNG)
    assert [p.name for p in tmp_path.iterdir()] == ["map.png"]


def test_a_map_of_a_column_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    table = MapTable("map", "phi_psy[0]", "phi_psi[1]")
    with pytest.raises(ConfigError, match="did you mean 'phi_psi'"):
        draw_map(table, [make_trace(3)], [], tmp_path / "map.png", time_unit="")


@pytest.mark.parametrize("count", [0, 3, 60])
def test_timelines(tmp_path: Path, count: int) -> None:
    lines = [
        LedgerLine(
            id=str(i), kind="stop", simulation=f"walker-{i}", verdict="dry_run", decided=12.0
        )
        for i in range(count)
    ]
    path = draw_timeline(
        [LINE, *lines], [Event("target_reached", "Found.", stamp=12.5)],
        [f"walker-{i}" for i in range(count)], tmp_path / "timeline.png",
        started=10.0, wall_time=3.0, target="target_reached",
    )  # fmt: skip
    assert path.read_bytes().startswith(PNG)


def test_waiting_times(tmp_path: Path) -> None:
    arms = [
        Arm(name="steered", times=(0.2, 0.5), reached=(True, True), mean=0.35, low=0.1, high=1.4),
        Arm(name="random", times=(3.0,), reached=(False,), low=0.8),
        Arm(name="plain MD", mean=5.8, low=3.5, high=10.7),
    ]
    path = draw_waiting(arms, tmp_path / "waiting.png", unit="ns")
    assert path.read_bytes().startswith(PNG)
    assert draw_waiting([], tmp_path / "none.png", unit="").exists()
