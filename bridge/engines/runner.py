"""What every engine does with a batch: quarantine, operators, numbering of commands, state.

A runner knows nothing of staging, sockets or files. An engine that runs the whole pipeline in one
place makes one runner; one that spreads the stages makes a runner for each stage, with `scopes`,
and hands the batch of one to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.codec import decode_state, encode_state
from bridge.engines.calling import Begun, Caller, takes_many
from bridge.engines.outcome import Outcome, number_commands, select_inputs, select_results
from bridge.engines.protocol import OnError
from bridge.engines.units import Units
from bridge.errors import OperatorFailed, PipelineError
from bridge.frames import FrameBatch
from bridge.pipeline import BlockOperator, Operator, Pipeline, Scope

__all__ = ["SCOPES", "Runner"]

SCOPES: tuple[Scope, ...] = ("frame", "keyed", "global")


class Runner:
    """Runs the operators of a pipeline, or of some of its stages, over batches.

    Results and commands depend on the frames, their order and, with global operators, the order in
    which simulations take turns; not on how the streams are cut into batches (if the operators
    keep to that). One thread at a time may use it.

    Parameters
    ----------
    pipeline
        Its operators are prototypes, which the runner copies: one of each frame and global
        operator, one of each keyed operator for each simulation.
    scopes
        Stages to run here.
    final
        Whether results are selected here. By default, where the global stage runs.
    on_error
        ``stop``: raise `OperatorFailed`. ``skip``: set the frames aside and tell so. A frame
        operator is then tried frame by frame, so that only the frames it fails on are lost; one
        with a state loses the batch, and what the failed call did to its state stays. A column that
        is missing is a mistake in the pipeline, not in a frame, and stops it all the same.
    units
        For what operators tell people; those of this pipeline by default.

    Attributes
    ----------
    seconds
        Operator to time spent in it, in seconds.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        scopes: Sequence[Scope] = SCOPES,
        final: bool | None = None,
        on_error: OnError = "stop",
        units: Units | None = None,
    ) -> None:
        self.units = Units(pipeline) if units is None else units
        self.pipeline = pipeline
        self.scopes = tuple(scope for scope in SCOPES if scope in scopes)
        self.final = "global" in self.scopes if final is None else final
        self.on_error = on_error
        self.seconds: dict[str, float] = {}
        self._shared: dict[Scope, list[tuple[str, Operator]]] = {
            scope: pipeline.fresh(scope) for scope in self.scopes if scope != "keyed"
        }
        self._keyed: dict[str, list[tuple[str, Operator]]] = {}
        self._caller = Caller(pipeline.name, self.seconds, on_error, self.units)
        self._has_keyed = "keyed" in self.scopes and bool(pipeline.stages()["keyed"])
        # Before the first simulation comes, and again whenever one does: the chain to go through.
        self._chains: dict[str, list[tuple[str, Operator]]] = {}
        # Simulation, or nothing for what all share, to operator to bytes of its saved state.
        self._sizes: dict[str, dict[str, int]] = {}
        for scope in self.scopes:
            for name, _ in pipeline.stages()[scope]:
                self.seconds[name] = 0.0

    # ---------------------------------------------------------------- batches

    @property
    def gathers(self) -> bool:
        """Whether a frame operator is better given batches of many simulations at once."""
        return any(takes_many(operator) for _, operator in self._shared.get("frame", ()))

    @property
    def in_blocks(self) -> bool:
        """Whether an operator gains by the blocks of several ranks as they were written."""
        return any(
            isinstance(operator, BlockOperator) and operator.wants_blocks()
            for _, operator in self._shared.get("frame", ())
        )

    def process(
        self,
        batch: FrameBatch,
        simulations: tuple[str, ...] = (),
        *,
        span: tuple[int, int] | None = None,
        variables: Sequence[str] | None = None,
        begun: Begun | None = None,
    ) -> Outcome:
        """Run the operators over one batch.

        Parameters
        ----------
        batch
            Of one simulation; its frames follow those that this runner saw of it before.
        simulations
            Names of all simulations known, sorted, for the global operators that ask.
        span
            First offset, and the one after the last, of the frames that the batch stands for, where
            an earlier stage took frames out, perhaps all of them.
        variables
            Columns that the stream itself has, where an earlier stage added others.
        begun
            What `begin` returned for this batch: the frame operators are done with it.

        Raises
        ------
        OperatorFailed
            If an operator raised (and `on_error` is ``stop``). The states of operators are then
            not to be trusted: go back to a saved one.
        PipelineError
            If the stream lacks an input, or no column of the name of an output came about.
        """
        if begun is None:
            begun, skip = self._enter(batch, span), 0
        elif begun.error is not None:
            raise begun.error
        else:
            skip = len(self._shared.get("frame", ()))
        outcome, current = begun.outcome, begun.batch
        for name, operator in self._chain(batch.simulation)[skip:]:
            if current is None or not len(current.offsets):
                break
            others = simulations if operator.scope == "global" else (batch.simulation,)
            context = self._caller.context(name, batch.simulation, others)
            current = self._caller.call(name, operator, current, context, outcome)
        if current is not None and len(current.offsets):
            outcome.batch = current
            outcome.variables = begun.variables if variables is None else tuple(variables)
            if self.final:
                outcome.results = select_results(self.pipeline, current, outcome.variables)
        return outcome

    def begin(self, batches: Sequence[FrameBatch]) -> list[Begun]:
        """Run the frame operators over batches of any simulations, together where they can.

        Returns
        -------
        list of Begun
            For each batch, what `process` goes on from; a failure is raised there. Who does not
            come to that may drop it: frame operators have no state.
        """
        out = []
        for batch in batches:
            try:
                out.append(self._enter(batch, None))
            except PipelineError as error:
                out.append(Begun(Outcome(batch.simulation, batch.first, batch.stop), error=error))
        for name, operator in self._shared.get("frame", ()):
            self._caller.call_together(name, operator, out)
        return out

    def _enter(self, batch: FrameBatch, span: tuple[int, int] | None) -> Begun:
        first, stop = span or (batch.first, batch.stop)
        begun = Begun(Outcome(batch.simulation, first, stop), batch)
        if "frame" in self.scopes and len(batch.offsets):
            batch = select_inputs(self.pipeline, batch)
            begun.batch = self._caller.screen(batch, batch.columns, begun.outcome, "", "the input")
        begun.variables = tuple(batch.columns)
        return begun

    # -------------------------------------------------------------- instances

    def _chain(self, simulation: str) -> list[tuple[str, Operator]]:
        chain = self._chains.get(simulation)
        if chain is None:
            keyed: list[tuple[str, Operator]] = []
            if self._has_keyed:
                keyed = self._keyed.setdefault(simulation, self.pipeline.fresh("keyed"))
            chain = [
                *self._shared.get("frame", ()),
                *keyed,
                *self._shared.get("global", ()),
            ]
            self._chains[simulation] = chain
        return chain

    def finish_simulation(
        self, simulation: str, position: int, simulations: tuple[str, ...] = ()
    ) -> Outcome:
        """Tell the keyed operators of one simulation that it has ended, and let go of them.

        Parameters
        ----------
        simulation
            Which one.
        position
            Offset after its last frame; what is decided now is numbered by it.
        simulations
            Names of all simulations known.
        """
        outcome = Outcome(simulation, position, position + 1)
        self._chains.pop(simulation, None)
        self._sizes.pop(simulation, None)
        self._finish(self._keyed.pop(simulation, []), outcome, simulations)
        return outcome

    def finish(self, position: int, simulations: tuple[str, ...] = ()) -> Outcome:
        """Tell all other operators that no more frames will come.

        Parameters
        ----------
        position
            A number that grows with what was analysed, such as the sum of all positions.
        simulations
            Names of all simulations known.
        """
        outcome = Outcome("", position, position + 1)
        for scope in ("frame", "global"):
            self._finish(self._shared.get(scope, []), outcome, simulations)
        return outcome

    def _finish(
        self,
        operators: list[tuple[str, Operator]],
        outcome: Outcome,
        simulations: tuple[str, ...],
    ) -> None:
        for name, operator in operators:
            context = self._caller.context(name, outcome.simulation, simulations)
            try:
                operator.finish(context)
            except Exception as error:
                said = str(error).rstrip(".")
                raise OperatorFailed(
                    f"Operator {name!r} of pipeline {self.pipeline.name!r} failed at the end of "
                    f"{outcome.simulation or 'the run'!r}: {type(error).__name__}: {said}."
                ) from error
            outcome.commands += number_commands(context, outcome.first)
            outcome.events += context.events

    def operator(self, name: str) -> Any:
        """Return this runner's instance of a frame or global operator."""
        return next(o for pairs in self._shared.values() for n, o in pairs if n == name)

    # ------------------------------------------------------------------ state

    def save_keyed(self, simulation: str) -> bytes:
        """Return the states of one simulation's keyed operators."""
        state: dict[str, Any] = {}
        sizes = {}
        for name, operator in self._keyed.get(simulation, ()):
            state[name], sizes[name] = _saved(operator)
        self._sizes[simulation] = sizes
        return encode_state(state)

    def states_of(self, simulation: str) -> dict[str, int]:
        """Return the bytes of each keyed operator's state of one simulation, when last saved."""
        return dict(self._sizes.get(simulation, {}))

    def states(self) -> dict[str, int]:
        """Return the bytes of each operator's state, of all simulations, when last saved."""
        out: dict[str, int] = {}
        for sizes in list(self._sizes.values()):
            for name, size in sizes.items():
                out[name] = out.get(name, 0) + size
        return out

    def restore_keyed(self, simulation: str, data: bytes | bytearray | memoryview) -> None:
        """Take up what `save_keyed` returned, in a runner of the same pipeline.

        Raises
        ------
        PipelineError
            If it belongs to another pipeline, or an operator refuses its state.
        CorruptData
            If the bytes are damaged.
        """
        state = decode_state(data)
        names = [name for name, _ in self.pipeline.stages()["keyed"]]
        if state and sorted(state) != sorted(names):
            raise PipelineError(
                f"The saved state of {simulation!r} belongs to another pipeline: it has the keyed "
                f"operators {', '.join(state)}, this one {', '.join(names) or '(none)'}. Give the "
                "pipeline another name, or begin anew without the saved state."
            )
        self.forget(simulation)
        self._chain(simulation)
        self._sizes[simulation] = {
            name: self._restore_operator(name, operator, state[name])
            for name, operator in self._keyed.get(simulation, ())
            if name in state
        }

    def forget(self, simulation: str) -> None:
        """Let go of the keyed operators of one simulation."""
        self._chains.pop(simulation, None)
        self._keyed.pop(simulation, None)
        self._sizes.pop(simulation, None)

    @property
    def fingerprint(self) -> list[str]:
        """Names and classes of the operators, which a saved state must fit."""
        chosen = [pair for scope in self.scopes for pair in self.pipeline.stages()[scope]]
        return [f"{name}={type(operator).__qualname__}" for name, operator in chosen]

    def save(self) -> bytes:
        """Return the states of all operators."""
        state: dict[str, Any] = {"fingerprint": self.fingerprint}
        sizes: dict[str, dict[str, int]] = {}
        for key, operator in self._instances():
            state[key], size = _saved(operator)
            _note(sizes, key, size)
        self._sizes = sizes
        return encode_state(state)

    def restore(self, data: bytes | bytearray | memoryview) -> None:
        """Take up what `save` returned, in a runner of the same pipeline.

        Raises
        ------
        PipelineError
            If it belongs to another pipeline, or an operator refuses its state.
        CorruptData
            If the bytes are damaged.
        """
        state: Mapping[str, Any] = decode_state(data)
        theirs = state.get("fingerprint")
        if theirs != self.fingerprint:
            raise PipelineError(
                f"The saved state belongs to another pipeline: it has the operators "
                f"{', '.join(theirs or ['(none)'])}, this one {', '.join(self.fingerprint)}. "
                "Give the pipeline another name, or remove its checkpoint to begin anew."
            )
        self._keyed.clear()
        self._chains.clear()
        for key in state:
            scope, _, rest = key.partition(" ")
            if scope == "keyed":
                self._chain(rest.partition(" ")[2])
        sizes: dict[str, dict[str, int]] = {}
        for key, operator in self._instances():
            _note(sizes, key, self._restore_operator(key.split(" ")[1], operator, state[key]))
        self._sizes = sizes

    def _restore_operator(self, name: str, operator: Operator, data: Any) -> int:
        """Give an operator its state back, and return how many bytes that is."""
        try:
            state = decode_state(memoryview(data))
            size = len(data) if state else 0
            operator.restore(state)
        except Exception as error:
            raise PipelineError(
                f"Operator {name!r} of pipeline {self.pipeline.name!r} cannot take up its "
                f"saved state: {type(error).__name__}: {str(error).rstrip('.')}. If its "
                "parameters were changed, remove the checkpoint to begin anew."
            ) from error
        return size

    def _instances(self) -> list[tuple[str, Operator]]:
        out = [
            (f"{scope} {name}", operator)
            for scope, operators in self._shared.items()
            for name, operator in operators
        ]
        for simulation, operators in self._keyed.items():
            out += [(f"keyed {name} {simulation}", operator) for name, operator in operators]
        return out


def _saved(operator: Operator) -> tuple[npt.NDArray[np.uint8], int]:
    """Return the state of an operator, and its bytes; 0 if it keeps nothing."""
    state = operator.save()
    data = np.frombuffer(encode_state(state), np.uint8)
    return data, len(data) if state else 0


def _note(sizes: dict[str, dict[str, int]], key: str, size: int) -> None:
    scope, name, *simulation = key.split(" ", 2)
    if scope != "frame":
        sizes.setdefault("".join(simulation), {})[name] = size
