"""The WebSocket against a real server: latest only, one message in flight, nothing queues."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bridge.dashboard.sockets import Limits
from bridge.staging import Stager
from tests.bridge.dashboard.conftest import HOSTILE
from tests.bridge.dashboard.feeding import Script, report, tell, wait_for
from tests.bridge.dashboard.serving import FAREWELL, Page, Served, results


def shout(page: Page, text: str, times: int) -> None:
    for _ in range(times):
        page.socket.send(text)
        page.receive()


def test_tables_come_as_binary_and_then_only_what_is_new(
    served: Served, live: tuple[Stager, Script]
) -> None:
    script = live[1]
    with served.page() as page:
        page.subscribe(1, "points", x="tica[0]", y="tica[1]", colour="novelty", simulations=["a"])
        first = page.receive()
        assert first["meta"]["reset"] is True
        count = len(first["arrays"]["x"])
        assert count >= 30
        # Not acknowledged: whatever comes, nothing is sent.
        before = script.frames
        for _ in range(3):
            script.put(5)
            script.publish(results(5, script.frames - 5), script.frames - 5)
        points = served.feed.points
        wait_for(
            lambda: points("tica[0]", "tica[1]", simulations=["a"]).arrays["x"].size >= count + 15
        )
        assert page.hears_nothing()
        page.acknowledge(first)
        second = page.receive()
        assert second["meta"]["reset"] is False
        # All that came meanwhile, in one message.
        assert sorted(second["arrays"]["offset"].tolist()) == list(range(before, before + 15))
        assert second["skipped"] > 0
        page.acknowledge(second)
        assert page.hears_nothing()


def test_every_channel_answers(served: Served) -> None:
    options: dict[str, dict[str, Any]] = {
        "points": {"x": "tica[0]", "y": "tica[1]"},
        "series": {"columns": ["novelty", "tica[0]"], "x": "wall"},
        "histogram": {"x": "tica[0]", "y": "tica[1]", "bins": 8, "range": [[-1, 1], [-1, 1]]},
        "molecule": {"simulation": "a", "atoms": "ca"},
    }
    channels = ("run", "overview", "pipeline", "capabilities", "events", "ledger", *options)
    with served.page() as page:
        for number, channel in enumerate(channels):
            page.subscribe(number, channel, at=None, **options.get(channel, {}))
        found: dict[str, dict[str, Any]] = {}
        while len(found) < len(channels):
            message = page.receive()
            assert "error" not in message, message
            found[message["channel"]] = message
            page.acknowledge(message)
    assert found["events"]["data"]["events"][0]["message"] == HOSTILE
    assert found["ledger"]["data"]["lines"][0]["why"] == HOSTILE
    assert found["ledger"]["data"]["reset"] is True
    assert found["histogram"]["arrays"]["values"].shape == (8, 8)
    assert found["molecule"]["arrays"]["positions"].shape == (2, 3)
    assert {c["name"] for c in found["run"]["data"]["columns"]} >= {"tica", "novelty"}


def test_events_and_alarms_come_by_themselves(served: Served, live: tuple[Stager, Script]) -> None:
    script = live[1]
    with served.page() as page:
        page.subscribe(1, "events")
        first = page.receive()
        page.acknowledge(first)
        tell(script.client, "dropped", "Three frames were dropped.", level="warning")
        second = page.receive()
        assert [e["kind"] for e in second["data"]["events"]] == ["dropped"]
        assert second["data"]["reset"] is False
        page.say(type="unsubscribe", id=1)
        report(script.client, {"a": 30, "b": 5}, lag=25)
        tell(script.client, "failed", "Something failed.", level="error")
        page.subscribe(2, "overview")

        def rules() -> set[str]:
            message = page.receive()
            page.acknowledge(message)
            return {alarm["rule"] for alarm in message["data"]["alarms"]}

        wait_for(lambda: {"lag_above", "event_level"} <= rules())


def test_a_moment_of_the_past_is_sent_once_as_a_whole(served: Served) -> None:
    with served.page() as page:
        page.subscribe(1, "ledger", at=2.0)
        message = page.receive()
        assert (len(message["data"]["lines"]), message["data"]["reset"]) == (1, True)
        page.acknowledge(message)
        assert page.hears_nothing()
        page.say(type="update", id=1, options={"at": 0.5})
        message = page.receive()
        assert message["data"]["lines"] == []


def test_what_two_pages_ask_is_made_once(served: Served) -> None:
    statistics = served.dashboard.hub.statistics
    before = statistics.shared
    with served.page() as one, served.page() as other:
        for page in (one, other):
            page.subscribe(1, "overview", every=0.2)

        def shared() -> bool:
            for page in (one, other):
                page.acknowledge(page.receive())
            return statistics.shared > before

        wait_for(shared)


def test_faults_are_told_and_too_many_end_the_connection(served: Served) -> None:
    with served.page() as page:
        for text in ("{", "[]", '{"type":"shout"}', '{"type":"ack"'):
            page.socket.send(text)
            assert page.receive()["error"].endswith(".")
        page.subscribe(1, "weather")
        assert "weather" in page.receive()["error"]
        page.say(type="update", id=9, options={})
        assert "no subscription 9" in page.receive()["error"]
        page.subscribe(2, "points", x="no such", y="tica[0]")
        message = page.receive()
        assert message["id"] == 2
        assert message["error"].endswith(".")
        page.say(type="ping", t=5.0)
        assert page.receive()["t"] == 5.0
        with pytest.raises(ConnectionClosed):
            shout(page, "?", 30)


def test_a_message_of_bytes_or_too_deep_is_told_and_the_page_goes_on(served: Served) -> None:
    deep = '{"type":"ping","t":' + "[" * 5000 + "]" * 5000 + "}"
    with served.page() as page:
        page.socket.send(b'{"type":"ping"}')
        assert "are text" in page.receive()["error"]
        page.socket.send(deep)
        assert "nested too deep" in page.receive()["error"]
        page.say(type="ping", t=1)
        assert page.receive()["type"] == "pong"


def test_pages_have_limits_and_leave_nothing_behind(live: tuple[Stager, Script]) -> None:
    limits = Limits(clients=1, subscriptions=2, message=2000)
    with Served(live[0].address, limits) as served:
        statistics = served.dashboard.hub.statistics
        with served.page() as page:
            for number in (1, 2):
                page.subscribe(number, "run")
                page.receive()
            page.subscribe(3, "run")
            assert "2 subscriptions" in page.receive()["error"]
            with pytest.raises(InvalidStatus):
                served.page()
            assert (statistics.clients, statistics.subscriptions) == (1, 2)
            assert statistics.in_flight == 2
            with pytest.raises(ConnectionClosed):
                shout(page, json.dumps({"type": "ping", "t": "x" * 5000}), 1)
        wait_for(lambda: statistics.clients == statistics.subscriptions == 0)
        assert statistics.in_flight == 0


def test_another_subprotocol_is_refused(served: Served) -> None:
    with served.page(subprotocols=["headrace.0"]) as page:
        assert "headrace.1" in page.receive()["error"]
        with pytest.raises(ConnectionClosed):
            page.receive()


def test_pages_are_told_when_the_server_ends(live: tuple[Stager, Script]) -> None:
    with Served(live[0].address) as served, served.page() as page, served.page() as idle:
        page.subscribe(1, "run")
        page.receive()
        # Not acknowledged, and the other asked for nothing: neither holds the end up.
        served.stop()
        for one in (page, idle):
            with pytest.raises(ConnectionClosed) as caught:
                one.receive()
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1001, FAREWELL)


def test_a_page_that_does_not_read_any_more_does_not_hold_up_the_end(
    live: tuple[Stager, Script],
) -> None:
    with Served(live[0].address) as served, served.page(max_queue=1, close_timeout=1) as page:
        assert served.feed.wait_until_read(60.0)
        wait_for(lambda: len(served.feed.overview()["simulations"]) == 2)
        for number in range(32):
            # Each of more than a megabyte, and others than the ones before.
            page.subscribe(number, "histogram", x="tica[0]", y="tica[1]", bins=400 + number)
        statistics = served.dashboard.hub.statistics
        wait_for(lambda: statistics.in_flight == 32)
        assert statistics.sent < 32
        served.stop()
