"""From the steps of one or several ADIOS2 streams to the arrays of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bridge.errors import ProtocolError, SchemaError
from bridge.schema import StreamSchema, Variable
from bridge.transports.adios.assembling import assemble, clear_rows, stored_view
from bridge.transports.adios.library import stored_as
from bridge.transports.adios.mapping import StreamMapping
from bridge.transports.adios.openpmd import find_openpmd, iterations_of
from bridge.transports.adios.pieces import Piece, find_pieces
from bridge.transports.adios.plan import Field, Plan, make_plan
from bridge.transports.adios.source import Found, Source

__all__ = ["Head", "Reader"]

Array = npt.NDArray[Any]

PARTICLES = "n_particles"
"""Variable that tells how many rows have a particle, where that changes."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a step says about itself."""

    step: int
    """The simulation's step."""
    time: float
    """Its time, in the schema's unit."""
    epoch: int | None
    """Its epoch; None if the stream does not tell."""
    iteration: int | None = None
    """Number of the iteration, where names of variables hold it."""


class Reader:
    """Reads the present step of all sources as one frame.

    Parameters
    ----------
    sources
        Streams of one simulation, in the order of its ranks; each in its first step.
    mapping
        What is told of their variables.

    Raises
    ------
    ConfigError, ProtocolError, SchemaError
        If the streams, the mapping and the rules for schemas do not fit together.
    """

    def __init__(self, sources: Sequence[Source], mapping: StreamMapping) -> None:
        self._sources = list(sources)
        first = self._sources[0]
        self.plan: Plan = make_plan(first, mapping, find_openpmd(first, mapping.species))
        self._scalars: dict[str, Array] = {}
        iterations = self.iterations(first)
        self._iteration = iterations[0] if iterations else None
        self._rows: set[str] = set()
        self._lead = self._lead_variable = ""
        self._n = 0
        self.schema = self._describe(mapping)
        self._direct = {f.name: self._is_direct(f) for f in self.plan.fields}
        self._steady = not (
            len(sources) > 1 or self.plan.ids or self.plan.capacity or self.plan.iterations
        )
        # Looked up once, as each look-up comes with cold caches: what ADIOS2 writes right into the
        # rows, if that is all there is to do.
        plain = self._steady and all(self._direct.values())
        plain = plain and all(f.scale == 1.0 for f in self.plan.fields)
        self._plain = [
            (f.name, f.variables[0], self.schema.variable(f.name))
            for f in self.plan.fields
            if plain and f.sources
        ]

    # ------------------------------------------------------------------ schema

    def _describe(self, mapping: StreamMapping) -> StreamSchema:
        plan, first = self.plan, self._sources[0]
        local = {f.name: self._local_shape(first, f) for f in plan.fields}
        self._lead = self._find_lead(local)
        self._lead_variable = next(
            (f.variables[0] for f in plan.fields if f.name == self._lead), ""
        )
        self._rows = self._find_rows(local)
        self._n = sum(p.count for p in self._pieces())
        rows = plan.capacity or self._n
        variables = []
        for f in plan.fields:
            shape = local[f.name][0]
            if f.name in self._rows:
                shape = (rows, *shape[1:])
            dtype = f.dtype or local[f.name][1].str
            variables.append(Variable(f.name, dtype, shape, f.unit, description=f.description))
        if plan.capacity:
            note = "Rows that have a particle."
            variables.append(Variable(PARTICLES, "<i8", description=note))
        own = plan.schema
        if own is not None and not plan.capacity and len(self._sources) == 1:
            return msgspec.structs.replace(own, n_ranks=1, attributes=plan.attributes)
        attributes = {"source": f"ADIOS2 {first.engine}", **plan.attributes}
        if len(self._sources) > 1:
            attributes["writers"] = str(len(self._sources))
        return StreamSchema(
            tuple(variables),
            time_unit=plan.time_unit,
            topology=plan.topology,
            selection="" if own is None else own.selection,
            attributes=attributes,
        )

    def _local_shape(self, source: Source, field: Field) -> tuple[tuple[int, ...], np.dtype[Any]]:
        found = [self._need(source, name) for name in field.variables]
        kinds = [f.dtype for f in found if f.dtype is not None]
        dtype = np.result_type(*kinds) if kinds else np.dtype("<f8")
        if field.scale != 1.0 and dtype.kind not in "fc":
            dtype = np.dtype("<f8")
        if field.dtype:
            return tuple(field.shape or ()), np.dtype(field.dtype)
        shape = found[0].shape
        if len(field.sources) > 1:
            shapes = {f.shape for f in found}
            if len(shapes) > 1 or len(shape) > 1:
                raise SchemaError(
                    f"The variables {', '.join(field.variables)}, which are joined as columns of "
                    f"{field.name!r}, have the shapes {sorted(shapes)}; they must have one axis "
                    "of the same length, or none."
                )
            shape = (*shape, len(field.sources))
        if field.columns:
            if len(shape) != 2 or max(field.columns) >= shape[1] or min(field.columns) < 0:
                raise SchemaError(
                    f"Columns {list(field.columns)} of {field.sources[0]!r} were asked for; it has "
                    f"shape {shape}."
                )
            shape = (shape[0], len(field.columns)) if len(field.columns) > 1 else shape[:1]
        if field.diagonal:
            if len(shape) != 1:
                raise SchemaError(f"A diagonal has one axis; {field.name!r} has shape {shape}.")
            shape = (shape[0], shape[0])
        if field.shape is not None:
            if np.prod(field.shape) != np.prod(shape):
                raise SchemaError(
                    f"The variable {field.name!r} has shape {shape}, which is no other form of "
                    f"{field.shape}."
                )
            shape = field.shape
        return shape, dtype

    def _find_lead(self, local: Mapping[str, Any]) -> str:
        """Return the field whose first axis counts the particles; empty if there is none."""
        able = [f for f in self.plan.fields if self._may_be_rows(f, local)]
        for f in able:
            if f.name == "positions":
                return f.name
        sized = [(int(np.prod(local[f.name][0])), f.name) for f in able]
        return max(sized, key=lambda s: s[0])[1] if sized else ""

    def _may_be_rows(self, field: Field, local: Mapping[str, Any]) -> bool:
        changed = field.whole or field.diagonal or (field.shape is not None and not field.dtype)
        return bool(not changed and local[field.name][0] and field.variables)

    def _find_rows(self, local: Mapping[str, Any]) -> set[str]:
        if not self._lead:
            return set()
        out = set()
        counts = [self._need(s, self._lead_variable).shape[0] for s in self._sources]
        for f in self.plan.fields:
            if not self._may_be_rows(f, local):
                continue
            shapes = [self._need(s, f.variables[0]).shape for s in self._sources]
            if all(s and s[0] == n for s, n in zip(shapes, counts, strict=True)):
                out.add(f.name)
        return out

    def _is_direct(self, field: Field) -> bool:
        """Whether ADIOS2 can write right into the frame's array."""
        if not field.sources:
            return True
        if len(field.sources) > 1 or field.columns or field.plus or field.diagonal:
            return False
        if self.plan.ids and field.name in self._rows:
            return False
        variable = self.schema.variable(field.name)
        stored, _ = stored_as(variable.numpy_dtype, variable.shape)
        found = self._need(self._sources[0], field.variables[0])
        return found.dtype == stored

    def _need(self, source: Source, name: str) -> Found:
        name = self._resolve(name)
        found = source.find(name)
        if found is None or found.dtype is None:
            raise ProtocolError(
                f"A step of {source.described} lacks the variable {name!r}, which other steps or "
                f"streams have; it has {', '.join(source.names()) or 'none'}. All frames hold the "
                "same: in a mapping, name the variables that every step has."
            )
        return found

    def _resolve(self, name: str) -> str:
        return name if self._iteration is None else name.replace("%T", str(self._iteration), 1)

    # -------------------------------------------------------------------- heads

    def iterations(self, source: Source) -> list[int]:
        """Return the iterations in the present step; none where names do not change with them."""
        return iterations_of(source.names()) if self.plan.iterations else []

    def head(self, index: int, iteration: int | None = None) -> Head:
        """Return what the present step of a source says about itself."""
        source = self._sources[index]
        self._iteration = iteration
        values = self._ask_head(source)
        if values:
            source.read()
        return self._make_head(source, values, iteration)

    def _ask_head(self, source: Source) -> dict[str, Array]:
        plan = self.plan
        names = (plan.step, plan.time, plan.epoch)
        return {name: self._ask_value(source, name) for name in names if name}

    def _make_head(
        self, source: Source, values: Mapping[str, Array], iteration: int | None
    ) -> Head:
        plan = self.plan
        if plan.step:
            step = int(values[plan.step][0])
        elif iteration is not None:
            step = iteration
        else:
            told = source.attribute(plan.snapshot) if plan.snapshot else None
            step = source.number if told is None else int(np.ravel(told)[0])
        return Head(
            step,
            self._time(source, values, step),
            int(values[plan.epoch][0]) if plan.epoch else None,
            iteration,
        )

    def _time(self, source: Source, values: Mapping[str, Array], step: int) -> float:
        plan = self.plan
        if plan.time:
            return float(values[plan.time][0]) * plan.time_scale
        if plan.time_attribute:
            found = source.attribute(self._resolve(plan.time_attribute))
            if found is not None:
                return float(np.ravel(found)[0])
        return step * plan.dt if plan.dt else float(step)

    def _ask_value(self, source: Source, name: str) -> Array:
        name = self._resolve(name)
        # What it is does not change; looking again would cost more than reading it.
        out = self._scalars.get(name)
        if out is None:
            found = self._need(source, name)
            if found.shape not in ((), (1,)):
                raise SchemaError(
                    f"The variable {name!r} of {source.described} tells step, time or epoch and "
                    f"has shape {found.shape}; it must be one number."
                )
            out = np.zeros(1, found.dtype)
            if self._iteration is None:
                self._scalars[name] = out
        if not source.ask(name, out):
            self._need(source, name)
        return out

    # --------------------------------------------------------------------- rows

    def _pieces(self) -> list[Piece]:
        """Return who holds which rows in the present step."""
        if not self._lead:
            return []
        self._need(self._sources[0], self._lead_variable)
        return find_pieces(self._sources, self._resolve(self._lead_variable))

    # --------------------------------------------------------------------- read

    @property
    def reads_at_once(self) -> bool:
        """Whether `read_step` may be used: there is one source, whose rows do not change places."""
        return self._steady

    def read_step(self, row: Mapping[str, Array]) -> Head:
        """Read all of the only source's present step, as `read_into` does, and return its head."""
        source = self._sources[0]
        self._iteration = None
        values = self._ask_head(source)
        self.read_into(row)
        return self._make_head(source, values, None)

    def read_into(self, row: Mapping[str, Array], iteration: int | None = None) -> None:
        """Read the present step of all sources into the arrays of one frame.

        Parameters
        ----------
        row
            Name to a contiguous array of the schema's shape and dtype.

        Raises
        ------
        SchemaError
            If shapes or the number of particles have changed.
        ProtocolError
            If the data do not arrive.
        """
        self._iteration = iteration
        if self._plain and self._is_as_before():
            self._read_plain(row)
            return
        pieces = None if self._steady and self._is_as_before() else self._pieces()
        total = self._n if pieces is None else sum(p.count for p in pieces)
        self._check_total(total)
        order = self._order(pieces, total) if self.plan.ids and pieces is not None else None
        later: list[Any] = []
        for field in self.plan.fields:
            variable = self.schema.variable(field.name)
            out = row[field.name]
            if not field.sources:
                continue
            if self._direct[field.name]:
                self._ask_direct(field, stored_view(out, variable), pieces)
            else:
                later.append((field, out, self._ask_staged(field, pieces, total)))
        for source in self._sources:
            source.read()
        for field, out, (parts, plus) in later:
            where: Any = None
            if field.name in self._rows:
                where = slice(0, total) if order is None else order
            assemble(field, out, parts, plus, where)
        for field in self.plan.fields:
            if field.scale != 1.0:
                np.multiply(row[field.name], field.scale, out=row[field.name])
        if self.plan.capacity:
            clear_rows([row[name] for name in self._rows], total, order)
            row[PARTICLES][...] = total

    def _read_plain(self, row: Mapping[str, Array]) -> None:
        source = self._sources[0]
        for name, stored, variable in self._plain:
            if not source.ask(stored, stored_view(row[name], variable)):
                self._need(source, stored)
        source.read()

    def _is_as_before(self) -> bool:
        """Whether the one source has a global array with the rows that it had at first."""
        if not self._lead_variable:
            return True
        shape = self._sources[0].shape(self._lead_variable)
        return bool(shape) and shape is not None and shape[0] == self._n

    def _check_total(self, total: int) -> None:
        capacity = self.plan.capacity
        if capacity and total > capacity:
            raise SchemaError(
                f"A step has {total} particles, and the mapping's 'capacity' is {capacity}; give "
                "the largest number that the simulation can have."
            )
        if not capacity and total != self._n:
            raise SchemaError(
                f"The number of particles changed from {self._n} to {total}, and frames of a "
                "stream have one shape. Give 'capacity', the largest number that the simulation "
                "can have, in a mapping, and 'ids' if particles are to keep their rows."
            )

    def _order(self, pieces: Sequence[Piece], total: int) -> npt.NDArray[np.int64]:
        """Return the row of each particle that is read, by its id."""
        name = self._resolve(self.plan.ids)
        found = self._need(self._sources[0], name)
        ids = np.empty(total, found.dtype)
        self._ask_pieces(name, ids, pieces)
        for source in self._sources:
            source.read()
        rows = ids.astype(np.int64) - self.plan.first_id
        limit = self.plan.capacity or self._n
        seen = np.zeros(limit, bool)
        inside = (rows >= 0) & (rows < limit)
        seen[rows[inside]] = True
        if not inside.all() or int(seen.sum()) != total:
            low, high = (int(ids.min()), int(ids.max())) if total else (0, 0)
            raise SchemaError(
                f"The ids of {total} particles lie between {low} and {high}, {int(seen.sum())} of "
                f"them different and inside {self.plan.first_id} to "
                f"{self.plan.first_id + limit - 1}; set 'first_id' or 'capacity' in the mapping."
            )
        return rows

    def _ask_pieces(self, name: str, out: Array, pieces: Sequence[Piece]) -> None:
        for p in pieces:
            target = out[p.target : p.target + p.count]
            source = self._sources[p.source]
            if not source.ask(name, target, rows=p.rows, block=p.block):
                self._need(source, name)

    def _ask_direct(self, field: Field, out: Array, pieces: Sequence[Piece] | None) -> None:
        name = self._resolve(field.variables[0])
        if field.name in self._rows and pieces is not None:
            self._ask_pieces(name, out, pieces)
        elif not self._sources[0].ask(name, out):
            self._need(self._sources[0], name)

    def _ask_staged(
        self, field: Field, pieces: Sequence[Piece] | None, total: int
    ) -> list[list[Array | float]]:
        groups: list[list[Array | float]] = []
        for parts in (field.sources, field.plus):
            group: list[Array | float] = []
            for part in parts:
                if isinstance(part, float):
                    group.append(part)
                    continue
                name = self._resolve(part)
                found = self._need(self._sources[0], name)
                if field.name in self._rows and pieces is not None:
                    out = np.empty((total, *found.shape[1:]), found.dtype)
                    self._ask_pieces(name, out, pieces)
                else:
                    out = np.empty(found.shape, found.dtype)
                    self._sources[0].ask(name, out)
                group.append(out)
            groups.append(group)
        return groups
