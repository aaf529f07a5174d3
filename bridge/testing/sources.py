"""A simulation to test with: it plays a script of frames, pauses, aborts and an end.

::

    from bridge.testing.sources import ABORT, END, PAUSE, ScriptedSource, make_frames

    frames = make_frames("walker", 300, {"positions": (22, 3)})
    source = ScriptedSource(
        "walker", [frames.take(slice(0, 100)), PAUSE, frames.take(slice(100, 200)), ABORT,
        frames.take(slice(200, 300)), END], address=stager.address,
    )
    with source:                   # plays in a thread
        source.wait_until_paused()
        ...                        # the engine has seen 100 frames at most
        source.resume()
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from types import TracebackType

import numpy as np
import numpy.typing as npt

from bridge.commands import Acknowledgement, Capability, Command
from bridge.frames import FrameBatch
from bridge.schema import StreamSchema
from bridge.staging.messages import StreamOptions
from bridge.staging.producer import Producer

__all__ = ["ABORT", "END", "PAUSE", "ScriptedSource", "Signal", "make_frames"]


class Signal(Enum):
    """What a script may hold besides frames."""

    PAUSE = "pause"
    ABORT = "abort"
    END = "end"


PAUSE = Signal.PAUSE
"""Everything put so far is stored; then nothing comes until `ScriptedSource.resume` is called."""

ABORT = Signal.ABORT
"""The simulation goes away without a word of an end; what follows is put by a new incarnation."""

END = Signal.END
"""The stream has ended; what follows in the script is put by a new incarnation all the same."""


def make_frames(
    simulation: str,
    frames: int,
    columns: Mapping[str, tuple[int, ...]],
    *,
    dtype: npt.DTypeLike = np.float32,
    seed: int = 0,
) -> FrameBatch:
    """Make frames of normally distributed numbers.

    Parameters
    ----------
    simulation
        Name; it enters the random numbers, so that simulations differ.
    frames
        How many.
    columns
        Name to shape in one frame.
    dtype
        Floating-point type of the columns.
    seed
        Of the random numbers.
    """
    rng = np.random.default_rng([seed, *simulation.encode()])
    return FrameBatch.from_arrays(
        simulation,
        {name: rng.normal(size=(frames, *shape)).astype(dtype) for name, shape in columns.items()},
        steps=np.arange(frames) * 10,
    )


class ScriptedSource:
    """Plays a script into staging, and answers the commands that come.

    Frames keep their steps, times and epochs; offsets are the stream's. A script begun on a stream
    that holds frames already skips those whose steps are not later.

    Parameters
    ----------
    simulation
        Name of the simulation.
    script
        Batches of frames, and signals.
    address
        Where the stager listens.
    options
        How the stager keeps the stream.
    capabilities
        What the simulation declares.
    obey
        Acknowledge every command as applied at the last step; a stop ends the stream. If false,
        commands are only collected.
    answered
        Ids of commands that lives before this script answered. Commands come again after a stager
        or a simulation was started anew; like any adapter, this one answers each once.
    time_limit
        Seconds that a pause or a put may take; `join` waits a little more than twice as long.
    """

    def __init__(
        self,
        simulation: str,
        script: Sequence[FrameBatch | Signal],
        *,
        address: str,
        options: StreamOptions | None = None,
        capabilities: Sequence[Capability] = (),
        obey: bool = True,
        time_limit: float = 30.0,
        answered: Iterable[str] = (),
    ) -> None:
        self.simulation = simulation
        self.commands: list[Command] = []
        self._script = list(script)
        self._address = address
        self._options = options
        self._capabilities = tuple(capabilities)
        self._obey = obey
        self._time_limit = time_limit
        self._answered = set(answered)
        self._changed = threading.Condition()
        self._paused = 0
        self._resumed = 0
        self._stopped = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------- play

    def play(self) -> None:
        """Play the whole script in this thread; blocks at pauses."""
        producer: Producer | None = None
        step = 0
        try:
            for item in self._script:
                if self._stopped:
                    break
                if isinstance(item, FrameBatch):
                    producer = producer or self._open(item)
                    step = self._put(producer, item)
                elif producer is None:
                    if item is PAUSE:
                        self._pause(None, step)
                elif item is PAUSE:
                    self._pause(producer, step)
                else:
                    producer.close(finished=item is END)
                    producer = None
            if producer is not None:
                producer.close(finished=self._stopped)
        except BaseException:
            if producer is not None:
                producer.close(timeout=1.0, finished=False)
            raise

    def _open(self, batch: FrameBatch) -> Producer:
        schema = StreamSchema.from_arrays({k: v[0] for k, v in batch.columns.items()})
        return Producer(
            self.simulation,
            schema,
            address=self._address,
            options=self._options,
            capabilities=self._capabilities,
            timeout=self._time_limit,
        )

    def _put(self, producer: Producer, batch: FrameBatch) -> int:
        new = batch.take(batch.steps > producer.resumed.last_step)
        step = producer.resumed.last_step
        for frame in new:
            self._answer(producer, step)
            if self._stopped:
                break
            producer.put(frame.step, frame.time, dict(frame.values), epoch=frame.epoch)
            step = frame.step
        return step

    def _pause(self, producer: Producer | None, step: int) -> None:
        if producer is not None:
            producer.flush()
        with self._changed:
            self._paused += 1
            self._changed.notify_all()
        # Commands come while the simulation does nothing else, too.
        for _ in range(int(self._time_limit / 0.02)):
            with self._changed:
                if self._changed.wait_for(
                    lambda: self._resumed >= self._paused or self._stopped, 0.02
                ):
                    return
            if producer is not None:
                self._answer(producer, step)
        raise TimeoutError(
            f"Nobody resumed {self.simulation!r}, which has paused {self._time_limit:.0f} s."
        )

    def _answer(self, producer: Producer, step: int) -> None:
        for command in producer.commands():
            if command.id in self._answered:
                continue
            self.commands.append(command)
            if self._obey:
                self._answered.add(command.id)
                producer.acknowledge(
                    Acknowledgement(command.id, self.simulation, "applied", step=step)
                )
                self._stopped |= command.kind == "stop"

    # ---------------------------------------------------------------- control

    def start(self) -> ScriptedSource:
        """Play the script in a thread."""
        self._thread = threading.Thread(
            target=self._run, name=f"source-{self.simulation}", daemon=True
        )
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self.play()
        except BaseException as error:
            self._failure = error
        finally:
            with self._changed:
                self._changed.notify_all()

    def wait_until_paused(self, number: int = 1) -> None:
        """Wait for the script's pause of that number, counted from 1.

        Raises
        ------
        TimeoutError
            If it does not come within the time limit.
        """
        with self._changed:
            came = self._changed.wait_for(
                lambda: self._paused >= number or self._failure is not None, self._time_limit
            )
        if self._failure is not None:
            raise self._failure
        if not came:
            raise TimeoutError(f"{self.simulation!r} did not come to its pause {number}.")

    def resume(self) -> None:
        """Let the source go on from its present, or next, pause."""
        with self._changed:
            self._resumed += 1
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the end of the script, and raise what went wrong in it.

        Raises
        ------
        TimeoutError
            If it does not end within the time limit.
        """
        if self._thread is not None:
            # A pause or a put at its own limit speaks for itself.
            self._thread.join(2.0 * self._time_limit + 1.0)
            if self._thread.is_alive():
                raise TimeoutError(f"The script of {self.simulation!r} has not ended.")
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> ScriptedSource:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
        if kind is None:
            self.join()
