"""A real browser, a live run, and pages that may ask nobody but the dashboard."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.browser.live import LIMIT, Dashboard, Live, browser_path

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
SIZE = {"width": 1280, "height": 720}


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium of the system, without a window."""
    for name in ("playwright.sync_api", "starlette", "openmm"):
        pytest.importorskip(name)
    from playwright.sync_api import sync_playwright

    path = browser_path()
    if path is None:
        pytest.skip("There is no Chromium: install the package chromium, or set HEADRACE_BROWSER.")
    # Software drawing, as machines that test have no graphics card.
    arguments = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A run that goes on while all tests look at it."""
    live = Live(tmp_path_factory.mktemp("live"))
    yield live
    live.end()


@pytest.fixture(scope="package")
def dashboard(live: Live) -> Iterator[Dashboard]:
    """The dashboard of the live run."""
    dashboard = Dashboard(live.folder)
    yield dashboard
    dashboard.kill()


class Pages:
    """Opens pages, and remembers what they asked for and complained of."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._contexts: list[Any] = []

    def context(self, **more: Any) -> Any:
        context = self.browser.new_context(viewport=more.pop("viewport", SIZE), **more)
        context.set_default_timeout(LIMIT * 1000)
        context.on("request", lambda request: self.requests.append(request.url))
        self._contexts.append(context)
        return context

    def open(self, url: str, view: str = "", **more: Any) -> Page:
        page = self.context(**more).new_page()
        self.watch(page)
        page.goto(url)
        if view:
            page.get_by_test_id(f"nav-{view}").click()
            page.get_by_test_id(f"view-{view}").wait_for()
        return page

    def watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def pages(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Pages]:
    """Pages of one test: none of them may ask another host, or stumble over an error."""
    pages = Pages(browser)
    yield pages
    pages.close()
    hosts = {
        urlsplit(url).hostname for url in pages.requests if not url.startswith(("data:", "blob:"))
    }
    assert hosts <= {"127.0.0.1"}, hosts
    if request.node.get_closest_marker("stumbles") is None:
        assert not pages.errors


@pytest.fixture
def picture() -> Callable[[Page, str], None]:
    """Keeps a picture of a page, to be looked at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def keep(page: Page, name: str) -> None:
        page.screenshot(path=str(SCREENSHOTS / f"{name}.png"))

    return keep
