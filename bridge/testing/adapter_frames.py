"""Checks of what an adapter sends, and that sending changes nothing."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.frames import FrameBatch
from bridge.staging.client import StagerClient
from bridge.staging.stager import Stager
from bridge.testing.adapter_tools import PATIENCE, AdapterCase, Scene, open_scene, skip

__all__ = [
    "check_close_twice",
    "check_frames",
    "check_next_life",
    "check_selection",
    "check_stager_lost_and_found",
    "check_unchanged_when_linked",
    "check_units",
]

EVERY = 3
STEPS = 7 * EVERY + 1

Truth = dict[int, Mapping[str, npt.NDArray[Any]]]


def _run(scene: Scene, every: int, frames: int) -> Truth:
    """Advance from frame to frame; returns what each should carry, by step."""
    specimen = scene.specimen
    truth: Truth = {specimen.step: specimen.frame()}
    for _ in range(frames):
        specimen.advance(every)
        truth[specimen.step] = specimen.frame()
    return truth


def _compare(case: AdapterCase, found: FrameBatch, truth: Truth, rows: Any, whole: int) -> None:
    for frame in found:
        wanted = truth.get(frame.step)
        assert wanted is not None, (
            f"A frame came at step {frame.step}; they were to come at {sorted(truth)}."
        )
        assert set(frame.values) == set(wanted), (
            f"Frames carry {sorted(frame.values)}; the case expects {sorted(wanted)}."
        )
        for name, value in frame.values.items():
            right = np.asarray(wanted[name])
            if rows is not None and right.ndim and len(right) == whole:
                right = right[rows]
            assert value.shape == right.shape, (
                f"Variable {name!r} has shape {value.shape}; {right.shape} was expected."
            )
            close = np.isclose(value, right, rtol=case.rtol, atol=case.atol)
            assert close.all(), (
                f"Variable {name!r} at step {frame.step} is {value[~close].flat[0]}, but "
                f"{right[~close].flat[0]} {case.units.get(name, '')} in the simulation; "
                f"{(~close).sum()} of {close.size} values differ."
            )


def check_frames(case: AdapterCase) -> None:
    """Frames come each so many steps, with the step's number, time and values, up to the last."""
    with open_scene(case, every=EVERY) as scene:
        truth = _run(scene, EVERY, 6)
        scene.specimen.close()
        found = scene.frames()
        status = scene.client.status(f"frames/{scene.name}")
    assert found.steps[0] in (0, EVERY), (
        f"The first frame has step {found.steps[0]}; it must be 0 or {EVERY}."
    )
    wanted = np.arange(found.steps[0], 6 * EVERY + 1, EVERY)
    assert np.array_equal(found.steps, wanted), (
        f"Frames have steps {found.steps.tolist()}; every {EVERY} steps, they should have "
        f"{wanted.tolist()}."
    )
    passed = found.times - found.times[0]
    assert np.allclose(passed, (found.steps - found.steps[0]) * case.timestep), (
        f"Between frames {np.diff(passed)} {case.time_unit} pass; {EVERY * case.timestep} was "
        "expected."
    )
    assert len(set(found.epochs.tolist())) == 1, "The epoch changed, though nobody restarted it."
    assert status.finished, "The stream was not finished when the simulation closed its link."
    _compare(case, found, truth, None, 0)


def check_units(case: AdapterCase) -> None:
    """Every variable and the time have their unit declared, and no other variables are sent."""
    with open_scene(case) as scene:
        scene.specimen.advance(2)
        scene.specimen.close()
        schema = scene.client.schema(scene.name)
    units = {v.name: v.unit for v in schema.variables}
    assert units == dict(case.units), (
        f"The stream declares the units {units}; {dict(case.units)} was expected."
    )
    assert schema.time_unit == case.time_unit, (
        f"The stream declares its time in {schema.time_unit!r}, not in {case.time_unit!r}."
    )


def check_selection(case: AdapterCase) -> None:
    """Of a selection, the right rows come, in their order, and the schema says that it is one."""
    if case.select is None:
        raise skip("The adapter has no selections.")
    rows = np.asarray(case.rows, np.intp)
    with open_scene(case) as whole:
        whole.specimen.advance(2)
        whole.specimen.close()
        schema = whole.client.schema(whole.name)
    leads = {v.name: v.shape[0] for v in schema.variables if v.shape}
    with open_scene(case, select=case.select) as scene:
        truth = _run(scene, 1, 5)
        scene.specimen.close()
        found = scene.frames()
        chosen = scene.client.schema(scene.name)
    assert chosen.selection, "The schema does not say that it is a selection."
    fewer = [v.name for v in chosen.variables if v.shape and v.shape[0] == len(rows)]
    assert fewer, f"No variable has the {len(rows)} rows of the selection."
    if chosen.topology is not None:
        for field in ("names", "elements", "residues", "residue_ids", "masses"):
            count = len(getattr(chosen.topology, field))
            assert count in (0, len(rows)), (
                f"The topology has {count} {field} for {len(rows)} selected rows."
            )
    _compare(case, found, truth, rows, max(leads[name] for name in fewer))


def check_unchanged_when_linked(case: AdapterCase) -> None:
    """A simulation that is watched comes to the same state, to the bit, as one that is not."""
    plain = case.make("specimen", None)
    plain.advance(STEPS)
    wanted = plain.state()
    plain.close()
    selections = (None,) if case.select is None else (None, case.select)
    for every in (1, EVERY):
        for select in selections:
            with open_scene(case, every=every, select=select) as scene:
                assert scene.specimen.advance(STEPS), "The simulation stopped by itself."
                found = scene.specimen.state()
            assert_same_state(wanted, found, f"linked, with a frame every {every} steps")


def assert_same_state(
    wanted: Mapping[str, npt.NDArray[Any]], found: Mapping[str, npt.NDArray[Any]], what: str
) -> None:
    """Assert that two states are the same to the bit."""
    assert set(wanted) == set(found)
    for name, value in wanted.items():
        ours, theirs = np.asarray(value), np.asarray(found[name])
        assert ours.dtype.kind != "O", f"{name!r} of the state is an array of objects."
        same = ours.shape == theirs.shape and ours.tobytes() == theirs.tobytes()
        assert same, (
            f"{name!r} of a simulation that was {what}, is not the same to the bit as without a "
            "link."
        )


def check_close_twice(case: AdapterCase) -> None:
    """Closing again does no harm, at once after opening either, and nothing comes after it."""
    with open_scene(case) as scene:
        scene.specimen.close()
        scene.specimen.close()
    with open_scene(case) as scene:
        scene.specimen.advance(4)
        scene.specimen.close()
        before = scene.frames()
        scene.specimen.close()
        scene.specimen.close(finished=False)
        status = scene.client.status(f"frames/{scene.name}")
        assert status.finished, "Closing again took the end of the stream back."
        assert status.end == len(before), "Closing again sent frames."


def check_stager_lost_and_found(case: AdapterCase) -> None:
    """A stager that ends and comes back gets every frame once, and its commands are taken."""
    with tempfile.TemporaryDirectory(prefix="headrace-check-") as folder:
        directory, address = Path(folder), f"tcp://127.0.0.1:{_free_port()}"
        first = Stager(address, directory=directory, durable=True).start()
        try:
            specimen = case.make("specimen", address)
            specimen.advance(8)
            first.stop()
            specimen.advance(8)
        finally:
            first.stop()
        with (
            Stager(address, directory=directory, durable=True).start(),
            StagerClient(address, timeout=PATIENCE) as client,
        ):
            scene = Scene(specimen, client, "specimen")
            specimen.advance(8)
            if case.settable is not None:
                name, value = case.settable.parameter, case.settable.values[0]
                scene.send(scene.command("after", parameter=name, value=value))
                told = scene.advance_until_answered("after")
                assert told["after"].outcome == "applied", told["after"].reason
            last = specimen.step
            specimen.close()
            found = scene.frames()
    wanted = np.arange(found.steps[0], last + 1)
    assert found.steps[0] in (0, 1), f"The first frame has step {found.steps[0]}."
    assert np.array_equal(found.steps, wanted), (
        f"After the stager was lost and found, it holds the steps {found.steps.tolist()}; "
        f"{wanted[0]} to {last} were sent."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_next_life(case: AdapterCase) -> None:
    """A simulation that is begun again goes on with its stream, in a new epoch.

    What an earlier life answered has no effect any more.
    """
    with open_scene(case) as scene:
        first = scene.specimen
        settable = case.settable
        if settable is not None:
            once = scene.command("once", parameter=settable.parameter, value=settable.values[0])
            scene.send(once)
            scene.advance_until_answered("once")
        first.advance(5)
        first.close(finished=False)
        last, before = first.step, scene.frames()
        status = scene.client.status(f"frames/{scene.name}")
        assert not status.finished, "The stream is finished, though it was left open."
        address = scene.client.address
        second = case.make(scene.name, address)
        try:
            scene.specimen = second
            if settable is not None:
                initial = second.read(settable.parameter)
                scene.send(once, scene.command("odd", parameter="no_such", value=1.0))
                scene.advance_until_answered("odd")
                assert second.read(settable.parameter) == initial, (
                    "A command that an earlier life had answered was applied again."
                )
            second.advance(last + 10)
        finally:
            second.close()
        found = scene.frames()
    assert len(found) > len(before), "The second life sent no frames."
    assert found.epochs[len(before)] > found.epochs[len(before) - 1], (
        "A simulation that was begun again must begin a new epoch."
    )
