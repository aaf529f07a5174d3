"""People approve, deny and stop in the page, and the simulations obey."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.browser.conftest import Pages
from tests.browser.live import LIMIT, Dashboard, Live

pytest.importorskip("playwright")

from playwright.sync_api import Error, Page, expect

expect.set_options(timeout=LIMIT * 1000)
Keep = Callable[[Page, str], None]


def lines_of(answer: Any, state: str) -> list[dict[str, Any]]:
    return [line for line in answer["lines"] if (line.get("approval") or {}).get("state") == state]


def line_of(dashboard: Dashboard, command: str, what: Callable[[Any], Any]) -> dict[str, Any]:
    """Wait until the ledger says something of one command; return its line."""

    def find(answer: Any) -> Any:
        line = next((one for one in answer["lines"] if one["id"] == command), None)
        return line if line is not None and what(line) else None

    line: dict[str, Any] = dashboard.wait("/api/ledger", find)
    return line


def awaiting(dashboard: Dashboard, number: int = 1) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = dashboard.wait(
        "/api/ledger", lambda a: found if len(found := lines_of(a, "awaiting")) >= number else None
    )
    return lines


def offered(page: Page, number: int = 1) -> list[str]:
    """Return the ids of commands that the page asks for; it shows the first few that wait."""
    cards = page.get_by_test_id("approvals").locator("article")
    cards.nth(number - 1).wait_for()
    names = [one.get_attribute("data-testid") or "" for one in cards.all()]
    return [name.removeprefix("approval-") for name in names[:number]]


def test_what_is_approved_is_applied_and_what_is_denied_is_not(
    dashboard: Dashboard, pages: Pages, picture: Keep
) -> None:
    awaiting(dashboard, 2)
    page = pages.open(dashboard.url, "steering")
    yes, no = offered(page, 2)
    picture(page, "steering")
    page.get_by_test_id(f"approve-{yes}").click()
    line = line_of(dashboard, yes, lambda line: line.get("outcome"))
    assert line["outcome"] == "applied"
    assert line["step"] > 0
    assert line["answers"] == 1
    page.get_by_test_id(f"deny-{no}").click()
    # The word comes first, and then what follows from it.
    line = line_of(dashboard, no, lambda line: line["verdict"] == "denied")
    assert line["approval"]["state"] == "denied"
    assert not line.get("outcome")
    for command in (yes, no):
        page.get_by_test_id("ledger-filter").fill(command)
        expect(page.get_by_test_id(f"ledger-row-{command}").first).to_be_visible()


def test_two_people_who_act_at_once_get_one_outcome_and_both_see_it(
    dashboard: Dashboard, pages: Pages
) -> None:
    awaiting(dashboard)
    one, other = (pages.open(dashboard.url, "steering") for _ in range(2))
    command = offered(one)[0]
    for page in (one, other):
        expect(page.get_by_test_id(f"approve-{command}")).to_be_visible()
    one.get_by_test_id(f"approve-{command}").click(no_wait_after=True)
    # The other may see it go before the button is pressed.
    with contextlib.suppress(Error):
        other.get_by_test_id(f"deny-{command}").click(timeout=2000, force=True)
    line = line_of(dashboard, command, lambda line: line["approval"]["state"] != "awaiting")
    word = line["approval"]["state"]
    assert word in ("approved", "denied")
    for page in (one, other):
        expect(page.get_by_test_id(f"approve-{command}")).to_have_count(0)
        page.get_by_test_id("ledger-filter").fill(command)
        expect(page.get_by_test_id(f"ledger-row-{command}").first).to_contain_text(
            re.compile(word, re.I)
        )
    if word == "approved":
        line = line_of(dashboard, command, lambda line: line.get("outcome"))
        assert line["answers"] == 1


def test_a_word_that_comes_twice_counts_once(dashboard: Dashboard) -> None:
    command = awaiting(dashboard)[-1]["id"]
    headers = {
        "Authorization": f"Bearer {dashboard.token}",
        "Idempotency-Key": "the-same-key-again",
    }
    url = f"{dashboard.address}/api/approvals/{quote(command, safe='')}"
    body = {"verdict": "approve", "reason": "It looks good."}
    first = httpx.post(url, json=body, headers=headers, timeout=LIMIT)
    second = httpx.post(url, json=body, headers=headers, timeout=LIMIT)
    assert first.status_code == second.status_code == 200, first.text + second.text
    assert first.json()["state"] == second.json()["state"] == "approved"
    assert line_of(dashboard, command, lambda line: line.get("outcome"))["answers"] == 1


def test_a_person_pauses_and_resumes_all(dashboard: Dashboard, pages: Pages) -> None:
    def states(overview: Any, wanted: str) -> bool:
        return all(s["state"] == wanted for s in overview["simulations"])

    page = pages.open(dashboard.url, "steering")
    page.get_by_test_id("pause-all").click()
    if (confirm := page.get_by_test_id("pause-all-confirm")).is_visible():
        confirm.click()
    dashboard.wait("/api/overview", lambda overview: states(overview, "paused"))
    page.get_by_test_id("resume-all").click()
    dashboard.wait("/api/overview", lambda overview: states(overview, "running"))


@pytest.fixture
def second(tmp_path: Path) -> Iterator[tuple[Live, Dashboard]]:
    """A run of its own, which may be stopped."""
    live = Live(tmp_path)
    dashboard = Dashboard(live.folder)
    yield live, dashboard
    dashboard.kill()
    live.end()


@pytest.mark.stumbles
def test_stop_all_asks_first_and_ends_the_run(
    second: tuple[Live, Dashboard], pages: Pages, picture: Keep
) -> None:
    live, dashboard = second
    dashboard.wait(
        "/api/overview",
        lambda o: len(o["simulations"]) == 2 and all(s["step"] > 0 for s in o["simulations"]),
    )
    page = pages.open(dashboard.url, "steering")
    page.get_by_test_id("stop-all").click()
    # Nothing is stopped until somebody confirms.
    page.get_by_test_id("stop-all-confirm").wait_for()
    assert live.process.poll() is None
    picture(page, "stop-all")
    page.get_by_test_id("stop-all-confirm-word").fill("stop")
    page.get_by_test_id("stop-all-confirm").click()
    live.process.wait(LIMIT)
    # The page stays, and shows the run that is over, from its beginning.
    expect(page.get_by_test_id("run-state")).not_to_contain_text("running")
    page.get_by_test_id("nav-embedding").click()
    page.get_by_test_id("replay-slider").wait_for()
    dashboard.kill()
    again = Dashboard(live.folder)
    try:
        page = pages.open(again.url, "overview")
        for name in ("walker-0", "walker-1"):
            expect(page.get_by_test_id(f"card-{name}")).to_be_visible()
        run = again.get("/api/run")
        assert not run["live"]
        middle = (run["replay"]["start"] + run["replay"]["end"]) / 2
        assert again.get("/api/overview", at=middle)["simulations"]
        picture(page, "after-the-run")
    finally:
        again.kill()
