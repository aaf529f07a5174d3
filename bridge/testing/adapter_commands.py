"""Checks of what others may do to a simulation: declared, enforced, applied once, acknowledged."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bridge.commands import COMMAND_KINDS, FrameReference
from bridge.staging.client import StagerClient
from bridge.testing.adapter_frames import assert_same_state
from bridge.testing.adapter_tools import PATIENCE, AdapterCase, Scene, Settable, open_scene, skip

__all__ = [
    "check_applied_once",
    "check_at_step",
    "check_capabilities_declared",
    "check_expired",
    "check_interval",
    "check_pause",
    "check_refused_changes_nothing",
    "check_restart",
    "check_stop",
]


def _settable(case: AdapterCase) -> Settable:
    if case.settable is None:
        raise skip("The adapter has nothing that can be set.")
    return case.settable


class _History:
    """Remembers the value of a parameter after each step."""

    def __init__(self, scene: Scene, parameter: str) -> None:
        self.scene = scene
        self.parameter = parameter
        self.values: dict[int, float] = {}
        self()

    def __call__(self) -> None:
        specimen = self.scene.specimen
        self.values[specimen.step] = specimen.read(self.parameter)

    def changes(self) -> list[tuple[int, float]]:
        """Return the steps after which the value was a new one, and the values."""
        steps = sorted(self.values)
        pairs = zip(steps[1:], steps, strict=False)
        return [(b, self.values[b]) for b, a in pairs if self.values[b] != self.values[a]]


def check_capabilities_declared(case: AdapterCase) -> None:
    """What can be done is declared with its bounds, each once; values begin within them."""
    with open_scene(case) as scene:
        scene.specimen.advance(2)
        declared = scene.capabilities()
        names = [(c.kind, c.parameter) for c in declared]
        assert len(set(names)) == len(names), f"A capability is declared twice: {names}."
        for capability in declared:
            what = f"The capability {capability.kind} {capability.parameter}".rstrip()
            assert capability.minimum <= capability.maximum, f"{what} has no value in its bounds."
            if capability.kind == "interval":
                assert capability.minimum >= 1, f"{what} allows an interval below 1."
            if capability.kind == "set":
                bounds = (capability.minimum, capability.maximum)
                assert capability.parameter, "A capability 'set' names no parameter."
                assert all(map(math.isfinite, bounds)), f"{what} has no bounds: {bounds}."
                assert math.isfinite(scene.specimen.read(capability.parameter))
        kinds = {c.kind for c in declared}
        assert ("pause" in kinds) == ("resume" in kinds), (
            f"Whoever may pause must be able to resume; declared are {sorted(kinds)}."
        )
        assert bool(case.restart) == ("restart" in kinds), (
            f"The case says {'that' if case.restart else 'not that'} the simulation can be "
            f"restarted; declared are {sorted(kinds)}."
        )
        parameters = {c.parameter for c in declared if c.kind == "set"}
        if case.settable is None:
            assert not parameters, f"The case leaves out what can be set: {sorted(parameters)}."
        else:
            assert case.settable.parameter in parameters, (
                f"{case.settable.parameter!r} is not declared; {sorted(parameters)} are."
            )


def check_refused_changes_nothing(case: AdapterCase) -> None:
    """What is not declared or out of bounds is refused with a sentence, and changes nothing."""
    with open_scene(case) as scene:
        scene.specimen.advance(1)
        kinds = {c.kind for c in scene.capabilities()}
        commands = [
            scene.command(f"undeclared-{kind}", kind, value=2.0)
            for kind in COMMAND_KINDS
            if kind not in kinds
        ]
        commands.append(scene.command("no-parameter", parameter="no_such_parameter", value=1.0))
        if case.settable is not None:
            name = case.settable.parameter
            for id, value in (("outside", case.settable.outside), ("nan", math.nan)):
                commands.append(scene.command(id, parameter=name, value=value))
            commands.append(scene.command("no-value", parameter=name))
        if case.restart:
            nowhere = FrameReference(scene.name, 10**9)
            commands.append(scene.command("nowhere", "restart", frame=nowhere))
            commands.append(scene.command("nothing", "restart"))
        scene.send(*commands)
        told = scene.advance_until_answered(*(c.id for c in commands))
        for command in commands:
            answer = told[command.id]
            assert answer.outcome == "refused", f"{command.id!r} was {answer.outcome}."
            assert len(answer.reason) > 10, f"{command.id!r} was refused without a reason."
        if case.settable is not None:
            wrong = f"{case.settable.outside:g}"
            assert wrong in told["outside"].reason, (
                f"The refusal does not name the value {wrong}: {told['outside'].reason}"
            )
        scene.specimen.advance(3)
        steps, found = scene.specimen.step, scene.specimen.state()
    plain = case.make("specimen", None)
    # In the same pieces: some codes set up anew whenever they are told to go on.
    for _ in range(steps - 3):
        plain.advance(1)
    plain.advance(3)
    assert_same_state(plain.state(), found, "sent commands that it refused")
    plain.close()


def check_applied_once(case: AdapterCase) -> None:
    """A command, however often it is sent, is applied once, at the step that its answer names."""
    settable = _settable(case)
    name, (one, two) = settable.parameter, settable.values
    with open_scene(case) as scene:
        scene.specimen.advance(1)
        history = _History(scene, name)
        assert scene.specimen.read(name) not in (one, two), "The case's values are not new."
        first = scene.command("first", parameter=name, value=one)
        second = scene.command("second", parameter=name, value=two)
        scene.send(first, first)
        scene.advance_until_answered("first", watch=history)
        scene.send(second)
        scene.advance_until_answered("second", watch=history)
        scene.send(first, second, first, scene.command("odd", parameter="no_such", value=0.0))
        told = scene.advance_until_answered("odd", watch=history)
        for id in ("first", "second"):
            assert told[id].outcome == "applied", f"{id!r} was {told[id].outcome}."
        wanted = [(told["first"].step, one), (told["second"].step, two)]
        found = history.changes()
        same = len(found) == 2 and all(
            b - case.lag <= a <= b and math.isclose(x, y, rel_tol=1e-9)
            for (a, x), (b, y) in zip(found, wanted, strict=True)
        )
        assert same, (
            f"{name!r} changed at (step, value) {found}; acknowledged were {wanted}, and commands "
            "that came again must have no effect."
        )
        scene.specimen.close()
        scene.answers(0.1)


def check_at_step(case: AdapterCase) -> None:
    """A command that names a step is applied there, and one whose step is over is refused."""
    settable = _settable(case)
    name = settable.parameter
    every = 4
    with open_scene(case, every=every) as scene:
        scene.specimen.advance(every)
        history = _History(scene, name)
        for attempt in range(8):
            before = len(history.changes())
            target = scene.specimen.step + 40 * 4**attempt
            id, value = f"at-{target}", settable.values[attempt % 2]
            known = scene.command(f"known-{attempt}", parameter="no_such", value=0.0)
            scene.send(scene.command(id, parameter=name, value=value, at_step=target), known)
            scene.advance_until_answered(known.id, watch=history)
            if scene.specimen.step < target:
                break
        told = scene.advance_until_answered(id, watch=history)
        answer = told[id]
        assert answer.outcome == "applied", f"It was {answer.outcome}: {answer.reason}"
        lag = case.lag * every
        assert target <= answer.step < target + every + lag, (
            f"A command for step {target} was applied at {answer.step}; frames come every {every} "
            "steps."
        )
        changed = [s for s, _ in history.changes()[before:]]
        right = len(changed) == 1 and max(target, answer.step - lag) <= changed[0] <= answer.step
        assert right, (
            f"{name!r} changed at {history.changes()[before:]}; acknowledged is {answer.step}."
        )
        late = scene.command("late", parameter=name, value=settable.values[0], at_step=1)
        scene.send(late)
        told = scene.advance_until_answered("late")
        assert told["late"].outcome in ("refused", "expired"), (
            f"A command for step 1 was {told['late'].outcome} at step {told['late'].step}."
        )


def check_expired(case: AdapterCase) -> None:
    """A command whose time is over is answered as expired, and has no effect."""
    settable = _settable(case)
    name, value = settable.parameter, settable.values[0]
    with open_scene(case) as scene:
        before = scene.specimen.read(name)
        scene.send(scene.command("old", parameter=name, value=value, expires=1.0))
        told = scene.advance_until_answered("old")
        assert told["old"].outcome == "expired", f"It was {told['old'].outcome}."
        assert scene.specimen.read(name) == before


def check_stop(case: AdapterCase) -> None:
    """A stop ends the simulation at the step that its answer names; no frame comes after it."""
    with open_scene(case) as scene:
        scene.specimen.advance(2)
        scene.need("stop")
        scene.send(scene.command("stop", "stop", reason="Enough."))
        told = scene.advance_until_answered("stop")
        stopped = scene.specimen.step
        assert told["stop"].outcome == "applied", told["stop"].reason
        assert stopped - case.lag <= told["stop"].step <= stopped, (
            f"The simulation is at step {stopped}; its stop was acknowledged at step "
            f"{told['stop'].step}."
        )
        assert not scene.specimen.advance(5), "It went on after a stop."
        scene.specimen.close()
        last = int(scene.frames().steps[-1])
        assert last <= stopped, f"A frame of step {last} came after the stop at {stopped}."


def check_interval(case: AdapterCase) -> None:
    """An interval command changes the steps between frames, and nothing else."""
    with open_scene(case, every=2) as scene:
        scene.specimen.advance(2)
        scene.need("interval")
        scene.send(
            scene.command("slower", "interval", value=5.0),
            scene.command("never", "interval", value=0.0),
        )
        told = scene.advance_until_answered("slower", "never")
        scene.specimen.advance(30)
        scene.specimen.close()
        steps = scene.frames().steps
        outcomes = (told["slower"].outcome, told["never"].outcome)
        assert outcomes == ("applied", "refused"), f"The answers were {outcomes}."
        after = np.diff(steps[steps > told["slower"].step])
        assert len(after) > 1
        assert (after == 5).all(), (
            f"After an interval of 5 steps was set, frames are {after} steps apart."
        )


def check_pause(case: AdapterCase) -> None:
    """A paused simulation stands still until it is resumed; it takes commands meanwhile."""
    failures: list[BaseException] = []

    def command(address: str, name: str, others: list[str]) -> None:
        # A client of its own: the paused simulation holds the other thread.
        with StagerClient(address, timeout=PATIENCE) as client:
            scene = Scene(None, client, name)  # type: ignore[arg-type]
            try:
                scene.send(scene.command("pause", "pause"))
                _wait(lambda: "pause" in scene.answers(0.05), "The pause had no answer")
                scene.send(scene.command("odd", parameter="no_such", value=0.0))
                if case.settable is not None and not case.lag:
                    name_, value = case.settable.parameter, case.settable.values[0]
                    scene.send(scene.command("meanwhile", parameter=name_, value=value))
                _wait(
                    lambda: set(others) <= set(scene.answers(0.05)),
                    "A paused simulation did not answer",
                )
            except BaseException as error:
                failures.append(error)
            finally:
                scene.send(scene.command("resume", "resume"))

    with open_scene(case) as scene:
        scene.specimen.advance(2)
        scene.need("pause")
        others = ["odd"] + ["meanwhile"] * (case.settable is not None and not case.lag)
        thread = threading.Thread(target=command, args=(scene.client.address, scene.name, others))
        thread.start()
        try:
            told = scene.advance_until_answered("resume")
        finally:
            thread.join(PATIENCE)
        if failures:
            raise failures[0]
        steps = {id: told[id].step for id in ("pause", *others, "resume")}
        assert max(steps.values()) - min(steps.values()) <= case.lag, (
            f"The simulation went on while it was paused: answers came at the steps {steps}."
        )
        assert scene.specimen.advance(3), "It did not go on after it was resumed."


def _wait(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, f"{what} within {PATIENCE:.0f} s."


def _nearest(difference: Any, boxes: Any, offset: int) -> Any:
    """Return differences between positions, each to the nearest image in a periodic box."""
    if boxes is None or boxes.shape[1:] != (3, 3) or not np.linalg.det(boxes[offset]):
        return difference
    box = boxes[offset]
    return difference - np.round(difference @ np.linalg.inv(box)) @ box


def check_restart(case: AdapterCase) -> None:
    """A restart puts the simulation where a frame was, as acknowledged, and begins an epoch."""
    if not case.restart:
        raise skip("The adapter has no restarts.")
    with open_scene(case) as scene:
        scene.specimen.advance(20)
        # The frames that are to be found must have arrived.
        scene.send(scene.command("odd", parameter="no_such", value=0.0))
        scene.advance_until_answered("odd")
        offset = 4
        scene.send(scene.command("back", "restart", frame=FrameReference(scene.name, offset)))
        told = scene.advance_until_answered("back")
        assert told["back"].outcome == "applied", told["back"].reason
        there = np.asarray(scene.specimen.frame()[case.restart], np.float64)
        at = scene.specimen.step
        scene.specimen.advance(5)
        scene.specimen.close()
        found = scene.frames()
    wanted = found[case.restart][offset]
    off = np.abs(_nearest(there - wanted, found.columns.get("box"), offset)).max()
    assert told["back"].step == at, (
        f"The restart was acknowledged at step {told['back'].step}; it is at {at}."
    )
    assert off <= case.restart_atol, (
        f"After a restart from frame {offset}, {case.restart!r} is {off:g} away from that frame."
    )
    before, after = found.epochs[found.steps <= at], found.epochs[found.steps > at]
    assert len(after)
    assert (after == before[-1] + 1).all(), (
        f"Epochs are {before.tolist()} up to the restart and {after.tolist()} after it; a restart "
        "begins a new one."
    )
