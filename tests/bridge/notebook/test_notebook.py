"""A run in a notebook: what is sent, when it ends, and what a view that comes late gets."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.dashboard.feed import Feed, open_feed
from bridge.errors import ConfigError
from bridge.notebook.pump import Pump, Question
from bridge.runs.directory import RunDirectory, write_json
from bridge.staging import Stager
from tests.bridge.dashboard.feeding import Script, report, wait_for

ROWS = 40


class Browser:
    """Keeps what it is sent, and says so if it is to."""

    def __init__(self, answers: bool = True) -> None:
        self.answers = answers
        self.messages: list[tuple[dict[str, Any], list[bytes]]] = []
        self.pump: Pump | None = None

    def take(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        json.dumps(content)
        self.messages.append((content, buffers))
        if self.answers and self.pump is not None:
            self.pump.hear({"kind": "ack", "number": content["number"]})

    def array(self, message: int, of: str, name: str) -> np.ndarray:
        content, buffers = self.messages[message]
        place = content["arrays"].index({"of": of, "name": name})
        return np.frombuffer(buffers[place], "<f4")


@pytest.fixture
def script() -> Iterator[Script]:
    with Stager() as stager:
        stager.start()
        script = Script(stager.address, "walker")
        yield script
        script.close()


def publish(script: Script, first: int, count: int) -> None:
    offsets = np.arange(first, first + count, dtype=np.float64)
    script.put(count)
    script.publish(
        {
            "cv": np.stack([offsets, -offsets], axis=1),
            "rmsd": offsets / 10,
            "angles": offsets / 100,
        },
        first,
    )
    report(script.client, {"walker": first + count})


def follow(feed: Feed, browser: Browser, **options: Any) -> Pump:
    pump = Pump(feed, Question(**options), every=0.02, seconds=100.0)
    browser.pump = pump
    pump.start(browser.take)
    return pump


def points_of(browser: Browser) -> int:
    return sum(
        len(browser.array(i, "points", "x"))
        for i, (content, _) in enumerate(browser.messages)
        if "points" in content
    )


def test_a_run_that_is_over_is_shown_also_where_no_rate_is_known(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    write_json(directory.resolved, {"configuration": {"run": {"name": "walk"}}, "base": "."})
    rows = [{"name": "w", "frames": 5, "step": 50}]
    over = {"outcome": "finished", "started": 1000.0, "wall_time_s": 9.0, "simulations": rows}
    write_json(directory.report, over)
    browser = Browser()
    with open_feed(directory) as feed:
        pump = follow(feed, browser)
        assert pump.wait(60.0)
    assert pump.why_ended == "The run is over."
    status = browser.messages[-1][0]["status"]
    assert (status["frames"], status["rate"]) == (5, None)


def test_what_is_new_is_sent_and_a_run_that_is_over_ends_the_thread(script: Script) -> None:
    browser = Browser()
    publish(script, 0, ROWS)
    with open_feed(address=script.client.address) as feed:
        pump = follow(feed, browser)
        wait_for(lambda: points_of(browser) >= ROWS)
        publish(script, ROWS, ROWS)
        wait_for(lambda: points_of(browser) >= 2 * ROWS)
        content = next(c for c, _ in browser.messages if "series" in c)
        assert [entry["column"] for entry in content["series"]["series"]] == ["rmsd"]
        script.producer.close(finished=True)
        report(script.client, {"walker": 2 * ROWS}, state="finished")
        assert pump.wait(60.0)
        assert pump.why_ended == "The run is over."
        assert browser.messages[-1][0]["status"]["state"] == "ended"
        # A page that is opened now gets everything at once.
        browser.messages.clear()
        pump.hear({"kind": "hello"})
        assert points_of(browser) == 2 * ROWS
        assert browser.messages[0][0]["points"]["reset"]


def test_angles_are_shown_in_degrees(script: Script) -> None:
    browser = Browser()
    publish(script, 0, ROWS)
    with open_feed(address=script.client.address) as feed:
        assert feed.wait_until_read(60.0)
        pump = follow(feed, browser, series=["angles"], x="angles", y="rmsd")
        wait_for(lambda: points_of(browser) >= ROWS)
        pump.stop()
    content, _ = browser.messages[0]
    assert content["points"]["titles"] | content["series"]["titles"] == {
        "angles": "angles / °", "rmsd": "rmsd", "time": "time",
    }  # fmt: skip
    angles = np.degrees(np.arange(ROWS) / 100)
    assert np.allclose(browser.array(0, "points", "x"), angles)
    assert np.allclose(browser.array(0, "points", "y"), np.arange(ROWS) / 10)
    assert np.allclose(browser.array(0, "series", "y0"), angles)


def test_one_message_is_under_way(script: Script) -> None:
    browser = Browser(answers=False)
    publish(script, 0, ROWS)
    with open_feed(address=script.client.address) as feed:
        assert feed.wait_until_read(60.0)
        pump = follow(feed, browser)
        wait_for(lambda: browser.messages)
        publish(script, ROWS, ROWS)
        wait_for(lambda: feed.overview()["totals"]["frames"] == 2 * ROWS)
        assert len(browser.messages) == 1
        pump.hear({"kind": "ack", "number": 1})
        wait_for(lambda: points_of(browser) == 2 * ROWS)
        pump.stop()
        pump.stop()
        assert not pump.running
        # Not its own: the feed goes on.
        assert feed.run()["live"]


def test_a_time_limit_ends_it(script: Script) -> None:
    with open_feed(address=script.client.address) as feed:
        pump = Pump(feed, Question(), every=0.02, seconds=0.1)
        pump.start(lambda content, buffers: None)
        assert pump.wait(60.0)
        assert "time limit" in pump.why_ended


def test_a_column_that_is_not_there_is_said(script: Script) -> None:
    browser = Browser()
    publish(script, 0, ROWS)
    with open_feed(address=script.client.address) as feed:
        pump = follow(feed, browser, x="cv[0]", y="nothing")
        found = wait_for(lambda: [c for c, _ in browser.messages if c["status"]["error"]])
        assert "nothing" in found[0]["status"]["error"]
        pump.stop()


@pytest.mark.parametrize("options", [{"x": "cv[0]"}, {"points": 0}, {"rows": 1}])
def test_questions_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Question(**options)


def test_the_widget_shows_a_run_and_ends_with_it(script: Script) -> None:
    pytest.importorskip("anywidget")
    from bridge.notebook import watch

    publish(script, 0, ROWS)
    view = watch(script.client.address, every=0.02, series=["rmsd"], x="cv[0]", y="cv[1]")
    try:
        # Without a browser nobody answers: the message that was sent stays the only one.
        wait_for(lambda: "1 messages" in repr(view))
        view._handle_custom_msg({"kind": "hello"}, [])
        wait_for(lambda: "1 messages" not in repr(view))
        assert view.running
    finally:
        view.close()
    assert not view.running
    assert view.why_ended == "It was told to stop."
    assert "watch-notebook" not in {t.name for t in threading.enumerate()}


def test_a_folder_that_is_not_there_is_refused() -> None:
    pytest.importorskip("anywidget")
    from bridge.notebook import watch

    with pytest.raises(ConfigError, match="no such folder"):
        watch("nowhere/at/all")


def test_the_script_asks_nobody_for_anything() -> None:
    text = files("bridge.notebook").joinpath("view.js").read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[^\"'`\s]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\bimport\b|innerHTML|\beval\b|fetch\(", text)
