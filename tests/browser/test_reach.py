"""Everybody can use it: by keys alone, by name, on a phone, with fingers; and after its end."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.bridge.runs.commands import finish
from tests.browser.conftest import Pages
from tests.browser.live import LIMIT, Dashboard, Live
from tests.browser.test_views import wait_until_drawn

pytest.importorskip("playwright")

from playwright.sync_api import Page, expect

expect.set_options(timeout=LIMIT * 1000)

VIEWS = ("overview", "embedding", "molecule", "observables", "pipeline", "steering", "events")

NAMELESS = """() => [...document.querySelectorAll(
    'button, a[href], input, select, summary, [role=button], [role=radio], [tabindex="0"]')]
  .filter(e => e.checkVisibility() && !e.closest('[aria-hidden=true]'))
  .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.title
    || [...(e.labels || [])].some(l => l.textContent.trim())))
  .map(e => e.outerHTML.slice(0, 120))"""

# Elements of which a part cannot be reached: they stick out of what can be scrolled to.
LOST = """() => {
  const view = document.getElementById('view');
  const out = view.scrollWidth > view.clientWidth + 1 ? [`view ${view.scrollWidth}`] : [];
  for (const e of document.querySelectorAll('button, select, input, a.button, h2')) {
    if (!e.checkVisibility() || e.closest('.scroll-x, .obs-legend, .graph-body, dialog')) continue;
    const {left, right, width} = e.getBoundingClientRect();
    if (width > 1 && (left < -1 || right > innerWidth + 1)) out.push(e.outerHTML.slice(0, 120));
  }
  return out;
}"""


def test_keys_alone_reach_everything_and_everything_has_a_name(
    dashboard: Dashboard, pages: Pages
) -> None:
    dashboard.wait("/api/overview", lambda o: all(s["step"] > 0 for s in o["simulations"]))
    page = pages.open(f"{dashboard.url}#/events")
    page.get_by_test_id("view-events").wait_for()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#view")).to_be_focused()
    expect(page.get_by_test_id("view-events")).to_be_visible()
    for number, view in enumerate(VIEWS, 1):
        page.keyboard.press(str(number))
        page.get_by_test_id(f"view-{view}").wait_for()
        expect(page.get_by_test_id(f"nav-{view}")).to_have_attribute("aria-current", "page")
        assert page.evaluate(NAMELESS) == []
    # A card is chosen by a key, and says whose it is.
    page.keyboard.press("1")
    page.get_by_test_id("card-walker-0").focus()
    expect(page.get_by_test_id("card-walker-0")).to_have_accessible_name(
        "Simulation walker-0, running"
    )
    page.keyboard.press("Space")
    expect(page.get_by_test_id("simulation-details")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_test_id("help-dialog")).to_contain_text("Embedding")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("help-dialog")).to_have_count(0)
    # The same page, as narrow as a phone: nothing sticks out, and views are still one touch away.
    page.set_viewport_size({"width": 390, "height": 780})
    for view in VIEWS:
        page.get_by_test_id(f"nav-{view}").click()
        page.get_by_test_id(f"view-{view}").wait_for()
        page.wait_for_function(f"() => ({LOST})().length === 0")
    for label in ("simulations", "lag", "dropped"):
        expect(page.get_by_test_id(f"total-{label}")).to_be_visible()


def touch(page: Page, *tracks: list[tuple[float, float]]) -> None:
    """Move fingers along tracks, all at once."""
    session = page.context.new_cdp_session(page)

    def send(kind: str, points: list[tuple[float, float]]) -> None:
        fingers: list[Any] = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    send("touchStart", [track[0] for track in tracks])
    for points in zip(*(track[1:] for track in tracks), strict=True):
        send("touchMove", list(points))
    send("touchEnd", [])
    session.detach()


def test_fingers_zoom_and_choose(dashboard: Dashboard, pages: Pages) -> None:
    dashboard.wait("/api/points", lambda t: t["meta"]["total"] > 30, x="tica[0]", y="tica[1]")
    tablet = {"width": 820, "height": 1180}
    page = pages.open(dashboard.url, "embedding", viewport=tablet, has_touch=True)
    wait_until_drawn(page, "embedding-canvas")
    canvas = page.get_by_test_id("embedding-canvas")
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    apart = [40.0, 80.0, 120.0, 160.0]
    touch(page, [(x - d, y) for d in apart], [(x + d, y) for d in apart])
    expect(canvas).to_have_attribute("data-range", r := canvas.get_attribute("data-range") or "")
    near = json.loads(r)
    touch(page, [(x - d, y) for d in reversed(apart)], [(x + d, y) for d in reversed(apart)])
    page.wait_for_function("([e, r]) => e.dataset.range !== r", arg=[canvas.element_handle(), r])
    far = json.loads(canvas.get_attribute("data-range") or "")
    assert far[1] - far[0] == pytest.approx(4 * (near[1] - near[0]), rel=0.05)
    # A lasso, drawn with one finger.
    page.get_by_test_id("embedding-fit").tap()
    page.get_by_test_id("embedding-more").tap()
    page.get_by_test_id("embedding-region-lasso").tap()
    page.get_by_test_id("embedding-selecting").tap()
    page.get_by_test_id("embedding-more").tap()
    w, h = 0.4 * box["width"], 0.4 * box["height"]
    round_trip = [(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h), (x - w, y - h)]
    touch(page, round_trip)
    expect(page.get_by_test_id("embedding-chosen-count")).to_be_visible()


@pytest.mark.stumbles
def test_views_are_there_when_the_dashboard_has_ended(live: Live, pages: Pages) -> None:
    dashboard = Dashboard(live.folder)
    page = pages.open(dashboard.url, "overview")
    fetched = "n => performance.getEntriesByType('resource').some(e => e.name.includes(n))"
    page.wait_for_function(fetched, arg="/views/events.js")
    dashboard.process.send_signal(signal.SIGINT)
    finish(dashboard.process)
    expect(page.get_by_test_id("alarms")).to_contain_text("This dashboard was ended.")
    expect(page.get_by_test_id("connection-state")).to_contain_text("Dashboard over")
    for view in ("pipeline", "events", "steering"):
        page.get_by_test_id(f"nav-{view}").click()
        page.get_by_test_id(f"view-{view}").wait_for()
        expect(page.get_by_test_id(f"view-{view}")).not_to_contain_text("is not here")
