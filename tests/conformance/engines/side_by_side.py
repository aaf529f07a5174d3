"""Many operators in one pipeline, each as if it were alone: for engines that are slow to start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.frames import FrameBatch
from bridge.pipeline import (
    Context,
    FrameOperator,
    GlobalOperator,
    KeyedOperator,
    Operator,
    Pipeline,
)

__all__ = ["side_by_side"]


class _Beside(Operator):
    """Gives an operator the stream's own columns, and its answers names of their own."""

    def __init__(self, name: str, inner: Operator, columns: tuple[str, ...]) -> None:
        self.name = name
        self.inner = inner
        self.columns = columns

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        """Add what the operator adds or replaces, under its name."""
        alone = batch.select(self.columns)
        out = self.inner.process(alone, context)
        assert out is not None
        assert len(out) == len(batch)
        added = {
            f"{self.name}.{key}": column
            for key, column in out.columns.items()
            if key not in self.columns or column is not alone.columns[key]
        }
        return batch.with_columns(added)

    def reads(self) -> tuple[str, ...] | None:
        """What the operator itself reads."""
        return self.inner.reads() and self.columns

    def save(self) -> dict[str, Any]:
        """The operator's own state."""
        return self.inner.save()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take it up."""
        self.inner.restore(state)

    def finish(self, context: Context) -> None:
        """Pass it on."""
        self.inner.finish(context)


class _BesideFrame(_Beside, FrameOperator):
    """Without a state."""


class _BesideKeyed(_Beside, KeyedOperator):
    """One a simulation."""


class _BesideGlobal(_Beside, GlobalOperator):
    """One for all."""


_KINDS: dict[str, type[_Beside]] = {
    "frame": _BesideFrame,
    "keyed": _BesideKeyed,
    "global": _BesideGlobal,
}


def side_by_side(
    name: str, operators: Mapping[str, Operator], columns: tuple[str, ...]
) -> Pipeline:
    """Return a pipeline in which no operator sees what another adds."""
    order = ("frame", "keyed", "global")
    pairs = sorted(operators.items(), key=lambda pair: order.index(pair[1].scope))
    return Pipeline(name, [(key, _KINDS[inner.scope](key, inner, columns)) for key, inner in pairs])
