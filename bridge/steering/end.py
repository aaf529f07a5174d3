"""The simulation's end of the channel, joined to the producer that carries it."""

from __future__ import annotations

import logging
import time as clock
from collections.abc import Callable, Iterator
from typing import Protocol

from bridge.commands import Acknowledgement, Command, Event, FrameReference
from bridge.frames import Frame
from bridge.steering.channel import ChannelStatistics, CommandChannel

__all__ = ["CommandCarrier", "SimulationEnd"]

_log = logging.getLogger(__name__)
_LOOK_UP = 1.0  # s between two looks at expiries while the simulation is paused


class CommandCarrier(Protocol):
    """What a producer does for commands; `bridge.staging.producer.Producer` is one."""

    def commands(self) -> list[Command]:
        """Return what arrived since the last call, without waiting."""
        ...

    def wait_for_command(self, timeout: float) -> bool:
        """Wait until a command is there, for `timeout` seconds at most."""
        ...

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Send an answer."""
        ...

    def event(self, event: Event) -> None:
        """Tell people something."""
        ...

    def read_frame(self, reference: FrameReference, *, timeout: float) -> Frame:
        """Look a frame up in staging."""
        ...


class SimulationEnd:
    """Takes commands from a producer, answers them, and holds a paused simulation.

    One thread, the simulation's, uses it.

    Parameters
    ----------
    carrier
        The producer of the simulation's stream.
    channel
        The state machine.
    timeout
        Time limit in seconds for looking a frame up.
    remind
        While paused, an event says so each time this many seconds have passed.
    now
        Clock for expiries, in Unix seconds.
    """

    def __init__(
        self,
        carrier: CommandCarrier,
        channel: CommandChannel,
        *,
        timeout: float = 10.0,
        remind: float = 60.0,
        now: Callable[[], float] = clock.time,
    ) -> None:
        self.carrier = carrier
        self.channel = channel
        self._timeout = timeout
        self._remind = remind
        self._now = now

    def commands(self, step: int, time: float) -> Iterator[Command]:
        """Yield set, restart and interval commands that are due; answer each before the next.

        Never waits, unless the simulation is paused: then the call lasts until a resume or a
        stop was applied. Commands that arrive meanwhile are yielded, because they may be
        applied to a simulation that stands still.
        """
        channel = self.channel
        while True:
            arrived = self.carrier.commands()
            if arrived:
                channel.deliver(arrived)
            due = channel.due(step, time, self._now())
            self._send()
            yield from due
            self._send()
            if not channel.paused:
                return
            self._wait(step)

    def hears_stop(self, step: int) -> bool:
        """Return whether a stop has come that holds at this step; it is answered by `commands`.

        For a simulation that waits for something else, such as room in a full stream. Never waits.
        """
        arrived = self.carrier.commands()
        if arrived:
            self.channel.deliver(arrived)
        return self.channel.stop_waits(step, self._now())

    def applied(self, command: Command, step: int, time: float) -> None:
        """Acknowledge that a command took effect at this step."""
        self.channel.applied(command, step, time, self._now())
        self._send()

    def refuse(self, command: Command, reason: str, step: int, time: float) -> None:
        """Acknowledge that a command had no effect, and why."""
        _log.warning("command refused", extra={"command": command.id, "reason": reason})
        self.channel.refuse(command, reason, step, time, self._now())
        self._send()

    def read_frame(self, reference: FrameReference) -> Frame:
        """Look a frame up in staging, within the time limit."""
        return self.carrier.read_frame(reference, timeout=self._timeout)

    def close(self, step: int, time: float) -> None:
        """Refuse what has no answer yet."""
        self.channel.deliver(self.carrier.commands())
        self.channel.close(step, time, self._now())
        self._send()

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot of the counts."""
        return self.channel.statistics()

    def _send(self) -> None:
        for answer in self.channel.take_answers():
            self.carrier.acknowledge(answer)

    def _wait(self, step: int) -> None:
        """Wait for the next command; tell people about a pause as it begins and as it lasts."""
        name = self.channel.simulation
        began = self._now()
        told = -1.0
        while True:
            waited = self._now() - began
            if told < 0 or waited - told >= self._remind:
                told = waited
                self.carrier.event(
                    Event(
                        "paused",
                        f"The simulation {name!r} waits at step {step} for a resume or a stop, "
                        f"for {waited:.0f} s so far.",
                        simulation=name,
                        source="channel",
                        stamp=self._now(),
                        data={"step": step, "seconds": waited},
                    )
                )
            if self.carrier.wait_for_command(_LOOK_UP):
                return
