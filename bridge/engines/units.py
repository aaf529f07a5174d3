"""Units of what a pipeline reads and makes, from what simulations declare and operators say."""

from __future__ import annotations

from typing import Protocol

from bridge.errors import UnknownTopic
from bridge.pipeline import Pipeline
from bridge.schema import StreamSchema

__all__ = ["Units"]


class _Schemas(Protocol):
    def schema(self, simulation: str) -> StreamSchema: ...


class Units:
    """Units of columns, learned from the first simulation that comes.

    Numbers of simulations with other units could not be held against each other anyway.

    Parameters
    ----------
    *pipelines
        Whose operators say what unit their columns have; in the order in which they run.

    Attributes
    ----------
    columns
        Column to unit, those of the stream included; without those that have none.
    time
        Unit of the frames' time; empty if unknown.
    known
        Whether a simulation was asked.
    """

    def __init__(self, *pipelines: Pipeline) -> None:
        self.columns: dict[str, str] = {}
        self.time = ""
        self.known = False
        self._operators = [operator for p in pipelines for _, operator in p.operators]
        self._made: set[str] = set()

    def learn(self, client: _Schemas, simulation: str) -> None:
        """Ask what a simulation declared, unless one was asked before."""
        if self.known:
            return
        try:
            schema = client.schema(simulation)
        except UnknownTopic:
            return
        columns = {v.name: v.unit for v in schema.variables if v.unit}
        made: set[str] = set()
        for operator in self._operators:
            found = operator.column_units(columns)
            made.update(found)
            columns = {**columns, **found}
        self._made = made
        self.columns = {name: unit for name, unit in columns.items() if unit}
        self.time = schema.time_unit
        self.known = True

    def of_results(self) -> dict[str, str]:
        """Return the units of what operators made, empty ones left out."""
        return {name: unit for name, unit in self.columns.items() if name in self._made}
