"""What every operator must do, as checks that need no test framework.

`check_operator` runs all of them; a failed one raises `AssertionError` with a sentence that names
the operator and what it did. The parts are public too, for tests with one assertion each::

    from bridge.testing.operators import CHECKS, random_stream

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_operator(check):
        check(lambda: MyOperator(input="positions"), random_stream({"positions": (5, 3)}))

A *stream* is a list of batches, of one or several simulations, in the order in which an engine
would see them. A *maker* is a callable without arguments that returns a new operator, always with
the same parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np

from bridge.codec import decode_state, encode_state
from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator, Operator
from bridge.testing.answers import Answer, assert_same
from bridge.testing.streams import cut_again, freeze, one_by_one, random_stream, simulations_of

__all__ = [
    "CHECKS",
    "Maker",
    "check_columns",
    "check_cuts",
    "check_finite",
    "check_inputs_untouched",
    "check_operator",
    "check_prototype",
    "check_save_and_restore",
    "check_scope",
    "random_stream",
    "run_operator",
]

Maker = Callable[[], Operator]
Stream = Sequence[FrameBatch]


class _Instances:
    """The instances an engine would hold: one a simulation for a keyed operator, else one."""

    def __init__(self, prototype: Operator) -> None:
        self.prototype = prototype
        self.made: dict[str, Operator] = {}

    def of(self, simulation: str) -> Operator:
        key = simulation if self.prototype.scope == "keyed" else ""
        if key not in self.made:
            self.made[key] = copy.deepcopy(self.prototype)
        return self.made[key]

    def through_bytes(self, make: Maker) -> _Instances:
        """Return new instances that took up the states of these, as a checkpoint would."""
        other = _Instances(make())
        for key, operator in self.made.items():
            other.of(key).restore(decode_state(encode_state(operator.save())))
        return other


def _feed(instances: _Instances, stream: Stream, names: tuple[str, ...], answer: Answer) -> None:
    for batch in stream:
        context = Context("pipeline", "operator", batch.simulation, names)
        out = instances.of(batch.simulation).process(freeze(batch), context)
        # The arrays of a batch die after the call, and so do views of them.
        answer.add(None if out is None else out.copy(), context)


def run_operator(operator: Operator, stream: Stream) -> Answer:
    """Run copies of a prototype over a stream as an engine would, and collect what they answer."""
    answer = Answer()
    instances = _Instances(operator)
    names = simulations_of(stream)
    _feed(instances, stream, names, answer)
    for simulation, instance in instances.made.items():
        context = Context("pipeline", "operator", simulation, names)
        instance.finish(context)
        answer.add(None, context)
    return answer


def _run_together(operator: Operator, stream: Stream, size: int = 7) -> Answer:
    """Give a frame operator several batches at once, of one or many simulations."""
    assert isinstance(operator, FrameOperator)
    answer = Answer()
    for at in range(0, len(stream), size):
        batches = [freeze(batch) for batch in stream[at : at + size]]
        contexts = [Context("pipeline", "operator", b.simulation, (b.simulation,)) for b in batches]
        outs = operator.process_many(batches, contexts)
        assert len(outs) == len(batches), (
            f"The operator returned {len(outs)} batches for {len(batches)} given together."
        )
        for out, context in zip(outs, contexts, strict=True):
            answer.add(None if out is None else out.copy(), context)
    return answer


def check_cuts(
    make: Maker,
    stream: Stream,
    *,
    rtol: float = 1e-9,
    atol: float = 1e-11,
    seed: int = 0,
    tries: int = 3,
) -> None:
    """Assert that the answer depends on the frames and their order, not on the batches' cuts.

    Parameters
    ----------
    make, stream
        See the module.
    rtol, atol
        How far floating-point columns may be apart; all other columns must be equal.
    seed, tries
        The stream is cut again at random this many times, and once into single frames.
    """
    whole = run_operator(make(), stream)
    rng = np.random.default_rng(seed)
    cuts = [one_by_one(stream), *(cut_again(stream, rng) for _ in range(tries))]
    for number, again in enumerate(cuts):
        what = "one frame at a time" if number == 0 else f"cut at random (seed {seed}, {number})"
        assert_same(whole, run_operator(make(), again), what, rtol=rtol, atol=atol)


def check_save_and_restore(
    make: Maker,
    stream: Stream,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    seed: int = 0,
    points: int = 6,
) -> None:
    """Assert that an operator restored from bytes at any point goes on as if nothing had been.

    Also that saving changes nothing in the operator that is saved.
    """
    names = simulations_of(stream)
    whole = Answer()
    _feed(_Instances(make()), stream, names, whole)
    rng = np.random.default_rng(seed)
    for cut in sorted({0, 1, len(stream), *rng.integers(0, len(stream) + 1, points).tolist()}):
        first, stayed = Answer(), _Instances(make())
        _feed(stayed, stream[:cut], names, first)
        went = stayed.through_bytes(make)
        for instances, what in ((went, "restored"), (stayed, "saved")):
            answer = copy.copy(first)
            _feed(instances, stream[cut:], names, answer)
            assert_same(whole, answer, f"{what} after {cut} batches", rtol=rtol, atol=atol)


def check_inputs_untouched(make: Maker, stream: Stream) -> None:
    """Assert that batches go in read-only and come out as they were, columns and all."""
    instances = _Instances(make())
    names = simulations_of(stream)
    for batch in stream:
        mine = freeze(batch)
        before = mine.copy()
        context = Context("pipeline", "operator", batch.simulation, names)
        instances.of(batch.simulation).process(mine, context)
        assert list(mine.columns) == list(before.columns), (
            f"The operator changed the columns of its input batch from {list(before.columns)} to "
            f"{list(mine.columns)}; it must return a batch of its own."
        )
        for name, column in before.columns.items():
            assert np.array_equal(mine.columns[name], column), (
                f"The operator changed the values of its input column {name!r}."
            )
        for name in ("offsets", "steps", "times", "epochs"):
            assert np.array_equal(getattr(mine, name), getattr(before, name)), (
                f"The operator changed the {name} of its input batch."
            )


def check_columns(make: Maker, stream: Stream) -> None:
    """Assert that input columns and the order of rows are kept, whatever is added or taken out."""
    instances = _Instances(make())
    names = simulations_of(stream)
    added: set[str] | None = None
    for batch in stream:
        context = Context("pipeline", "operator", batch.simulation, names)
        out = instances.of(batch.simulation).process(freeze(batch), context)
        if out is None:
            continue
        assert out.simulation == batch.simulation, (
            f"A batch of {batch.simulation!r} came out as one of {out.simulation!r}."
        )
        rows = np.searchsorted(batch.offsets, out.offsets)
        found = batch.offsets[np.minimum(rows, len(batch) - 1)]
        assert np.array_equal(found, out.offsets), (
            "The operator reordered rows, or returned offsets that its input batch does not have."
        )
        assert (np.diff(out.offsets) > 0).all(), "The operator repeated rows, or reordered them."
        for name in ("steps", "times", "epochs"):
            assert np.array_equal(getattr(batch, name)[rows], getattr(out, name)), (
                f"The {name} of the returned rows are not those of the input."
            )
        for name, column in batch.columns.items():
            assert name in out, f"The operator dropped the input column {name!r}."
            assert np.array_equal(column[rows], out[name]), (
                f"The input column {name!r} came out with other values."
            )
        wrong = {k: v.shape for k, v in out.columns.items() if v.shape[:1] != (len(out),)}
        assert not wrong, f"Columns without one row for each of {len(out)} frames: {wrong}."
        new = set(out.columns) - set(batch.columns)
        assert added is None or new == added, (
            f"The operator added {sorted(added or ())} to one batch and {sorted(new)} to another."
        )
        added = new


def check_prototype(make: Maker, stream: Stream) -> None:
    """Assert that copies of a prototype share nothing, so that each may run on its own."""
    prototype = make()
    first = run_operator(prototype, stream)
    second = run_operator(prototype, stream)
    assert_same(first, second, "run a second time from the same prototype", rtol=0.0, atol=0.0)
    fresh = make()
    fresh.restore(decode_state(encode_state(make().save())))
    third = run_operator(fresh, stream)
    assert_same(first, third, "restored from the state of a new one", rtol=0.0, atol=0.0)


def check_finite(make: Maker, stream: Stream) -> None:
    """Assert that finite frames give finite columns, also before there is enough data."""
    for batch in run_operator(make(), stream).batches:
        for name, column in batch.columns.items():
            if column.dtype.kind in "fc":
                bad = ~np.isfinite(column).reshape(len(batch), -1).all(axis=1)
                assert not bad.any(), (
                    f"Column {name!r} of {batch.simulation!r} has values that are not finite, "
                    f"first at offset {batch.offsets[bad][0]}."
                )


def check_scope(
    make: Maker, stream: Stream, *, rtol: float = 1e-9, atol: float = 1e-11, seed: int = 0
) -> None:
    """Assert that the operator uses no more than its declared scope lets it see.

    A frame operator gives each frame the same columns whichever frames come with it, also in
    batches of other simulations (`FrameOperator.process_many`); a keyed one
    gives a simulation the same columns whatever other simulations do; a global one may use all.
    """
    operator = make()
    assert operator.scope in ("frame", "keyed", "global"), (
        f"The operator has the unknown scope {operator.scope!r}."
    )
    whole = run_operator(operator, stream)
    if operator.scope == "frame":
        assert not operator.save(), "A frame operator has no state, but this one saved some."
        rng = np.random.default_rng(seed)
        rows = [np.flatnonzero(rng.random(len(batch)) < 0.5) for batch in stream]
        few = [b.take(r) for b, r in zip(stream, rows, strict=True) if len(r)]
        kept = {(b.simulation, int(o)) for b in few for o in b.offsets}
        part = run_operator(make(), few)
        assert_same(whole.only(kept), part, "given some of the rows", rtol=rtol, atol=atol)
        together = _run_together(make(), stream)
        assert_same(whole, together, "given with others", rtol=rtol, atol=atol, said=False)
    elif operator.scope == "keyed":
        for name in simulations_of(stream):
            alone = run_operator(make(), [b for b in stream if b.simulation == name])
            kept = {(name, int(o)) for b in stream if b.simulation == name for o in b.offsets}
            assert_same(
                whole.only(kept), alone, f"given {name!r} alone", rtol=rtol, atol=atol, said=False
            )


def check_operator(
    make: Maker,
    stream: Stream,
    *,
    rtol: float = 1e-9,
    atol: float = 1e-11,
    seed: int = 0,
) -> None:
    """Run every check of this module.

    Parameters
    ----------
    make
        Returns a new operator, always with the same parameters.
    stream
        Batches in the order in which an engine would see them; best of several simulations in
        turn, with restarts and gaps, and long enough that the operator does all that it does.
    rtol, atol
        How far floating-point columns may be apart between different cuts.
    seed
        Where to cut.

    Raises
    ------
    AssertionError
        With a sentence that says what the operator did wrong.
    """
    check_columns(make, stream)
    check_inputs_untouched(make, stream)
    check_finite(make, stream)
    check_prototype(make, stream)
    check_cuts(make, stream, rtol=rtol, atol=atol, seed=seed)
    check_save_and_restore(make, stream, seed=seed)
    check_scope(make, stream, rtol=rtol, atol=atol, seed=seed)


CHECKS: tuple[Callable[[Maker, Stream], None], ...] = (
    check_columns,
    check_cuts,
    check_finite,
    check_inputs_untouched,
    check_prototype,
    check_save_and_restore,
    check_scope,
)
"""All checks, to parametrise tests with."""
