"""Observables of runs that are over: lines, maps, files, what is remembered; and the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge.engines.protocol import EngineStatistics
from bridge.runs.traces import Trace, save_traces
from tests.browser.conftest import Pages
from tests.browser.live import Dashboard

ROWS = 6000
HOSTILE = "<img src=x onerror=alert(1)>"
MAP = {
    "name": "ramachandran", "title": "Backbone angles", "x": "angles[0]", "y": "angles[1]",
    "labels": ["φ / °", "ψ / °"], "degrees": True, "target_x": [20, 120],
}  # fmt: skip


def make_run(path: Path, seed: int) -> Path:
    """Make the folder of a run that is over: three walkers, one of them restarted twice."""
    path.mkdir()
    configuration = {
        "run": {"name": path.name},
        "pipeline": {"name": "p"},
        "simulation": {"adapter": "openmm", "temperature": 300.0},
        "report": {"maps": [MAP]},
    }
    resolved = {"configuration": configuration, "source": "run.toml", "base": str(path)}
    (path / "resolved.json").write_text(json.dumps(resolved))
    walkers = [
        {"name": f"walker-{i}", "frames": ROWS, "step": 10 * ROWS, "simulated_time": 0.5 * ROWS,
         "restarts": 0, "lives": 1, "dropped": 0, "quarantined": 0, "unanalysed": 0}
        for i in range(3)
    ]  # fmt: skip
    engine = EngineStatistics("p", units={"angles": "rad", "rmsd": "nm"}, stamp=1e9)
    facts = {"outcome": "finished", "started": 1e9, "wall_time_s": 60.0, "simulations": walkers,
             "engine": msgspec.to_builtins(engine)}  # fmt: skip
    (path / "report.json").write_text(json.dumps(facts))
    for name in ("events.jsonl", "ledger.jsonl"):
        (path / name).write_text("")
    random = np.random.default_rng(seed)
    n = np.arange(ROWS)
    traces = []
    for walker in range(3):
        rows: dict[str, Any] = {
            "offset": n, "step": 10 * n, "time": 0.5 * n, "marked": n < 0,
            "epoch": n // 2000 if walker == 1 else 0 * n,
            "rmsd": 1.0 + np.sin(n / 400 + walker) * 0.5 + 0.05 * random.normal(size=ROWS),
            "angles": random.vonmises([-1.2, 2.6], 6.0, (ROWS, 2)), HOSTILE: 1.0 * n - 5,
        }  # fmt: skip
        if walker == 2:
            rows = {k: v[(n < 3000) | (n > 3300)] for k, v in rows.items()}
        traces.append(Trace(f"walker-{walker}", rows))
    save_traces(path / "results.npz", traces)
    return path


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Dashboard]:
    """The dashboard of a run that is over, with another one beside it."""
    folder = tmp_path_factory.mktemp("over")
    run, other = make_run(folder / "run", 1), make_run(folder / "other", 2)
    dashboard = Dashboard(run, "--compare", str(other))
    yield dashboard
    dashboard.kill()


def facts_of(page: Any, number: int = 0) -> dict[str, str]:
    """Return what a panel says of what it drew."""
    return dict(page.get_by_test_id("series-plot").nth(number).evaluate("e => ({...e.dataset})"))


def until(page: Any, name: str, value: str, number: int = 0) -> None:
    page.wait_for_function(
        "([name, value, number]) => document.querySelectorAll('[data-testid=series-plot]')[number]"
        "?.dataset[name] === value",
        arg=[name, value, number],
    )


def test_lines_show_restarts_gaps_and_other_runs(
    dashboard: Dashboard, pages: Pages, picture: Callable[[Any, str], None]
) -> None:
    page = pages.open(dashboard.url, "observables")
    until(page, "lines", "3")
    until(page, "breaks", "2")
    until(page, "gaps", "1")
    assert "2 restarts" in page.get_by_test_id("series-note").inner_text()
    page.get_by_test_id("compare-other").check()
    until(page, "lines", "6")
    until(page, "breaks", "4")
    page.get_by_test_id("series-add-column").fill("nothing")
    page.get_by_test_id("series-add-column").press("Enter")
    page.get_by_text("There is no column “nothing”.").wait_for()
    page.get_by_test_id("series-add-column").fill(HOSTILE)
    page.get_by_test_id("series-add-column").press("Enter")
    until(page, "lines", "12")
    page.get_by_test_id("series-log").check()
    page.get_by_text("have no place on a log scale").wait_for()
    picture(page, "observables-compared")
    # What was arranged is there again.
    page.reload()
    until(page, "lines", "12")
    assert page.get_by_test_id("series-log").is_checked()


ALIGN = """async () => {
  const { align, Series, smooth } = await import("/static/js/plots/series_data.js");
  const make = (x, y, e) => {
    const series = new Series({ simulation: "s", column: "c" });
    series.append(Float64Array.from(x), Float64Array.from(y), e);
    return series;
  };
  const plain = (data) => data.map((line) => Array.from(line, (v) => v === undefined ? "none" : v));
  const whole = make([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]);
  const gap = make([0, 1, 2, 30, 31], [0, 1, 2, 3, 4]);
  const restarted = make([0, 2, 4], [5, 6, 7], [0, 0, 1]);
  const rows = Array.from({ length: 20000 }, (_, i) => i);
  const [dense, long] = [make(rows, rows.map(() => 0)), make(rows, rows.map(() => 0))];
  dense.y[7777] = long.y[7777] = 9;
  long.thin(100);
  const many = align([dense, gap], { positions: 50 });
  return {
    gap: plain(align([whole, gap], { gaps: true }).data),
    restarted: [plain(align([restarted]).data), restarted.breaks],
    thinned: [long.length <= 100, Math.max(...long.y), long.stride > 100],
    columns: [many.thinned, many.data[0].length, Math.max(...many.data[1])],
    smooth: Array.from(smooth(Float64Array.from([1, 2, 3, NaN, 10, 20]), 3)).map(String),
  };
}"""


def test_lines_are_laid_over_each_other_and_stay_broken(dashboard: Dashboard, pages: Pages) -> None:
    page = pages.open(dashboard.url, "overview")
    found = page.evaluate(ALIGN)
    x, whole, gap = found["gap"]
    assert x == [0, 1, 2, 3, 4, 5, 16, 30, 31]
    assert whole == [0, 1, 2, 3, 4, 5, "none", "none", "none"]
    assert gap == [0, 1, 2, None, None, None, None, 3, 4]
    assert found["restarted"] == [[[0, 2, 3, 4], [5, 6, None, 7]], [4]]
    assert found["thinned"] == [True, 9, True]
    assert found["columns"] == [True, 50, 9]
    assert found["smooth"] == ["1.5", "2", "2.5", "NaN", "15", "15"]


def test_panels_share_their_cursor_and_range(dashboard: Dashboard, pages: Pages) -> None:
    page = pages.open(dashboard.url, "observables")
    page.get_by_test_id("add-series").click()
    until(page, "lines", "3", 1)
    plots = page.get_by_test_id("series-over")
    box = plots.first.bounding_box()
    plots.first.hover(position={"x": box["width"] / 2, "y": box["height"] / 2})
    values = page.get_by_test_id("series-panel").nth(1).locator(".obs-value").first
    page.wait_for_function("e => e.textContent !== ''", arg=values.element_handle())
    assert page.get_by_test_id("series-reset").is_disabled()
    assert float(facts_of(page)["stride"]) > 1.0
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 30, steps=4)
    page.mouse.up()
    # Of a short stretch, all rows are asked for; the other panel shows the same stretch.
    until(page, "stride", "1.00")
    until(page, "stride", "1.00", 1)
    page.locator("[data-testid=series-reset]:not([disabled])").click()
    page.locator("[data-testid=series-reset][disabled]").wait_for()
    plots.first.locator("xpath=ancestor::*[@data-testid='series-plot']").press("+")
    page.locator("[data-testid=series-reset]:not([disabled])").wait_for()
    while page.get_by_test_id("panel-remove").count():
        page.get_by_test_id("panel-remove").first.click()
    page.get_by_text("No panels: add one above.").wait_for()


def test_maps_are_in_degrees_and_say_what_they_show(
    dashboard: Dashboard, pages: Pages, picture: Callable[[Any, str], None]
) -> None:
    page = pages.open(dashboard.url, "observables")
    plot = page.get_by_test_id("histogram-plot")
    page.wait_for_function(
        "() => document.querySelector('[data-testid=histogram-plot]')?.dataset.total > 1000"
    )
    assert page.get_by_test_id("histogram-degrees").is_checked()
    assert "300 K" in page.get_by_test_id("histogram-note").inner_text()
    plot.focus()
    plot.press("ArrowLeft")
    page.get_by_text("kJ/mol", exact=False).or_(page.get_by_text("not visited")).first.wait_for()
    page.get_by_test_id("histogram-kind").select_option("counts")
    page.get_by_test_id("histogram-y").fill("")
    page.get_by_test_id("histogram-y").press("Enter")
    page.wait_for_function(
        "() => document.querySelector('[data-testid=histogram-plot]').dataset.bins < 200"
    )
    # An angle stays one, and the target of the map is marked.
    assert page.get_by_test_id("histogram-degrees").is_checked()
    plot.scroll_into_view_if_needed()
    picture(page, "observables-histogram")


def test_pictures_and_numbers_are_saved(dashboard: Dashboard, pages: Pages, tmp_path: Path) -> None:
    page = pages.open(dashboard.url, "observables")
    until(page, "lines", "3")
    for number in range(2):
        with page.expect_download() as saving:
            page.get_by_test_id("export-png").nth(number).click()
        saving.value.save_as(tmp_path / "plot.png")
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with page.expect_download() as saving:
        page.get_by_test_id("export-csv").first.click()
    saving.value.save_as(tmp_path / "series.csv")
    with (tmp_path / "series.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # As on the screen: the least and the greatest of each stretch.
    assert 4000 < len(rows) < 3 * ROWS
    assert {row["simulation"] for row in rows} == {"walker-0", "walker-1", "walker-2"}
    assert {row["unit"] for row in rows} == {"nm"}
    # Angles are stored in radians, and read in degrees.
    page.get_by_test_id("series-add-column").first.fill("angles[0]")
    page.get_by_test_id("series-add-column").first.press("Enter")
    until(page, "lines", "6")
    with page.expect_download() as saving:
        page.get_by_test_id("export-csv").first.click()
    saving.value.save_as(tmp_path / "angles.csv")
    with (tmp_path / "angles.csv").open(encoding="utf-8", newline="") as file:
        angles = [row for row in csv.DictReader(file) if row["column"] == "angles[0]"]
    assert {row["unit"] for row in angles} == {"°"}
    values = np.array([float(row["value"]) for row in angles])
    assert abs(values).max() > 90
    assert abs(values.mean() - np.degrees(-1.2)) < 15


def test_a_toast_says_what_keeps_a_command_from_its_simulation(
    dashboard: Dashboard, pages: Pages
) -> None:
    page = pages.open(dashboard.url, "steering")

    def said(**answer: Any) -> Any:
        return page.evaluate(
            """async (answer) => {
              const url = new URL("static/js/views/approvals.js", document.baseURI).href;
              const { answerOf } = await import(url);
              return answerOf(answer, "approve", "restart");
            }""",
            answer,
        )

    held = "It could not be carried out yet, and is tried again: nobody listens."
    assert said(state="approved", verdict="sent", problem="") == ["restart: approved.", "ok"]
    assert said(state="approved", verdict=None, problem=held) == [
        f"restart: approved. {held}", "warning",
    ]  # fmt: skip
    assert said(state="approved", verdict="refused", verdict_reason="It has ended.") == [
        "restart: approved, but refused. It has ended.", "error",
    ]  # fmt: skip
    assert said(state="denied", by="Ada", already=True, problem=held) == [
        f"Somebody was quicker: it was denied already by Ada. {held}", "warning",
    ]  # fmt: skip
    page.evaluate(
        """async (answer) => {
          const url = new URL("static/js/views/commands.js", document.baseURI).href;
          (await import(url)).tell(answer, "walker-1: pause");
        }""",
        {"verdict": "sent", "reason": held, "problem": held},
    )
    toast = page.get_by_test_id("toast")
    toast.wait_for()
    assert f"walker-1: pause: not on its way yet. {held}" in toast.inner_text()
    assert toast.get_attribute("data-level") == "warning"


def test_the_report_opens_without_a_server(
    dashboard: Dashboard, pages: Pages, tmp_path: Path, picture: Callable[[Any, str], None]
) -> None:
    page = pages.open(dashboard.url, "overview")
    with page.expect_download() as saving:
        page.evaluate("() => { location.href = 'api/report.html'; }")
    saving.value.save_as(tmp_path / "report.html")
    context = pages.browser.new_context(offline=True)
    report = context.new_page()
    pages.watch(report)
    report.goto((tmp_path / "report.html").as_uri())
    lines = report.locator("figure").first.locator(".line")
    assert lines.count() >= 3
    report.locator("figure").first.locator(".legend button").first.click()
    assert "off" in str(lines.first.get_attribute("class"))
    report.get_by_label("Filter the events").fill("nothing like this")
    with report.expect_download() as saving:
        report.get_by_text("Save the data as JSON").click()
    saving.value.save_as(tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text())["run"]["name"] == "run"
    picture(report, "report")
    context.close()
