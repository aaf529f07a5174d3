"""Commands to a C program: each is applied once, at the step that is acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bridge import Acknowledgement, Command, Event, FrameReference
from bridge.codec import encode_state
from bridge.staging import Stager, StagerClient
from tests.sim_adapters.c.common import Simulate, Start, finish
from tests.sim_adapters.common import read_stream, wait_until

Send = Callable[[Command], None]
FOREVER = {"until_stopped": 1, "delay": 0.0005, "rows": 2}


def answers_of(client: StagerClient, simulation: str, count: int) -> dict[str, Acknowledgement]:
    """Return the answers, once there are `count`; each command has one."""
    topic = f"acks/{simulation}"
    wait_until(
        lambda: any(t.name == topic and t.end >= count for t in client.topics(topic)),
        f"{count} answers",
    )
    with client.fetch({topic: 0}, wait=5.0) as got:
        read = [msgspec.msgpack.decode(r.data, type=Acknowledgement) for r in got.records]
    assert len(read) == len({a.command for a in read}) == count
    return {a.command: a for a in read}


@pytest.mark.parametrize("mapped", ["yes", "no"])
def test_commands_are_applied_once_at_the_step_they_are_acknowledged_with(
    stager: Stager, client: StagerClient, send: Send, start: Start, mapped: str
) -> None:
    process = start("w", stager=stager.address, mapped=mapped, **FOREVER)
    wait_for_stream(client)
    state = encode_state({"x": np.full((2, 3), 1000.0)})
    evidence = {"weight": 0.25, "why": [1, 2]}
    feed = {"parameter": "F", "reason": "Grow."}
    send(Command("set", "w", "grow", value=2.5, evidence=evidence, **feed))
    send(Command("set", "w", "grow", value=2.5, evidence=evidence, **feed))
    send(Command("set", "w", "much", parameter="F", value=11.0))
    send(Command("set", "w", "odd", parameter="pressure", value=1.0))
    send(Command("set", "w", "never", parameter="k", value=1.0))
    send(Command("set", "w", "nothing", parameter="F"))
    stray = Command("set", "other", "stray", parameter="F", value=1.0)
    client.append("commands/w", [msgspec.msgpack.encode(stray)])
    send(Command("restart", "w", "again", state=state))
    send(Command("restart", "w", "bad", state=encode_state({"x": np.full((2, 3), np.nan)})))
    send(Command("restart", "w", "short", state=encode_state({"x": np.zeros((1, 3))})))
    send(Command("restart", "w", "broken", state=state[:-1]))
    send(Command("restart", "w", "empty"))
    send(Command("set", "w", "late", parameter="F", value=1.0, expires=1.0))
    send(Command("set", "w", "passed", parameter="F", value=1.0, at_step=0))
    # It stands still meanwhile: what is to come at a step must not come after it.
    send(Command("pause", "w", "hold"))
    told = answers_of(client, "w", 14)
    later = told["hold"].step + 400
    send(Command("set", "w", "then", parameter="F", value=3, at_step=later))
    send(Command("stop", "w", "end", at_step=later + 100))
    send(Command("resume", "w", "on"))
    out = finish(process)
    told = answers_of(client, "w", 17)
    assert {k: a.outcome for k, a in told.items()} == {
        "grow": "applied", "much": "refused", "odd": "refused", "never": "refused",
        "nothing": "refused", "stray": "refused", "again": "applied", "bad": "refused",
        "short": "refused", "broken": "refused", "empty": "refused", "late": "expired",
        "passed": "refused", "hold": "applied", "on": "applied", "then": "applied",
        "end": "applied",
    }  # fmt: skip
    assert "11 1/s is above the declared maximum of 10 1/s" in told["much"].reason
    assert "lets others set F, k" in told["odd"].reason
    assert told["never"].reason == "F alone can be set."
    assert "not finite" in told["bad"].reason
    assert "needs 6" in told["short"].reason
    assert "cut off" in told["broken"].reason
    assert "no state" in told["empty"].reason
    assert "is for 'other'" in told["stray"].reason
    assert (told["then"].step, told["end"].step) == (later, later + 100)
    assert all(a.incarnation == 1 and a.simulation == "w" for a in told.values())
    assert all(a.time == 0.5 * a.step for a in told.values())
    assert f"set grow 2.5 0.25 {told['grow'].step} Grow." in out
    assert out.count("set grow") == 1
    found = read_stream(client, "w")
    # A command is applied behind the frame of its step.
    steps, f = found.steps, found["F"]
    assert set(f[steps <= told["grow"].step]) == {1.0}
    assert set(f[(steps > told["grow"].step) & (steps <= later)]) == {2.5}
    assert set(f[steps > later]) == {3.0}
    after = steps > told["again"].step
    assert set(found.epochs[~after]) == {0}
    assert set(found.epochs[after]) == {1}
    assert found["x"][after][0, 0, 0] == 1001.0
    # The resume, the last of 18, was answered before two that it came after, and its offset not
    # committed. But all have an answer, and the stager sees to it that no later life is told.
    wait_until(lambda: client.status("commands/w").groups == {"simulation/w": 18}, "the offsets")
    assert client.status("acks/w").end == 17


def wait_for_stream(client: StagerClient) -> None:
    wait_until(
        lambda: any(t.name == "frames/w" and t.end > 3 for t in client.topics("frames/w")), "frames"
    )


def test_a_restart_from_a_frame_of_another_stream(
    stager: Stager, client: StagerClient, send: Send, start: Start, simulate: Simulate
) -> None:
    simulate("whole", stager=stager.address, steps=60, rows=2)
    blocks = [
        start("split", stager=stager.address, steps=60, rows=2, ranks=2, rank=r, ids=1)
        for r in range(2)
    ]
    for block in blocks:
        finish(block)
    process = start("w", stager=stager.address, **FOREVER)
    wait_for_stream(client)
    send(Command("restart", "w", "a", frame=FrameReference("whole", 41)))
    send(Command("restart", "w", "b", frame=FrameReference("whole", 60)))
    send(Command("restart", "w", "c", frame=FrameReference("nobody", 0)))
    send(Command("restart", "w", "d", frame=FrameReference("split", 50)))
    told = answers_of(client, "w", 4)
    last = max(a.step for a in told.values())
    wait_until(lambda: client.status("frames/w").last_step > last, "a frame after them")
    send(Command("stop", "w", "end"))
    finish(process)
    outcomes = [told[k].outcome for k in "abcd"]
    assert outcomes == ["applied", "refused", "refused", "applied"], told
    assert "Frame 60 of 'whole' cannot be read" in told["b"].reason
    found = read_stream(client, "w")
    for name, value in (("a", 41.0), ("d", 50.0)):
        at = told[name].step + 1
        if any(told[k].step == told[name].step for k in "ad" if k != name) and name == "a":
            continue
        assert found.take(found.steps == at)["x"][0, 0, 0] == value + 1.0


def test_pause_resume_and_interval(
    stager: Stager, client: StagerClient, send: Send, start: Start
) -> None:
    process = start("w", stager=stager.address, **FOREVER)
    wait_for_stream(client)
    send(Command("pause", "w", "hold"))
    told = answers_of(client, "w", 1)
    wait_until(lambda: bool(client.topics("events")), "the event")
    with client.fetch({"events": 0}, wait=5.0) as got:
        events = [msgspec.msgpack.decode(r.data, type=Event) for r in got.records]
    paused = next(e for e in events if e.kind == "paused")
    assert f"waits at step {told['hold'].step} for a resume or a stop" in paused.message
    send(Command("set", "w", "meanwhile", parameter="F", value=4.0))
    send(Command("pause", "w", "twice"))
    send(Command("interval", "w", "half", value=1.5))
    send(Command("interval", "w", "slower", value=7))
    send(Command("resume", "w", "on"))
    told = answers_of(client, "w", 6)
    assert {told[k].step for k in ("hold", "meanwhile", "twice", "on")} == {told["hold"].step}
    assert [told[k].outcome for k in ("twice", "half")] == ["refused", "refused"]
    wait_until(lambda: client.status("frames/w").last_step > told["on"].step + 30, "frames")
    send(Command("stop", "w", "end"))
    finish(process)
    found = read_stream(client, "w")
    assert set(np.diff(found.steps[found.steps >= told["slower"].step])) == {7}


def test_what_is_left_is_refused_when_the_simulation_ends(
    stager: Stager, client: StagerClient, send: Send, start: Start, tmp_path: Path
) -> None:
    process = start("w", stager=stager.address, steps=300, delay=0.001, go=tmp_path / "go")
    wait_for_stream(client)
    send(Command("set", "w", "future", parameter="F", value=2.0, at_step=10**9))
    (tmp_path / "go").touch()
    finish(process)
    told = answers_of(client, "w", 1)
    assert told["future"].outcome == "refused"
    assert "ended at step 299 before it could apply" in told["future"].reason


def test_a_later_life_applies_nothing_again(
    stager: Stager, client: StagerClient, send: Send, start: Start
) -> None:
    process = start("w", stager=stager.address, finished=0, **FOREVER)
    wait_for_stream(client)
    send(Command("set", "w", "one", parameter="F", value=2.0))
    answers_of(client, "w", 1)
    send(Command("stop", "w", "end"))
    finish(process)
    # As a policy does that was started anew, or a stager that lost the offset.
    send(Command("set", "w", "one", parameter="F", value=2.0))
    send(Command("set", "w", "two", parameter="F", value=3.0))
    process = start("w", stager=stager.address, **FOREVER)
    answers_of(client, "w", 3)
    send(Command("stop", "w", "over"))
    out = finish(process)
    assert "set one" not in out
    assert "set two 3" in out
    told = answers_of(client, "w", 4)
    assert (told["one"].incarnation, told["two"].incarnation) == (1, 2)
