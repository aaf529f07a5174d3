"""Every view against a live run with real walkers."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from tests.browser.conftest import Pages
from tests.browser.live import LIMIT, Dashboard

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect

expect.set_options(timeout=LIMIT * 1000)
Keep = Callable[[Page, str], None]

RECEIVED = "([channel, least]) => (window.__stats.received[channel] || 0) >= least"
# Pixels of a canvas that are not like its first one.
DRAWN = """element => {
  const canvases = [element, ...element.querySelectorAll('canvas')].filter(e => e.getContext);
  let drawn = 0;
  for (const canvas of canvases) {
    const copy = document.createElement('canvas');
    copy.width = canvas.width; copy.height = canvas.height;
    const context = copy.getContext('2d');
    context.drawImage(canvas, 0, 0);
    const {data} = context.getImageData(0, 0, copy.width, copy.height);
    const pixels = new Uint32Array(data.buffer);
    for (const pixel of pixels) drawn += pixel !== pixels[0];
  }
  return drawn;
}"""


def wait_until_drawn(page: Page, testid: str, least: int = 50) -> None:
    """Wait until something can be seen on a canvas."""
    target = page.get_by_test_id(testid).first
    target.wait_for()
    page.wait_for_function(f"([e, n]) => ({DRAWN})(e) >= n", arg=[target.element_handle(), least])


def test_overview(dashboard: Dashboard, pages: Pages, picture: Keep) -> None:
    page = pages.open(dashboard.url, "overview")
    names = dashboard.wait(
        "/api/overview", lambda o: [s["name"] for s in o["simulations"] if s["step"] > 0]
    )
    for name in names:
        expect(page.get_by_test_id(f"card-{name}")).to_be_visible()
    expect(page.get_by_test_id("run-name")).to_contain_text("watched")
    # The token is in a cookie by now, and nowhere where it can be read or sent on.
    assert "token" not in page.url
    assert dashboard.token not in page.evaluate("document.cookie")
    page.wait_for_function(RECEIVED, arg=["overview", 4])
    assert page.evaluate("window.__stats.lag_ms") >= 0
    picture(page, "overview")


def test_embedding_selects_frames_that_the_molecule_view_shows(
    dashboard: Dashboard, pages: Pages, picture: Keep
) -> None:
    dashboard.wait("/api/run", lambda run: run["embedding"])
    page = pages.open(dashboard.url, "embedding")
    page.wait_for_function(RECEIVED, arg=["points", 2])
    wait_until_drawn(page, "embedding-canvas")
    expect(page.get_by_test_id("embedding-count")).to_contain_text("points")
    picture(page, "embedding")
    # Shift and drag takes in a region; here all of it.
    box = page.get_by_test_id("embedding-canvas").bounding_box()
    assert box is not None
    left, top = box["x"] + 0.15 * box["width"], box["y"] + 0.1 * box["height"]
    page.keyboard.down("Shift")
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move(left + 0.7 * box["width"], top + 0.7 * box["height"], steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    expect(page.get_by_test_id("embedding-chosen-count")).to_be_visible()
    page.get_by_test_id("embedding-show-molecule").click()
    page.get_by_test_id("view-molecule").wait_for()
    wait_until_drawn(page, "molecule-canvas")


def test_molecule_follows_the_simulation(dashboard: Dashboard, pages: Pages, picture: Keep) -> None:
    dashboard.wait("/api/overview", lambda o: all(s["step"] > 0 for s in o["simulations"]))
    page = pages.open(dashboard.url, "molecule")
    wait_until_drawn(page, "molecule-canvas")
    page.wait_for_function(RECEIVED, arg=["molecule", 3])
    picture(page, "molecule")


def test_observables_are_drawn_and_saved(dashboard: Dashboard, pages: Pages, picture: Keep) -> None:
    dashboard.wait("/api/run", lambda run: run["columns"])
    page = pages.open(dashboard.url, "observables")
    wait_until_drawn(page, "series-plot")
    wait_until_drawn(page, "histogram-plot")
    picture(page, "observables")
    with page.expect_download() as waiting:
        page.get_by_test_id("export-csv").first.click()
    text = waiting.value.path().read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text)))
    assert len(rows) > 3
    assert len({len(row) for row in rows[-3:]}) == 1
    with page.expect_download() as waiting:
        page.get_by_test_id("export-png").first.click()
    assert waiting.value.path().read_bytes().startswith(b"\x89PNG\r\n")


def test_pipeline_shows_every_operator(dashboard: Dashboard, pages: Pages, picture: Keep) -> None:
    states = "operator/tica", "operator/restarts"
    dashboard.wait(
        "/api/pipeline",
        lambda p: sum(1 for n in p["nodes"] if n["id"] in states and n["state_bytes"]) == 2,
    )
    units = {c["name"]: c["unit"] for c in dashboard.get("/api/run")["columns"]}
    assert units["phi_psi"] == "rad"
    page = pages.open(dashboard.url, "pipeline")
    for name in ("backbone", "tica", "restarts", "phi_psi"):
        expect(page.get_by_test_id(f"pipeline-node-{name}")).to_be_visible()
    expect(page.get_by_test_id("pipeline-node-tica")).to_contain_text("B state")
    expect(page.get_by_test_id("operator-row-backbone")).to_contain_text("none")
    picture(page, "pipeline")


def test_events(dashboard: Dashboard, pages: Pages, picture: Keep) -> None:
    count = dashboard.wait("/api/events", lambda told: len(told["events"]))
    page = pages.open(dashboard.url, "events")
    expect(page.get_by_test_id("event-row").first).to_be_visible()
    assert page.get_by_test_id("event-row").count() >= min(count, 5)
    picture(page, "events")


@pytest.mark.parametrize(("width", "height", "theme"), [(1280, 720, "light"), (820, 1180, "dark")])
def test_sizes_and_themes(
    dashboard: Dashboard, pages: Pages, picture: Keep, width: int, height: int, theme: str
) -> None:
    page = pages.open(
        dashboard.url, viewport={"width": width, "height": height}, color_scheme=theme
    )
    for view in ("overview", "embedding", "observables", "pipeline", "steering", "events"):
        page.get_by_test_id(f"nav-{view}").click()
        page.get_by_test_id(f"view-{view}").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    bright = sum(int(part) for part in background.strip("rgba()").split(",")[:3]) > 384
    assert bright == (theme == "light")
    picture(page, f"steering-{width}-{theme}")


def test_keys_go_through_the_views(dashboard: Dashboard, pages: Pages) -> None:
    page = pages.open(dashboard.url, "overview")
    page.keyboard.press("5")
    page.get_by_test_id("view-pipeline").wait_for()
    page.keyboard.press("1")
    page.get_by_test_id("view-overview").wait_for()
    page.keyboard.press("?")
    expect(page.get_by_test_id("help-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("help-dialog")).to_be_hidden()


def test_all_that_is_pressed_has_a_name(dashboard: Dashboard, pages: Pages) -> None:
    page = pages.open(dashboard.url)
    for view in ("overview", "embedding", "molecule", "observables", "pipeline", "steering"):
        page.get_by_test_id(f"nav-{view}").click()
        page.get_by_test_id(f"view-{view}").wait_for()
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, select, input, a[href]')].filter(e =>
              e.offsetParent && !(e.getAttribute('aria-label') || e.textContent.trim() || e.title ||
              e.labels?.length || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML)"""
        )
        assert nameless == [], view
