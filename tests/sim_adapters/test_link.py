"""Any Python simulation: frames go out, commands come in and are applied once."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from bridge import Capability, Command
from bridge.codec import encode_state
from bridge.errors import ConfigError, NobodyListening, SchemaError
from bridge.schema import Topology
from bridge.staging import Stager, StagerClient
from bridge.transports.context import open_ends
from sim_adapters.link import Link, link
from tests.sim_adapters.common import read_stream, wait_until

SETTABLE = [
    Capability("set", "temperature", 250.0, 400.0, "K"),
    Capability("restart"),
    Capability("stop"),
    Capability("interval", minimum=1, maximum=50),
]


def walk(stream: Link, steps: int, x: np.ndarray, begin: int = 0) -> int:
    for step in range(begin, begin + steps):
        x += 1.0
        if stream.put(step, step * 0.5, x=x):
            stream.service(step, step * 0.5)
        if stream.stopped:
            return step
    return begin + steps


def test_frames_selection_and_interval(stager: Stager, client: StagerClient):
    x = np.zeros((6, 3))
    with link("w", stager=stager.address, every=5, select=[1, 4], units={"x": "nm"}) as stream:
        walk(stream, 50, x)
        stream.close()
        stream.close()
    found = read_stream(client, "w")
    assert found.steps.tolist() == list(range(0, 50, 5))
    assert found["x"].shape == (10, 2, 3)
    assert found["x"][:, 0, 0].tolist() == [s + 1.0 for s in range(0, 50, 5)]
    schema = client.schema("w")
    assert (schema.variable("x").unit, schema.selection) == ("nm", "2 rows")


def test_the_topology_is_that_of_the_selection(stager: Stager, client: StagerClient):
    whole = Topology(
        names=("a", "b", "c", "d"), masses=(1.0, 2.0, 3.0, 4.0), bonds=((0, 1), (1, 3), (3, 0))
    )
    rows = np.zeros((4, 3))
    with link("w", stager=stager.address, select=[3, 1], topology=whole, example={"x": rows}):
        pass
    assert client.schema("w").topology == Topology(
        names=("d", "b"), masses=(4.0, 2.0), bonds=((1, 0),)
    )
    with pytest.raises(SchemaError, match="describes 4 particles, and row 5 is selected"):
        whole.take([0, 5])


def test_a_unit_of_nothing_is_told(stager: Stager):
    with (
        pytest.raises(SchemaError, match="unknown variables: posiitons"),
        link("w", stager=stager.address, units={"posiitons": "nm"}) as stream,
    ):
        stream.put(0, 0.0, positions=np.zeros(3))
    # Of what is not sent it is no fault.
    with link("v", stager=stager.address, fields=["x"], units={"x": "nm", "y": "K"}) as stream:
        stream.put(0, 0.0, x=np.zeros(3), y=np.zeros(3))


def test_commands_are_applied_once_at_the_step_they_are_acknowledged_with(
    stager: Stager, client: StagerClient, send, answers
):
    x, heat = np.zeros((2, 3)), []
    with link("w", stager=stager.address, capabilities=SETTABLE, example={"x": x}) as stream:
        stream.on("set", "temperature", heat.append)
        stream.on_restart(lambda arrays, _: np.copyto(x, arrays["x"]), {"x": (2, 3)})
        state = encode_state({"x": np.full((2, 3), 1000.0)})
        send(Command("set", "w", "warm", parameter="temperature", value=350.0))
        send(Command("set", "w", "hot", parameter="temperature", value=900.0))
        send(Command("set", "w", "odd", parameter="pressure", value=1.0))
        send(Command("restart", "w", "again", state=state))
        send(Command("restart", "w", "bad", state=encode_state({"x": np.full((2, 3), np.nan)})))
        send(Command("set", "w", "late", parameter="temperature", value=300.0, expires=1.0))
        send(Command("stop", "w", "end", at_step=60))
        # Before the step that some of them are meant for.
        wait_until(lambda: stream.producer.statistics().commands == 7, "the commands")
        step = 0
        while not stream.stopped and step < 10_000:
            step = walk(stream, 1, x, step)
            step += stream.stopped is False and step == 0
        assert heat == [350.0]
    found = read_stream(client, "w")
    told = answers("w")
    outcomes = {k: a.outcome for k, a in told.items()}
    assert outcomes == {
        "warm": "applied", "hot": "refused", "odd": "refused", "again": "applied",
        "bad": "refused", "late": "expired", "end": "applied",
    }  # fmt: skip
    assert "400" in told["hot"].reason
    assert "900" in told["hot"].reason
    assert told["end"].step == 60
    after = found.take(found.steps > told["again"].step)
    before = found.take(found.steps <= told["again"].step)
    assert set(before.epochs.tolist()) == {0}
    assert set(after.epochs.tolist()) == {1}
    assert after["x"][0, 0, 0] > 1000.0 > before["x"][-1, 0, 0]


def test_the_interval_can_be_changed(stager: Stager, client: StagerClient, send):
    x = np.zeros((2, 3))
    with link("w", stager=stager.address, capabilities=SETTABLE, example={"x": x}) as stream:
        step = walk(stream, 10, x)
        send(Command("interval", "w", "slower", value=10.0))
        wait_until(lambda: stream.producer.statistics().commands == 1, "the command")
        walk(stream, 100, x, step)
    steps = read_stream(client, "w").steps
    assert set(np.diff(steps[steps >= 10]).tolist()) == {10}


def test_nobody_listens():
    with pytest.raises(NobodyListening, match="Waited 1 s"):
        link("w", stager="tcp://127.0.0.1:9", example={"x": np.zeros(3)}, timeout=1.0)


def test_no_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HEADRACE_STAGER", raising=False)
    with pytest.raises((ConfigError, NobodyListening), match="HEADRACE_STAGER"):
        link("w", example={"x": np.zeros(3)}, timeout=0.2)


def test_the_address_from_the_environment(
    stager: Stager, client: StagerClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HEADRACE_STAGER", stager.address)
    with link("w") as stream:
        stream.put(0, 0.0, x=np.zeros(3))
    assert len(read_stream(client, "w")) == 1


def test_a_wrong_shape_is_told(stager: Stager):
    with link("w", stager=stager.address) as stream:
        stream.put(0, 0.0, x=np.zeros((2, 3)))
        with pytest.raises(SchemaError, match=r"\(5, 3\)"):
            stream.put(1, 0.5, x=np.zeros((5, 3)))


def test_a_stream_that_cannot_be_taken_up_is_let_go(stager: Stager, client: StagerClient):
    with link("w", stager=stager.address) as stream:
        stream.put(0, 0.0, x=np.zeros((2, 3)))
        stream.close(finished=False)
    client.append("acks/w", [b"no acknowledgement"])
    before = set(open_ends)
    with pytest.raises(msgspec.DecodeError):
        link("w", stager=stager.address, example={"x": np.zeros((2, 3))})
    assert set(open_ends) == before
    assert not client.status("frames/w").connected
