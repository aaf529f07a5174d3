"""Alarms begin, last and end; and a webhook hears of it, or does not, without holding us up."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from bridge.dashboard.alarms import Alarm, Alarms, Change
from bridge.dashboard.webhook import Webhook
from bridge.errors import ConfigError
from bridge.runs.dashboard_tables import AlarmTable
from tests.bridge.dashboard.feeding import wait_for

RULES = AlarmTable(lag_above=100, no_frame_for="60 s", hold="5 min")


def overview(**row: Any) -> dict[str, Any]:
    return {"simulations": [{"name": "a", "state": "running", "frames": 1, **row}]}


def rules_of(alarms: Alarms) -> list[str]:
    return [alarm.rule for alarm in alarms.active]


def test_a_lag_raises_one_alarm_that_does_not_flap() -> None:
    alarms = Alarms(RULES)
    (raised,) = alarms.update(overview(lag=101), [], 10.0, "run")
    assert (raised.state, raised.run, raised.alarm.rule) == ("raised", "run", "lag_above")
    assert raised.alarm.message.endswith(".")
    assert alarms.update(overview(lag=90), [], 11.0) == []
    assert alarms.active[0].since == 10.0
    (cleared,) = alarms.update(overview(lag=70), [], 12.0)
    assert (cleared.state, alarms.active) == ("cleared", [])


def test_silence_is_an_alarm_unless_it_is_meant() -> None:
    alarms = Alarms(RULES)
    for now in (0.0, 59.0):
        alarms.update(overview(), [], now)
        assert rules_of(alarms) == []
    alarms.update(overview(), [], 61.0)
    assert rules_of(alarms) == ["no_frame_for"]
    alarms.update(overview(frames=2), [], 62.0)
    assert rules_of(alarms) == []
    for state in ("paused", "finished"):
        alarms.update(overview(frames=2, state=state), [], 1000.0)
        assert rules_of(alarms) == []


def test_frames_that_were_set_aside_are_shown_for_a_while() -> None:
    alarms = Alarms(AlarmTable(no_frame_for=""))
    alarms.update(overview(quarantined=3), [], 0.0)
    assert rules_of(alarms) == ["non_finite"]
    alarms.update(overview(quarantined=3), [], 299.0)
    assert rules_of(alarms) == ["non_finite"]
    (change,) = alarms.update(overview(quarantined=3), [], 301.0)
    assert change.state == "cleared"


@pytest.mark.parametrize(
    ("wanted", "level", "raised"),
    [("error", "error", True), ("error", "warning", False), ("warning", "warning", True),
     ("info", "info", True), ("off", "error", False)],
)  # fmt: skip
def test_events_from_a_level_on(wanted: Any, level: str, raised: bool) -> None:
    alarms = Alarms(AlarmTable(event_level=wanted))
    event = {"kind": "gap", "message": "A gap.", "level": level, "stamp": 99.0, "simulation": "a"}
    alarms.update({}, [event], 100.0)
    assert rules_of(alarms) == (["event_level"] if raised else [])
    # What happened long ago, and is only read now, is no alarm.
    later = Alarms(AlarmTable(event_level=wanted))
    assert later.update({}, [event], 9999.0) == []


def test_rules_can_be_switched_off() -> None:
    alarms = Alarms(AlarmTable(lag_above=0, no_frame_for="", non_finite=False, event_level="off"))
    alarms.update(overview(lag=10**6, quarantined=5), [{"level": "error", "message": "x"}], 0.0)
    alarms.update(overview(lag=10**6, quarantined=5), [], 10**6)
    assert alarms.active == []


@pytest.mark.parametrize(
    "wrong",
    [{"lag_above": -1}, {"no_frame_for": "soon"}, {"webhook": "ftp://x"}, {"webhook": "file:///x"}],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AlarmTable(**wrong)


class Listener:
    """Somebody who is told of alarms."""

    def __init__(self, *statuses: int) -> None:
        self.bodies: list[dict[str, Any]] = []
        statuses_left = list(statuses)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                outer.bodies.append(json.loads(self.rfile.read(length)))
                status = statuses_left.pop(0) if statuses_left else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{outer.address}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture(params=[(), (500, 503)])
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    """One that answers at once, and one that fails twice."""
    found = Listener(*request.param)
    yield found
    found.close()


def change(state: str = "raised") -> Change:
    alarm = Alarm(
        id="x", rule="lag_above", simulation="a", level="warning", message="A lag.", since=1.0
    )
    return Change(state=state, run="run", alarm=alarm, stamp=2.0)


def test_the_webhook_is_told_in_the_end(listener: Listener) -> None:
    hook = Webhook(AlarmTable(webhook=f"{listener.address}/hook"), waits=(0.01, 0.01))
    hook.send(change())
    wait_for(lambda: hook.sent == 1)
    hook.close()
    body = listener.bodies[-1]
    assert (body["state"], body["text"]) == ("raised", "run: A lag.")
    assert body["alarm"]["simulation"] == "a"


def test_attempts_are_counted_and_redirects_lead_nowhere() -> None:
    listener = Listener(302, 302, 302)
    hook = Webhook(AlarmTable(webhook=listener.address), waits=(0.01, 0.01))
    hook.send(change())
    wait_for(lambda: hook.failed == 1)
    hook.close()
    listener.close()
    assert (len(listener.bodies), hook.sent) == (3, 0)


def test_whoever_tells_it_never_waits() -> None:
    # Nobody listens there.
    hook = Webhook(AlarmTable(webhook="http://127.0.0.1:9/x"), waits=(60.0,))
    for _ in range(300):
        hook.send(change())
    assert hook.left_out > 0
    hook.close(timeout=0.01)


def test_who_answers_something_else_than_http_ends_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        hook = Webhook(AlarmTable(webhook=f"http://127.0.0.1:{other.getsockname()[1]}/x"), waits=())
        for count in (1, 2):
            hook.send(change())
            other.settimeout(60.0)
            with other.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-other\r\n")
            wait_for(lambda count=count: hook.failed == count)
        hook.close()
