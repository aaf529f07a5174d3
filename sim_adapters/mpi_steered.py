"""Commands under MPI: rank 0 takes them, all ranks vote, and apply them at one step or none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from bridge.codec import decode_state, encode_state
from bridge.commands import Acknowledgement, Command, CommandKind, Event, FrameReference
from bridge.errors import CommandRefused, MemberFailed, SteeringError
from bridge.frames import Frame
from bridge.staging.producer import Producer
from sim_adapters.mpi_rounds import MPI, Rounds
from sim_adapters.steered import Arrays, Shapes, Steered

__all__ = ["COMMAND", "DONE", "FRAME", "HOLD", "JOB", "Carrier", "MpiSteered"]

DONE, COMMAND, HOLD, FRAME, JOB = range(5)  # what rank 0 tells
_NO_STEP = -1

Check = Callable[..., object]


class MpiSteered(Steered, ABC):
    """The half of a rank's link that takes commands; the base of `sim_adapters.mpi.MpiLink`.

    Attributes
    ----------
    rank, size
        Of the communicator.
    """

    def __init__(self, comm: MPI.Intracomm, simulation: str, every: int, limit: float) -> None:
        super().__init__(simulation, every)
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._rounds = Rounds(comm, simulation, limit=limit, tell=self._tell_failure)
        self._producer: Producer | None = None
        self._checks: dict[str, Check] = {}
        self._next_command: int | None = None
        self._stopped = False

    @abstractmethod
    def _tell_failure(self, kind: str, sentence: str) -> None:
        """Tell people why the run is over."""

    @property
    def next_command(self) -> int | None:
        """Earliest step that a waiting command asks for; the same on all ranks."""
        return self._next_command

    @property
    def stopped(self) -> bool:
        """Whether a stop was applied; the same on all ranks."""
        return self._stopped

    def on(
        self,
        kind: CommandKind,
        parameter: str,
        function: Callable[..., object],
        *,
        check: Check | None = None,
    ) -> None:
        """Name the function that applies a command on this rank when `service` is called.

        Parameters
        ----------
        kind, parameter, function
            As for `sim_adapters.link.Link`. A function that refuses does so on all ranks, before
            it has changed anything.
        check
            This rank's vote, with the arguments of `function`: it raises `CommandRefused` to keep
            all ranks from applying the command, and changes nothing.
        """
        super().on(kind, parameter, function)
        if check is not None:
            self._checks[parameter if kind == "set" else ""] = check

    def on_restart(
        self,
        function: Callable[[Arrays, Command], object],
        required: Shapes | None = None,
        optional: Shapes | None = None,
        *,
        check: Check | None = None,
    ) -> None:
        """Name the function that restarts this rank; it is given the arrays of all rows."""
        super().on_restart(function, required, optional)
        if check is not None:
            self._checks[""] = check

    def commands(self, step: int | None = None, time: float | None = None) -> Iterator[Command]:
        """Raise; ranks agree on commands, so that only `service` takes them."""
        raise SteeringError("The ranks of an MPI simulation take commands with service() alone.")

    def service(self, step: int | None = None, time: float | None = None) -> bool:
        """Apply what is due on all ranks, or refuse it on all; returns whether to go on.

        Every rank calls it at the same steps. Without commands it costs one small broadcast, and
        rank 0 does not wait for the others. While the simulation is paused all ranks wait.

        Raises
        ------
        MemberFailed
            If a rank failed, does not come within the limit, or could not apply what others have
            applied. The run is over then.
        """
        self.step = self.step if step is None else step
        self.time = self.time if time is None else time
        self._rounds.check()
        if self._producer is None:
            return True
        if self.rank == 0:
            self._lead()
        else:
            self._follow()
        return not self._stopped

    def _lead(self) -> None:
        assert self._end is not None
        for command in self._end.commands(self.step, self.time):
            arrays: Arrays = {}
            try:
                if command.kind == "restart":
                    arrays = self.read_restart(command)
            except CommandRefused as error:
                self._end.refuse(command, str(error), self.step, self.time)
                continue
            known = msgspec.structs.replace(command, state=b"", evidence={})
            payload = [msgspec.msgpack.encode(known), encode_state(arrays) if arrays else b""]
            told = msgspec.msgpack.encode(payload)
            self._rounds.tell(COMMAND, payload=told, step=self.step)
            try:
                reason = self._carry_out(command, arrays)
            except BaseException as error:
                self._end.refuse(command, f"{error}", self.step, self.time)
                raise
            if reason:
                self._end.refuse(command, reason, self.step, self.time)
            else:
                self._end.applied(command, self.step, self.time)
        channel = self._end.channel
        self._next_command, self._stopped = channel.next_step, channel.stopped
        wanted = _NO_STEP if self._next_command is None else self._next_command
        self._rounds.tell(DONE, (int(self._stopped), wanted), step=self.step)

    def _follow(self) -> None:
        while True:
            told = self._rounds.listen(step=self.step)
            if told.kind == DONE:
                self._stopped = bool(told.flags[0])
                self._next_command = None if told.flags[1] == _NO_STEP else told.flags[1]
                return
            if told.kind == COMMAND:
                encoded, state = msgspec.msgpack.decode(told.payload, type=tuple[bytes, bytes])
                command = msgspec.msgpack.decode(encoded, type=Command)
                self._carry_out(command, dict(decode_state(state)) if state else {})

    def _carry_out(self, command: Command, arrays: Arrays) -> str:
        """Vote, and apply where nobody is against it; return why not, the same on all ranks."""
        if command.kind == "interval":
            self.every = int(command.value or 1)
            return ""
        restart = command.kind == "restart"
        arguments: tuple[Any, ...] = (arrays, command) if restart else (command.value,)
        function = self._restart if restart else self._setters.get(command.parameter)
        word = "" if function else "The rank has no function for it."
        check = self._checks.get("" if restart else command.parameter)
        word, error = self._try(check, arguments) if check and not word else (word, None)
        against, _, reason = self._rounds.agree(word)
        self._raise(error, against, "judge", reason, command)
        if against < self.size:
            return f"Rank {against} refuses: {reason}" if self.size > 1 else reason
        word, error = self._try(function, arguments)
        against, applied, reason = self._rounds.agree(word)
        self._raise(error, against, "apply", reason, command)
        if against == self.size:
            self.epoch += restart
            return ""
        if applied == self.size:
            return reason
        sentence = (
            f"Rank {against} of {self.simulation!r} refused {command.id!r} at step {self.step} "
            f"when rank {applied} had applied it: {reason} The ranks differ, so the run ends; let "
            "ranks object with check= instead."
        )
        raise MemberFailed(sentence)

    def _try(
        self, function: Callable[..., object] | None, arguments: tuple[Any, ...]
    ) -> tuple[str, BaseException | None]:
        try:
            if function is not None:
                function(*arguments)
        except CommandRefused as error:
            return str(error) or "It gives no reason.", None
        except Exception as error:
            return f"\0{type(error).__name__}: {error}", error
        return "", None

    def _raise(
        self, error: BaseException | None, rank: int, verb: str, reason: str, command: Command
    ) -> None:
        """Raise on all ranks, if the first rank that had something to say failed."""
        if error is not None:
            raise error
        if reason.startswith("\0"):
            raise MemberFailed(
                f"Rank {rank} of {self.simulation!r} failed to {verb} {command.id!r} at step "
                f"{self.step}: {reason[1:]}."
            )

    def read_restart(self, command: Command) -> Arrays:
        """Return the arrays of a restart, of all rows; on rank 0 alone."""
        return super().read_restart(command)


class Carrier:
    """Rank 0's producer, which lets the other ranks wait while it waits for a command."""

    def __init__(self, producer: Producer, hold: Callable[[], None]) -> None:
        self._producer = producer
        self._hold = hold

    def commands(self) -> list[Command]:
        """Return commands that came."""
        return self._producer.commands()

    def wait_for_command(self, timeout: float) -> bool:
        """Wait, as the other ranks do."""
        self._hold()
        return self._producer.wait_for_command(timeout)

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Answer a command."""
        self._producer.acknowledge(acknowledgement)

    def event(self, event: Event) -> None:
        """Tell people something."""
        self._producer.event(event)

    def read_frame(self, reference: FrameReference, *, timeout: float) -> Frame:
        """Fetch a frame from staging."""
        return self._producer.read_frame(reference, timeout=timeout)
