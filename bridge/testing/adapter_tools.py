"""What the checks of adapters have in common: a stager, a simulation, commands and answers."""

from __future__ import annotations

import time
import unittest
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.commands import Acknowledgement, Capability, Command
from bridge.errors import HeadraceError, UnknownTopic
from bridge.frames import FrameBatch
from bridge.staging.client import StagerClient
from bridge.staging.stager import Stager

__all__ = [
    "PATIENCE",
    "AdapterCase",
    "Maker",
    "Scene",
    "Settable",
    "Specimen",
    "open_scene",
    "skip",
]

PATIENCE = 60.0
"""Seconds after which a check gives up waiting for an answer or a frame."""

_SHORT = 0.02

Arrays = Mapping[str, npt.NDArray[Any]]


class Specimen(Protocol):
    """A small simulation with the adapter to be checked; one thread uses it.

    It is not linked where its `Maker` got no address; then it does the same steps without the
    adapter.
    """

    @property
    def step(self) -> int:
        """Steps done so far; 0 for a new simulation."""
        ...

    def advance(self, steps: int) -> bool:
        """Do this many steps; frames are sent and commands applied as the adapter does it.

        Returns
        -------
        bool
            False if a command stopped the simulation; then it has done fewer steps.
        """
        ...

    def state(self) -> Arrays:
        """Return everything that decides how it goes on, copied: compared to the bit."""
        ...

    def frame(self) -> Arrays:
        """Return what a frame of this moment carries, in the declared units, of all rows.

        Computed from the simulation by other ways than the adapter's, in float64.
        """
        ...

    def read(self, parameter: str) -> float:
        """Return the present value of a parameter that can be set."""
        ...

    def close(self, *, finished: bool = True) -> None:
        """Close the link; with ``finished=False`` as a simulation does that will be continued."""
        ...


class Maker(Protocol):
    """Makes a specimen at step 0, always the same one: same start, same seed."""

    def __call__(
        self, name: str, address: str | None, *, every: int = 1, select: Any = None
    ) -> Specimen:
        """Return a new specimen.

        Parameters
        ----------
        name
            Of the simulation.
        address
            The stager's; None for a simulation without the adapter.
        every
            Steps between frames.
        select
            `AdapterCase.select`, or None for all rows.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settable:
    """A parameter that commands may set."""

    parameter: str
    """Its name."""
    values: tuple[float, float]
    """Two values within its bounds, neither of which it has at first."""
    outside: float
    """A value outside of its bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterCase:
    """An adapter, as the checks need to know it."""

    make: Maker
    """Makes a specimen."""
    units: Mapping[str, str]
    """Unit of every variable that it sends."""
    timestep: float
    """Simulated time of one step, in `time_unit`."""
    time_unit: str = "ps"
    """Unit of the frames' time."""
    select: Any = None
    """A selection as the adapter takes it; None where it has none."""
    rows: Sequence[int] = ()
    """The rows that `select` means."""
    settable: Settable | None = None
    """A parameter that can be set; None where none can."""
    restart: str = ""
    """Variable that a restart from a frame brings back; empty where it cannot be restarted."""
    rtol: float = 1e-6
    """How far values may be from `Specimen.frame`: float32 rounds to 6e-8."""
    atol: float = 1e-6
    """The same, absolute."""
    restart_atol: float = 1e-4
    """How far a restarted variable may be from the frame: constraints may move it a little."""
    lag: int = 0
    """Frames by which answers may come later than what they tell of, for an engine that is asked
    and answers nothing itself, as over IMD: what a command does is known from the frames after it.
    Then a paused simulation may answer only once it goes on."""


def skip(reason: str) -> unittest.SkipTest:
    """Return what tells a test framework that a check does not apply."""
    return unittest.SkipTest(reason)


class Scene:
    """A specimen linked to a stager, and somebody who sends commands and reads what comes."""

    def __init__(self, specimen: Specimen, client: StagerClient, name: str) -> None:
        self.specimen = specimen
        self.client = client
        self.name = name
        self._answers: list[Acknowledgement] = []
        self._read = 0

    def send(self, *commands: Command) -> None:
        """Send commands, in this order."""
        data = [msgspec.msgpack.encode(c) for c in commands]
        self.client.append(f"commands/{self.name}", data)

    def command(self, id: str, kind: Any = "set", **more: Any) -> Command:
        """Return a command to the specimen."""
        return Command(kind, self.name, id, **more)

    def answers(self, wait: float = 0.0) -> dict[str, Acknowledgement]:
        """Return all answers so far by command; asserts that each came once."""
        topic = f"acks/{self.name}"
        got = self.client.fetch({topic: self._read}, wait=max(wait, 0.001))
        for record in got.records:
            self._answers.append(msgspec.msgpack.decode(record.data, type=Acknowledgement))
        self._read = got.positions.get(topic, self._read)
        ids = [a.command for a in self._answers]
        twice = {i for i in ids if ids.count(i) > 1}
        assert not twice, f"The commands {sorted(twice)} were answered more than once."
        return {a.command: a for a in self._answers}

    def advance_until_answered(
        self, *ids: str, watch: Callable[[], object] | None = None
    ) -> dict[str, Acknowledgement]:
        """Advance step by step until these commands have answers; returns all answers.

        Parameters
        ----------
        watch
            Called after each step.
        """
        deadline = time.monotonic() + PATIENCE
        while True:
            going = self.specimen.advance(1)
            if watch is not None:
                watch()
            told = self.answers(_SHORT if going else 1.0)
            missing = [i for i in ids if i not in told]
            if not missing:
                return told
            assert time.monotonic() < deadline, (
                f"The commands {missing} had no answer within {PATIENCE:.0f} s, at step "
                f"{self.specimen.step}; answered are {sorted(told)}."
            )

    def capabilities(self) -> list[Capability]:
        """Return what the simulation declares; waits for its stream.

        Where another process carries the frames, they come later than they are sent.
        """
        topic = f"frames/{self.name}"
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return list(self.client.status(topic).capabilities)
            except UnknownTopic:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_SHORT)

    def need(self, kind: str) -> None:
        """Skip the check if no capability of this kind is declared."""
        if kind not in {c.kind for c in self.capabilities()}:
            raise skip(f"The adapter declares no capability {kind!r}.")

    def frames(self) -> FrameBatch:
        """Return all frames of the stream so far, copied; asserts that their order is right.

        The stream is read to its end if the specimen was closed, else to where it is now.
        """
        topic, position = f"frames/{self.name}", 0
        parts: list[FrameBatch] = []
        end = self.client.status(topic).end
        deadline = time.monotonic() + PATIENCE
        while position < end:
            with self.client.fetch({topic: position}, wait=1.0) as got:
                parts += [b.copy() for b in got.batches]
                assert not got.gaps, f"Frames of {self.name!r} were lost: {got.gaps}."
                position = got.positions.get(topic, position)
            assert time.monotonic() < deadline, f"Frame {position} of {end} cannot be read."
        assert parts, f"No frame of {self.name!r} arrived."
        whole = FrameBatch.concatenate(parts)
        assert np.array_equal(whole.offsets, np.arange(len(whole))), "Offsets have gaps."
        bad = np.flatnonzero(np.diff(whole.steps) <= 0)
        assert not bad.size, f"Steps do not increase: {whole.steps[bad[0] : bad[0] + 2]}."
        assert (np.diff(whole.epochs) >= 0).all(), "Epochs decrease."
        same = np.diff(whole.epochs) == 0
        bad = np.flatnonzero(same & (np.diff(whole.times) <= 0))
        assert not bad.size, (
            f"Times do not increase within an epoch: {whole.times[bad[0] : bad[0] + 2]}, at steps "
            f"{whole.steps[bad[0] : bad[0] + 2]}."
        )
        return whole


@contextmanager
def open_scene(
    case: AdapterCase,
    *,
    every: int = 1,
    select: Any = None,
    directory: Path | None = None,
    address: str = "tcp://127.0.0.1:0",
) -> Iterator[Scene]:
    """Start a stager and link a new specimen to it; close both at the end.

    Parameters
    ----------
    directory
        Where the stager keeps its logs durably.
    """
    with (
        Stager(address, directory=directory, durable=directory is not None).start() as stager,
        StagerClient(stager.address, timeout=PATIENCE) as client,
    ):
        specimen = case.make("specimen", stager.address, every=every, select=select)
        done = False
        try:
            yield Scene(specimen, client, "specimen")
            done = True
        finally:
            try:
                specimen.close()
            except HeadraceError:
                if done:
                    raise
