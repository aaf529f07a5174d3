"""The simulation's end over a real stager: pauses, look-ups, answers, and the ledger of it all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge.commands import Capability, Command, Decision, Event, FrameReference
from bridge.errors import CommandRefused, OffsetOutOfRange
from bridge.schema import StreamSchema
from bridge.staging import Producer, Stager, StagerClient
from bridge.steering import CommandChannel, LedgerReader, SimulationEnd, read_ledger, read_restart

CAPABILITIES = (
    Capability("set", "temperature", minimum=250, maximum=400),
    Capability("restart"),
    Capability("pause"),
    Capability("resume"),
    Capability("stop"),
)


@pytest.fixture(params=["memory://test-end", "tcp://127.0.0.1:0"])
def client(request: pytest.FixtureRequest) -> Iterator[StagerClient]:
    with Stager(request.param) as stager:
        stager.start()
        with StagerClient(stager.address) as reader:
            yield reader


@pytest.fixture
def producer(client: StagerClient) -> Iterator[Producer]:
    schema = StreamSchema.from_arrays({"x": np.zeros(3)})
    with Producer("walker", schema, address=client.address, capabilities=CAPABILITIES) as out:
        out.put(0, 0.0, {"x": np.arange(3.0)})
        out.flush()
        yield out


def make(producer: Producer, **more: Any) -> SimulationEnd:
    life = producer.resumed.incarnation
    return SimulationEnd(producer, CommandChannel("walker", CAPABILITIES, incarnation=life), **more)


def send(client: StagerClient, *commands: Command) -> None:
    client.append("commands/walker", [msgspec.msgpack.encode(c) for c in commands])


def warm(name: str) -> Command:
    return Command("set", "walker", id=name, parameter="temperature", value=300.0)


def read_events(client: StagerClient) -> list[Event]:
    with client.fetch({"events": 0}, wait=5.0) as got:
        return [msgspec.msgpack.decode(r.data, type=Event) for r in got.records]


@pytest.mark.parametrize("ending", ["resume", "stop"])
def test_a_paused_simulation_waits_until_a_resume_or_a_stop(
    client: StagerClient, producer: Producer, ending: Any
) -> None:
    end = make(producer)
    send(client, Command("pause", "walker", id="p"))
    assert producer.wait_for_command(10.0)
    applied: list[str] = []

    def simulate() -> None:
        for command in end.commands(50, 0.5):
            applied.append(command.id)
            end.applied(command, 50, 0.5)

    thread = threading.Thread(target=simulate, daemon=True)
    thread.start()
    # The event tells that the wait has begun.
    assert [e.kind for e in read_events(client)] == ["paused"]
    assert thread.is_alive()
    send(client, warm("meanwhile"))
    send(client, Command(ending, "walker", id="end"))
    thread.join(10.0)
    assert not thread.is_alive()
    assert applied == ["meanwhile"]
    assert end.channel.stopped == (ending == "stop")
    producer.flush()
    lines = {line.id: (line.outcome, line.step) for line in read_ledger(client)}
    assert lines == {"p": ("applied", 50), "meanwhile": ("applied", 50), "end": ("applied", 50)}


def test_a_long_pause_is_told_again(client: StagerClient, producer: Producer) -> None:
    end = make(producer, remind=0.0)
    send(client, Command("pause", "walker", id="p"))
    assert producer.wait_for_command(10.0)
    thread = threading.Thread(target=lambda: list(end.commands(7, 0.0)), daemon=True)
    thread.start()
    position, told = 0, []
    while len(told) < 2:
        with client.fetch({"events": position}, wait=5.0) as got:
            told += [msgspec.msgpack.decode(r.data, type=Event) for r in got.records]
            position = got.positions["events"]
    assert "waits at step 7 for a resume or a stop, for 1 s" in told[1].message
    send(client, Command("resume", "walker", id="r"))
    thread.join(10.0)
    assert not thread.is_alive()


def test_a_frame_is_looked_up_and_a_missing_one_is_a_refusal(
    client: StagerClient, producer: Producer
) -> None:
    end = make(producer)
    here = Command("restart", "walker", id="a", frame=FrameReference("walker", 0))
    got = read_restart(here, {"x": (3,)}, end.read_frame)
    assert np.array_equal(got["x"], np.arange(3.0))
    gone = Command("restart", "walker", id="b", frame=FrameReference("walker", 9))
    with pytest.raises(CommandRefused, match="Frame 9 of 'walker' cannot be read") as caught:
        read_restart(gone, {"x": (3,)}, end.read_frame)
    assert isinstance(caught.value.__cause__, OffsetOutOfRange)


def test_what_has_no_answer_at_the_end_is_refused(client: StagerClient, producer: Producer) -> None:
    end = make(producer)
    send(client, msgspec.structs.replace(warm("later"), at_step=1000))
    assert producer.wait_for_command(10.0)
    assert list(end.commands(5, 0.0)) == []
    send(client, warm("unseen"))
    assert producer.wait_for_command(10.0)
    end.close(6, 0.1)
    producer.flush()
    lines = {line.id: line for line in read_ledger(client)}
    assert {k: v.outcome for k, v in lines.items()} == {"later": "refused", "unseen": "refused"}
    assert "ended at step 6" in lines["unseen"].outcome_reason
    assert end.statistics().refused == 2


def test_the_reader_keeps_the_ledger_up_to_date(client: StagerClient, producer: Producer) -> None:
    end = make(producer)
    reader = LedgerReader(client)
    assert len(reader.update()) == 0
    command = warm("a")
    decision = Decision(command, "sent", stamp=1.0)
    client.append("decisions", [msgspec.msgpack.encode(decision)])
    send(client, command)
    (line,) = reader.update()
    assert (line.verdict, line.outcome, line.latency) == ("sent", None, None)
    assert producer.wait_for_command(10.0)
    for due in end.commands(5, 0.5):
        end.applied(due, 5, 0.5)
    producer.flush()
    (line,) = reader.update()
    assert (line.outcome, line.step, line.time, line.incarnation) == ("applied", 5, 0.5, 1)
    assert line.latency is not None
    assert line.latency > 0
    assert len(read_ledger(client)) == len(reader.update()) == 1
