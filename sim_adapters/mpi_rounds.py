"""Small collectives among the ranks of one simulation: numbered, polled, and with a limit.

A collective that a rank does not come to is not waited for forever: the others ask who is where,
and raise a sentence that names who is missing. A rank that fails tells the others, which raise its
sentence; those that are stuck in a call of the simulation's own say it from a thread, and the run
is aborted.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time as clock
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np

from bridge.errors import MemberFailed, MissingExtra, SteeringError

try:
    from mpi4py import MPI
except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI library
    raise MissingExtra("mpi4py", "mpi", "simulations with MPI") from error

__all__ = ["MPI", "Rounds", "Told"]

_log = logging.getLogger(__name__)

LOOK = 0.2
"""Seconds between two looks of the thread at what other ranks tell."""

GRACE = 2.0
"""Seconds that others get to answer, or to come out of a call of their own."""

_TEXT = 1024  # bytes of a reason that travel

_Kind = Literal["ask", "here", "failed", "gone"]


class _Word(msgspec.Struct, array_like=True):
    """What ranks tell each other outside of collectives."""

    kind: _Kind
    calls: int = 0  # collectives that the rank has come to
    text: str = ""


class Told(msgspec.Struct, frozen=True):
    """What rank 0 told in a round.

    Attributes
    ----------
    kind
        A number that the caller gave a meaning.
    flags
        Two numbers of the caller's.
    payload
        Bytes; mostly none.
    """

    kind: int
    flags: tuple[int, int]
    payload: bytes = b""


class Rounds:
    """Collectives of the ranks of a simulation; each rank calls the same ones in the same order.

    One thread, the simulation's, calls the methods. Where MPI allows threads, another one
    answers for this rank while it computes.

    Parameters
    ----------
    comm
        The simulation's communicator; duplicated, so that nothing mixes with its own messages.
    simulation
        Name for messages.
    limit
        Seconds that a rank waits for the others.
    tell
        Called with kind and sentence of an event, on the rank that finds something wrong.

    Attributes
    ----------
    rank, size
        Of the communicator.
    step
        Where the simulation stands, for messages.
    busy
        What this rank does when it waits for something that has a limit of its own; the others
        then wait on.
    failure
        Why the run is over; empty while it is not.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        simulation: str,
        *,
        limit: float = 60.0,
        tell: Callable[[str, str], None] = lambda kind, text: None,
    ) -> None:
        self.comm = comm.Dup()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self.simulation = simulation
        self.limit = limit
        self.step = -1
        self.busy = ""
        self.failure = ""
        self._tell = tell
        self._control = comm.Dup()
        self._number = self._calls = 0
        self._lock = threading.Lock()
        self._sent: list[tuple[MPI.Request, bytes]] = []
        self._here: dict[int, _Word] = {}
        self._gone: set[int] = set()
        self._raised = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if self.size > 1:
            atexit.register(self._leave)
            if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
                self._thread = threading.Thread(
                    target=self._watch, name=f"headrace-{simulation}-ranks", daemon=True
                )
                self._thread.start()

    # ------------------------------------------------------------ collectives

    def tell(
        self, kind: int, flags: tuple[int, int] = (0, 0), payload: bytes = b"", *, step: int
    ) -> None:
        """Tell all other ranks something, as rank 0; they call `listen`."""
        self.step = step
        head = np.array([self._number, step, kind, *flags, len(payload)], np.int64)
        self._broadcast(head)
        if payload:
            self._broadcast(np.frombuffer(payload, np.uint8))
        self._number += 1

    def listen(self, *, step: int) -> Told:
        """Return what rank 0 tells.

        Raises
        ------
        MemberFailed
            If it did not within the limit, or another rank has failed.
        SteeringError
            If rank 0 is at another step: the ranks do not call the same things.
        """
        self.step = step
        head = np.empty(6, np.int64)
        self._broadcast(head)
        number, theirs, kind, a, b, nbytes = (int(x) for x in head)
        payload = np.empty(nbytes, np.uint8)
        if nbytes:
            self._broadcast(payload)
        if (number, theirs) != (self._number, step):
            self._raised = True
            raise SteeringError(
                f"Rank {self.rank} of {self.simulation!r} is at step {step}, rank 0 at step "
                f"{theirs}: every rank must call the link at the same steps, and as often."
            )
        self._number += 1
        return Told(kind, (a, b), payload.tobytes())

    def agree(self, word: str) -> tuple[int, int, str]:
        """Let every rank say a word, or nothing; the same answer comes to all.

        Returns
        -------
        tuple
            The first rank that said something, the first that did not (each the number of ranks
            if there is none), and what the first said.
        """
        first = self.reduce(
            [self.rank if word else self.size, self.size if word else self.rank], MPI.MIN
        )
        text = np.zeros(_TEXT, np.uint8)
        if first[0] < self.size:
            said = word.encode()[:_TEXT]
            text[: len(said)] = np.frombuffer(said, np.uint8)
            self._broadcast(text, root=first[0])
        return first[0], first[1], text.tobytes().rstrip(b"\0").decode(errors="ignore")

    def reduce(self, values: list[int], operation: MPI.Op) -> list[int]:
        """Return the values of all ranks, reduced element by element."""
        mine, out = np.array(values, np.int64), np.empty(len(values), np.int64)
        self._complete(self.comm.Iallreduce(mine, out, operation))
        return [int(x) for x in out]

    def rows_before(self, rows: int) -> tuple[int, int]:
        """Return how many rows lower ranks have, and how many all have together."""
        mine, out = np.array([rows], np.int64), np.zeros(1, np.int64)
        self._complete(self.comm.Iscan(mine, out, MPI.SUM))
        return int(out[0]) - rows, self.reduce([rows], MPI.SUM)[0]

    def _broadcast(self, array: np.ndarray[Any, Any], root: int = 0) -> None:
        if self.size > 1:
            self._complete(self.comm.Ibcast(array, root))

    def _complete(self, request: MPI.Request) -> None:
        """Poll a request until it is done, somebody fails, or the limit has passed."""
        self._calls += 1
        if request.Test():
            return
        began = clock.monotonic()
        polls = 0
        while not request.Test():
            polls += 1
            # At first the others are on their way; later a core is worth more than a microsecond.
            clock.sleep(0.0 if polls < 100 else 0.0001 if polls < 5000 else 0.001)
            if polls % 50 == 0:
                self._hear()
                self.check()
                if clock.monotonic() - began > self.limit and not self._find_missing(request):
                    began = clock.monotonic()

    # ---------------------------------------------------------------- failure

    def check(self) -> None:
        """Raise if the run is over because of another rank."""
        if self.failure:
            self._raised = True
            raise MemberFailed(self.failure)

    def fail(self, sentence: str) -> None:
        """Tell the others that this rank gives up; at the end of the process the run is aborted."""
        self._raised = True
        if not self.failure and self.size > 1:
            self.failure = sentence
            self._send_all(_Word("failed", self._calls, sentence))

    def close(self) -> None:
        """End the thread, and free the communicators after a run that went well."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if not self.failure:
            atexit.unregister(self._leave)
            with self._lock:
                MPI.Request.Waitall([r for r, _ in self._sent])
            self._control.Free()
            self.comm.Free()

    def _find_missing(self, request: MPI.Request) -> bool:
        """Ask who is where; raise if somebody is missing, return whether nobody excuses it."""
        self._here.clear()
        self._send_all(_Word("ask", self._calls))
        end = clock.monotonic() + GRACE
        while len(self._here) < self.size - 1 and clock.monotonic() < end:
            if request.Test():
                return False
            self._hear()
            self.check()
            clock.sleep(0.01)
        late, silent, excused = [], [], False
        for rank in range(self.size):
            word = self._here.get(rank)
            if rank == self.rank:
                continue
            if word is None:
                silent.append(f"rank {rank} does not answer")
            elif word.calls < self._calls:
                excused = excused or word.text.startswith("!")
                late.append(f"rank {rank} is {word.text.lstrip('!')}")
        if excused and not silent:
            return False
        who = ", ".join(late + silent) or "nobody is missing by now, but the message did not come"
        sentence = (
            f"Rank {self.rank} of {self.simulation!r} waited {self.limit:g} s at step {self.step} "
            f"for the other ranks: {who}."
        )
        self._tell("rank_missing", sentence)
        self.fail(sentence)
        raise MemberFailed(sentence)

    # ------------------------------------------------- words beside collectives

    def _send_all(self, word: _Word) -> None:
        for rank in range(self.size):
            if rank != self.rank:
                self._send(rank, word)

    def _send(self, rank: int, word: _Word) -> None:
        data = msgspec.msgpack.encode(word)
        with self._lock:
            self._sent = [(r, d) for r, d in self._sent if not r.Test()]
            self._sent.append((self._control.Isend([data, MPI.BYTE], rank), data))

    def _hear(self) -> None:
        """Take in what other ranks told, and answer their questions."""
        status = MPI.Status()
        while True:
            with self._lock:
                message = self._control.Improbe(status=status)
                if message is None:
                    return
                data = bytearray(status.Get_count(MPI.BYTE))
                message.Recv([data, MPI.BYTE])
            word = msgspec.msgpack.decode(data, type=_Word)
            source = status.Get_source()
            if word.kind == "ask":
                # An exclamation mark excuses: this rank's own wait has a limit of its own.
                text = f"!{self.busy}" if self.busy else f"still at step {self.step}"
                self._send(source, _Word("here", self._calls, text))
            elif word.kind == "here":
                self._here[source] = word
            elif word.kind == "failed":
                self.failure = self.failure or word.text
            else:
                self._gone.add(source)

    def _watch(self) -> None:
        """Answer for a rank that computes; end a rank that is stuck when the run is over."""
        while not self._ended.wait(LOOK):
            self._hear()
            if self.failure and not self._raised:
                if self._ended.wait(GRACE) or self._raised:
                    continue
                # The simulation's thread sits in a call of its own, such as an exchange with the
                # rank that failed, and will never see it.
                _log.error("%s", self.failure)
                self._leave()

    def _leave(self) -> None:
        """End all processes of a failed run, once each has said why."""
        if not self.failure:
            return
        self._send_all(_Word("gone", self._calls))
        end = clock.monotonic() + 2 * GRACE + 1.0
        while len(self._gone) < self.size - 1 and clock.monotonic() < end:
            self._hear()
            clock.sleep(0.01)
        self._control.Abort(1)
