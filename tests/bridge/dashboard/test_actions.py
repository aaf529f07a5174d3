"""Who acts twice, or two at once, get one outcome, and both see it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec

from bridge.commands import Command
from bridge.dashboard.actions import Actions
from bridge.dashboard.opening import open_dashboard
from bridge.errors import NobodyListening
from bridge.runs.directory import RunDirectory, write_json
from bridge.staging import Stager, StagerClient
from bridge.steering import Desk
from tests.bridge.dashboard.feeding import Script, decide, wait_for
from tests.bridge.dashboard.serving import Served


def ask(script: Script, id: str) -> None:
    """Have a pipeline ask for approval."""
    now = time.time()
    command = Command("set", "a", id=id, parameter="temperature", value=310.0, author="policy")
    decide(script.client, command, "awaiting_approval", now, until=now + 600.0, default="deny")


def commands_of(script: Script, kind: str) -> list[Command]:
    """Return what was sent to the simulation."""
    with script.client.fetch({"commands/a": 0}, wait=0.01) as got:
        found = [msgspec.msgpack.decode(r.data, type=Command) for r in got.records]
    return [command for command in found if command.kind == kind]


def at_once(calls: list[Any]) -> list[httpx.Response]:
    """Call all at the same time; return what they return."""
    gate, found = threading.Barrier(len(calls)), [None] * len(calls)

    def run(number: int) -> None:
        gate.wait(60.0)
        found[number] = calls[number]()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    return found  # type: ignore[return-value]


def test_two_people_who_decide_at_once_get_one_outcome_and_both_see_it(
    served: Served, live: tuple[Stager, Script]
) -> None:
    script = live[1]
    ask(script, "policy/set/1@9")
    with served.client() as client:
        posts = [
            lambda verdict=verdict: client.post(
                "/api/approvals/policy/set/1@9",
                json={"verdict": verdict, "author": verdict, "reason": "I say so."},
                headers={"Idempotency-Key": f"decide-{verdict}"},
            )
            for verdict in ("approve", "deny")
        ]
        answers = [answer.json() for answer in at_once(posts)]
        assert answers[0]["state"] == answers[1]["state"]
        assert sorted(answer["already"] for answer in answers) == [False, True]
        assert answers[0]["by"] == answers[1]["by"]
        # The same again is the same.
        again = posts[0]().json()
        assert again["state"] == answers[0]["state"]
        sent = len([c for c in commands_of(script, "set") if c.id == "policy/set/1@9"])
        assert sent == (answers[0]["state"] == "approved")

        def shown() -> Any:
            lines = client.get("/api/ledger").json()["lines"]
            line = next((x for x in lines if x["id"] == "policy/set/1@9"), None)
            return line and line["approval"] and line["approval"]["state"] == answers[0]["state"]

        wait_for(shown)


def test_a_key_has_one_effect_however_often_it_comes(
    served: Served, live: tuple[Stager, Script]
) -> None:
    script = live[1]
    body = {"kind": "set", "simulation": "a", "parameter": "temperature", "value": 305.0}
    key = {"Idempotency-Key": "the-same-key"}
    with served.client() as client:
        post = lambda: client.post("/api/commands", json=body, headers=key)  # noqa: E731
        answers = at_once([post] * 4)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["id"] for answer in answers}) == 1
        other = client.post("/api/commands", json={**body, "value": 306.0}, headers=key)
        assert other.status_code == 409
    (sent,) = [c for c in commands_of(script, "set") if c.value == 305.0]
    assert sent.author == "dashboard"


def test_what_is_out_of_bounds_is_refused_by_the_server(served: Served) -> None:
    body = {"kind": "set", "simulation": "a", "parameter": "temperature", "value": 9000.0}
    with served.client() as client:
        answer = client.post(
            "/api/commands", json=body, headers={"Idempotency-Key": "out-of-bounds"}
        ).json()
    assert answer["verdict"] == "refused"
    assert answer["reason"].endswith(".")


def test_a_restart_says_what_becomes_of_velocities(
    served: Served, live: tuple[Stager, Script]
) -> None:
    body = {"kind": "restart", "simulation": "a", "frame": {"simulation": "b", "offset": 3}}
    with served.client() as client:
        answer = client.post(
            "/api/commands",
            json={**body, "velocities": "keep"},
            headers={"Idempotency-Key": "restart-it"},
        ).json()
    # It declares no restarts; what was asked for is in the ledger all the same.
    assert answer["verdict"] == "refused"
    wait_for(lambda: answer["id"] in {x["id"] for x in served.feed.ledger()["lines"]})
    line = next(x for x in served.feed.ledger()["lines"] if x["id"] == answer["id"])
    assert "keep velocities" in line["what"]


def test_all_are_paused(served: Served, live: tuple[Stager, Script]) -> None:
    with served.client() as client:
        answer = client.post(
            "/api/all",
            json={"kind": "pause", "confirm": True, "author": "Ada"},
            headers={"Idempotency-Key": "pause-them-all"},
        )
    found = {one["simulation"]: one["verdict"] for one in answer.json()["results"]}
    assert found == {"a": "sent", "b": "sent"}
    assert commands_of(live[1], "pause")[-1].author == "Ada (dashboard)"


def test_what_is_no_text_is_a_fault_of_the_request(served: Served) -> None:
    headers = {"Idempotency-Key": "no-text-at-all", "Content-Type": "application/json"}
    with served.client() as client:
        body = b'{"kind":"pause","simulation":"\xff"}'
        answer = client.post("/api/commands", content=body, headers=headers)
    assert answer.status_code == 400, answer.text


def test_a_desk_that_waits_for_a_stager_does_not_hold_up_the_end() -> None:
    waits, comes = threading.Event(), threading.Event()

    def connect() -> StagerClient:
        waits.set()
        comes.wait(100.0)
        raise NobodyListening("Nobody listens.")

    actions = Actions(Desk(connect))
    ticking = threading.Thread(target=lambda: _tick(actions))
    ending = threading.Thread(target=actions.close)
    try:
        ticking.start()
        assert waits.wait(60.0)
        ending.start()
        ending.join(30.0)
        assert not ending.is_alive()
    finally:
        comes.set()
        ticking.join(60.0)
        ending.join(60.0)


def _tick(actions: Actions) -> None:
    with contextlib.suppress(NobodyListening):
        asyncio.run(actions.tick())


def test_the_rules_of_a_run_hold_before_its_engine_announces_them(
    live: tuple[Stager, Script], tmp_path: Path
) -> None:
    configuration = {
        "run": {"name": "walk"},
        "simulation": {"adapter": "openmm"},
        "pipeline": {"name": "p", "operators": [{"use": "dihedrals"}]},
        "steering": {"dry_run": True},
    }
    plan = {"configuration": configuration, "source": "run.toml", "base": str(tmp_path)}
    write_json(RunDirectory(tmp_path).resolved, plan)
    dashboard, _ = open_dashboard(tmp_path, address=live[0].address)
    with contextlib.closing(dashboard.feed), contextlib.closing(dashboard.actions):
        told = dashboard.actions._desk.send("pause", "a", author="Ada", key="dry-run-at-once")
    assert told["verdict"] == "dry_run"
