"""Servers that die, pages that are slow, strangers, and names that would like to be programs."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from bridge.commands import Capability, Command, Decision, Event
from bridge.staging import Stager, StagerClient
from bridge.testing.sources import PAUSE, ScriptedSource, make_frames
from tests.browser.conftest import Pages
from tests.browser.live import LIMIT, Dashboard, Live

pytest.importorskip("playwright")

from playwright.sync_api import expect

expect.set_options(timeout=LIMIT * 1000)
EVIL = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>\u202edeppots\u2066"
TURNED = "/[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.innerText)"


@pytest.mark.stumbles
def test_a_server_that_is_killed_and_started_again(live: Live, pages: Pages) -> None:
    first = Dashboard(live.folder)
    page = pages.open(first.url, "overview")
    page.wait_for_function("() => (window.__stats.received.overview || 0) > 1")
    first.kill()
    expect(page.get_by_test_id("connection-state")).not_to_contain_text("Live")
    before = page.evaluate("window.__stats.received.overview")
    second = Dashboard(live.folder, port=first.port)
    try:
        # The page comes back by itself: with the token of the run, its cookie is still good.
        page.wait_for_function("n => window.__stats.received.overview > n + 1", arg=before)
        expect(page.get_by_test_id("connection-state")).to_contain_text("Live")
    finally:
        second.kill()


def test_a_page_says_that_it_is_told_less_often(dashboard: Dashboard, pages: Pages) -> None:
    page = pages.open(dashboard.url, "events")
    expect(page.get_by_test_id("connection-state")).to_contain_text("Live")
    told = page.evaluate(
        """async () => {
            const { store } = await import(new URL("static/js/state.js", document.baseURI).href);
            const state = document.querySelector("[data-testid=connection-state]");
            const told = [];
            for (const slower of [2.5, 1]) {
                store.set("run", { ...store.get("run"), state: "running", live: true, slower });
                told.push([state.innerText, state.title]);
            }
            return told;
        }"""
    )
    (slowed, why), (text, title) = told
    assert slowed.endswith("Live, slowed")
    assert why.endswith("this page is told 2.5 times less often.")
    assert text.endswith("Live")
    assert not title


def test_who_comes_late_sees_what_was_before(
    live: Live, dashboard: Dashboard, pages: Pages
) -> None:
    seen = dashboard.wait("/api/points", lambda t: t["meta"]["total"], x="tica[0]", y="tica[1]")
    late = Dashboard(live.folder)
    try:
        query = {"x": "tica[0]", "y": "tica[1]"}
        late.wait("/api/points", lambda t: t["meta"]["total"] >= seen, **query)
    finally:
        late.kill()


def test_a_slow_page_is_behind_by_a_message_and_not_by_a_queue(
    dashboard: Dashboard, pages: Pages
) -> None:
    page = pages.open(dashboard.url, "embedding")
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 8})
    page.wait_for_function("() => (window.__stats.received.points || 0) > 5")
    metrics = httpx.get(
        f"{dashboard.address}/metrics", headers={"Authorization": f"Bearer {dashboard.token}"}
    ).text
    figures = {
        name: float(value)
        for name, value in (line.split() for line in metrics.splitlines() if line[0] != "#")
        if name.startswith("headrace_dashboard_")
    }
    # One message of a subscription is under way at most, however slow the page is.
    flying = figures["headrace_dashboard_in_flight"]
    assert flying <= figures["headrace_dashboard_subscriptions"]


@pytest.mark.stumbles
def test_a_wrong_token_and_none(dashboard: Dashboard, pages: Pages) -> None:
    for ending in ("", "?token=not-the-right-one-at-all"):
        answer = httpx.get(f"{dashboard.address}/{ending}")
        assert answer.status_code in (401, 403)
        assert "token" in answer.text
        assert dashboard.token not in answer.text
    for path in ("/api/run", "/metrics", "/api/openapi.json"):
        assert httpx.get(dashboard.address + path).status_code in (401, 403)
    page = pages.context().new_page()
    page.goto(f"{dashboard.address}/?token=not-the-right-one-at-all")
    expect(page.locator("body")).to_contain_text("token")


@pytest.fixture
def stranger() -> Iterator[str]:
    """Another site on the same machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Another site</title>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.mark.stumbles
def test_a_page_of_another_site_gets_nothing_and_steers_nothing(
    dashboard: Dashboard, pages: Pages, stranger: str
) -> None:
    page = pages.open(dashboard.url, "overview")
    # The same browser: it has the cookie, and the same host but for the port.
    other = page.context.new_page()
    other.goto(stranger)
    read = """async url => {
      try { const r = await fetch(url, {credentials: 'include'}); return await r.text(); }
      catch (error) { return 'refused'; }
    }"""
    assert other.evaluate(read, f"{dashboard.address}/api/run") == "refused"
    socket = """url => new Promise(done => {
      const s = new WebSocket(url, 'headrace.1');
      s.onopen = () => done('open'); s.onerror = () => done('refused'); s.onclose = s.onerror;
    })"""
    address = dashboard.address.replace("http://", "ws://") + "/ws"
    assert other.evaluate(socket, address) == "refused"
    post = """async url => {
      try {
        await fetch(url, {method: 'POST', credentials: 'include', mode: 'no-cors',
          body: '{"kind": "stop", "confirm": true}'});
      } catch (error) { }
    }"""
    before = (
        dashboard.get("/api/ledger")["revision"],
        [s["state"] for s in dashboard.get("/api/overview")["simulations"]],
    )
    other.evaluate(post, f"{dashboard.address}/api/all")
    assert "finished" not in [s["state"] for s in dashboard.get("/api/overview")["simulations"]]
    assert not [
        line for line in dashboard.get("/api/ledger")["lines"] if line.get("kind") == "stop"
    ], before
    frame = other.evaluate(
        """url => new Promise(done => {
          const f = document.createElement('iframe'); f.src = url;
          f.onload = () => { try { done(f.contentDocument ? 'blank' : 'foreign'); }
            catch (error) { done('foreign'); } };
          document.body.append(f); setTimeout(() => done('none'), 3000);
        })""",
        f"{dashboard.address}/",
    )
    assert frame in ("foreign", "none")
    assert "frame-ancestors 'none'" in httpx.get(dashboard.url, follow_redirects=True).headers.get(
        "content-security-policy", ""
    )


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Dashboard]:
    """A stager full of texts that are programs, where a careless page shows them as such."""
    with Stager("tcp://127.0.0.1:0") as stager:
        stager.start()
        frames = make_frames("s", 20, {"x": (3,)})
        able = [
            Capability("pause", description=EVIL),
            Capability("set", "speed", minimum=0, maximum=1, unit=EVIL, description=EVIL),
        ]
        source = ScriptedSource(
            "s", [frames, PAUSE], address=stager.address, capabilities=able, time_limit=100.0
        )
        source.start()
        with StagerClient(stager.address) as client:
            event = Event(
                EVIL, EVIL, simulation=EVIL, source=EVIL, level="error", data={EVIL: EVIL}
            )
            client.append("events", [msgspec.msgpack.encode(event)])
            command = Command(
                "set", "s", id="evil", parameter=EVIL, value=1.0, reason=EVIL, author=EVIL,
                evidence={EVIL: EVIL},
            )  # fmt: skip
            decision = Decision(command, "refused", reason=EVIL, stamp=1.0)
            client.append("decisions", [msgspec.msgpack.encode(decision)])
        dashboard = Dashboard(stager.address)  # type: ignore[arg-type]
        yield dashboard
        dashboard.kill()
        source.resume()
        with contextlib.suppress(Exception):
            source.join()


def test_hostile_texts_are_shown_as_texts(hostile: Dashboard, pages: Pages) -> None:
    hostile.wait("/api/events", lambda told: told["events"])
    hostile.wait("/api/overview", lambda overview: overview["simulations"])
    page = pages.open(hostile.url)
    for view in ("overview", "events", "steering", "pipeline", "molecule", "observables"):
        page.get_by_test_id(f"nav-{view}").click()
        page.get_by_test_id(f"view-{view}").wait_for()
        if view == "events":
            page.get_by_test_id("event-row").first.click()
            expect(page.get_by_test_id("view-events")).to_contain_text("onerror")
        if view == "steering":
            page.get_by_test_id("ledger-row-evil").first.click()
            expect(page.get_by_test_id("view-steering")).to_contain_text("onerror")
        # Nor may a text turn the order of what stands behind it.
        assert not page.evaluate(TURNED), view
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0
    report = httpx.get(
        f"{hostile.address}/api/report.html", headers={"Authorization": f"Bearer {hostile.token}"}
    )
    if report.status_code == 200:
        assert "<img src=x" not in report.text
        assert "<script>window.hacked" not in report.text
        shown = report.text.partition('<script type="application/json"')[0]
        assert not set("\u202e\u2066") & set(shown)
