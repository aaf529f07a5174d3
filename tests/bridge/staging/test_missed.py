"""A command that a simulation ended without looking at has an answer, once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bridge.commands import Acknowledgement, Command
from bridge.staging import Producer, Stager, StagerClient
from tests.bridge.staging.common import frame, producer


def send(client: StagerClient, *names: str) -> None:
    for name in names:
        data = msgspec.msgpack.encode(Command("stop", "w0", id=name))
        client.append("commands/w0", [data], writer=name, first=0, stop=1)


def answers(client: StagerClient) -> list[Acknowledgement]:
    if not client.topics("acks/w0"):
        return []
    with client.fetch({"acks/w0": 0}, wait=0.0) as got:
        return [msgspec.msgpack.decode(r.data, type=Acknowledgement) for r in got.records]


def put(p: Producer, *steps: int) -> None:
    for i in steps:
        p.put(i, i / 10, frame(i))
    p.flush()


def test_what_came_behind_the_last_look_is_refused_by_the_stager(
    stager: Stager, client: StagerClient
):
    with producer(stager) as p:
        put(p, 0, 50)
        send(client, "seen", "unseen")
        assert p.wait_for_command(30.0)
        p.acknowledge(Acknowledgement("seen", "w0", "applied", step=50))
    answered, missed = answers(client)
    assert (answered.command, answered.outcome) == ("seen", "applied")
    assert (missed.command, missed.simulation, missed.outcome) == ("unseen", "w0", "refused")
    assert (missed.step, missed.time, missed.incarnation) == (50, 5.0, 1)
    assert missed.stamp > 1e9
    assert missed.reason == (
        "The simulation ended before it looked at the command. Its last frame was of step 50."
    )


def test_what_comes_after_the_end_is_refused_once_and_not_told_to_a_later_life(
    stager: Stager, client: StagerClient
):
    with producer(stager):
        pass
    send(client, "late", "later")
    send(client, "late")
    assert [(a.command, a.outcome, a.step) for a in answers(client)] == [
        ("late", "refused", -1),
        ("later", "refused", -1),
    ]
    with producer(stager) as p:
        send(client, "new")
        assert p.wait_for_command(30.0)
        assert [c.id for c in p.commands()] == ["new"]
        p.acknowledge(Acknowledgement("new", "w0", "applied"))
    assert [a.command for a in answers(client)] == ["late", "later", "new"]


def test_one_that_may_come_back_answers_for_itself(stager: Stager, client: StagerClient):
    p = producer(stager)
    send(client, "waits")
    p.close(finished=False)
    assert answers(client) == []
    with producer(stager) as p:
        assert p.wait_for_command(30.0)
        assert [c.id for c in p.commands()] == ["waits"]
        p.acknowledge(Acknowledgement("waits", "w0", "applied", step=7))
    assert [(a.command, a.outcome) for a in answers(client)] == [("waits", "applied")]


@pytest.mark.parametrize("lives", [1, 2])
def test_a_stager_that_is_started_anew_answers_what_an_earlier_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lives: int
):
    with monkeypatch.context() as older:
        # What a stager did before it answered for others, or that was killed while it did.
        older.setattr("bridge.staging.core.answer_missed", lambda *given: None)
        with Stager("tcp://127.0.0.1:0", directory=tmp_path, durable=True) as service:
            service.start()
            with StagerClient(service.address) as client, producer(service):
                send(client, "left")
    for _ in range(lives):
        with Stager("tcp://127.0.0.1:0", directory=tmp_path, durable=True) as service:
            service.start()
            with StagerClient(service.address) as client:
                assert client.topics("acks/w0") or client.topics("frames/")
                send(client, "left")
                assert [(a.command, a.outcome) for a in answers(client)] == [("left", "refused")]
