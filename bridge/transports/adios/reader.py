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
from bridge.transports.adios.library import stored_as
from bridge.transports.adios.mapping import StreamMapping
from bridge.transports.adios.openpmd import find_openpmd, iterations_of
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


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows that one source holds, and where they go."""

    source: int
    target: int
    count: int
    rows: tuple[int, int] | None = None
    block: int | None = None


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
                f"streams have; it has {', '.join(source.names()) or 'none'}."
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
        plan, source = self.plan, self._sources[index]
        self._iteration = iteration
        values = {}
        for name in (plan.step, plan.time, plan.epoch):
            if name:
                values[name] = self._ask_value(source, name)
        if values:
            source.read()
        if plan.step:
            step = int(values[plan.step])
        elif iteration is not None:
            step = iteration
        else:
            told = source.attribute(plan.snapshot) if plan.snapshot else None
            step = source.number if told is None else int(np.ravel(told)[0])
        return Head(
            step,
            self._time(source, values, step),
            int(values[plan.epoch]) if plan.epoch else None,
            iteration,
        )

    def _time(self, source: Source, values: Mapping[str, Array], step: int) -> float:
        plan = self.plan
        if plan.time:
            return float(values[plan.time]) * plan.time_scale
        if plan.time_attribute:
            found = source.attribute(self._resolve(plan.time_attribute))
            if found is not None:
                return float(np.ravel(found)[0])
        return step * plan.dt if plan.dt else float(step)

    def _ask_value(self, source: Source, name: str) -> Array:
        found = self._need(source, name)
        out = self._scalars.get(name)
        if out is None or out.dtype != found.dtype:
            out = self._scalars[name] = np.zeros(1, found.dtype)
        if found.shape and int(np.prod(found.shape)) != 1:
            raise SchemaError(
                f"The variable {name!r} of {source.described} tells step, time or epoch and has "
                f"shape {found.shape}; it must be one number."
            )
        source.ask(name, out)
        return out.reshape(())

    # --------------------------------------------------------------------- rows

    def _pieces(self) -> list[_Piece]:
        """Return who holds which rows in the present step."""
        if not self._lead:
            return []
        name = self._lead_variable
        if len(self._sources) > 1:
            placed = self._placed_pieces(self._resolve(name))
            if placed is not None:
                return placed
        out: list[_Piece] = []
        at = 0
        for index, source in enumerate(self._sources):
            found = self._need(source, name)
            if found.form == "blocks":
                for number, (_, count) in enumerate(source.blocks(self._resolve(name))):
                    out.append(_Piece(index, at, count[0], block=number))
                    at += count[0]
            else:
                out.append(_Piece(index, at, found.shape[0]))
                at += found.shape[0]
        return out

    def _placed_pieces(self, name: str) -> list[_Piece] | None:
        """Return pieces by global rows, where each stream declares the whole and holds a part."""
        found = [s.find(name) for s in self._sources]
        totals = {f.shape[0] for f in found if f is not None and f.form == "array"}
        if len(totals) != 1 or any(f is None or f.form != "array" for f in found):
            return None
        out = []
        for index, source in enumerate(self._sources):
            for start, count in source.blocks(name):
                out.append(_Piece(index, start[0], count[0], rows=(start[0], count[0])))
        out.sort(key=lambda p: p.target)
        at = 0
        for piece in out:
            if piece.target != at:
                return None
            at += piece.count
        return out if at == totals.pop() else None

    # --------------------------------------------------------------------- read

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
                self._ask_direct(field, variable, _stored_view(out, variable), pieces)
            else:
                later.append((field, out, self._ask_staged(field, pieces, total)))
        for source in self._sources:
            source.read()
        for field, out, parts in later:
            self._assemble(field, out, parts, order, total)
        for field in self.plan.fields:
            if field.scale != 1.0:
                np.multiply(row[field.name], field.scale, out=row[field.name])
        if self.plan.capacity:
            self._fill(row, order, total)

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

    def _order(self, pieces: Sequence[_Piece], total: int) -> npt.NDArray[np.int64]:
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

    def _ask_pieces(self, name: str, out: Array, pieces: Sequence[_Piece]) -> None:
        for p in pieces:
            target = out[p.target : p.target + p.count]
            self._sources[p.source].ask(name, target, rows=p.rows, block=p.block)

    def _ask_direct(
        self, field: Field, variable: Variable, out: Array, pieces: Sequence[_Piece] | None
    ) -> None:
        name = self._resolve(field.variables[0])
        if field.name in self._rows and pieces is not None:
            for source in self._sources:
                self._check_tail(source, name, field.name, out.shape[1:])
            self._ask_pieces(name, out, pieces)
            return
        source = self._sources[0]
        shape = source.shape(name)
        if shape is None:
            self._need(source, name)
        if shape and int(np.prod(shape)) != out.size:
            raise SchemaError(
                f"The variable {name!r} of {source.described} changed its shape to {shape}; the "
                f"stream was opened with {variable.shape} for {field.name!r}."
            )
        source.ask(name, out)

    def _check_tail(self, source: Source, name: str, wire: str, tail: tuple[int, ...]) -> None:
        shape = source.shape(name)
        if shape is None:
            self._need(source, name)
        if shape and tuple(shape[1:]) != tail:
            raise SchemaError(
                f"The variable {name!r} of {source.described} has shape {shape}; the rows of "
                f"{wire!r} have shape {tail}."
            )

    def _ask_staged(
        self, field: Field, pieces: Sequence[_Piece] | None, total: int
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

    def _assemble(
        self,
        field: Field,
        out: Array,
        groups: list[list[Array | float]],
        order: npt.NDArray[np.int64] | None,
        total: int,
    ) -> None:
        parts, plus = groups
        where: Any = Ellipsis
        if field.name in self._rows:
            where = slice(0, total) if order is None else order
        if field.diagonal:
            values = [np.ravel(np.asarray(p)) for p in parts]
            out[...] = np.diag(np.concatenate(values))
            return
        if len(parts) > 1:
            for column, part in enumerate(parts):
                value = part
                if plus:
                    value = part + np.asarray(plus[column]) * field.plus_scale
                if where is Ellipsis:
                    out.reshape(-1, len(parts))[:, column] = np.ravel(np.asarray(value))
                else:
                    out[where, column] = value
            return
        value = np.asarray(parts[0])
        if field.columns:
            value = value[:, list(field.columns)]
            value = value[:, 0] if len(field.columns) == 1 else value
        if plus:
            value = value + np.asarray(plus[0]) * field.plus_scale
        if field.name in self._rows:
            out[where] = value.reshape(total, *out.shape[1:])
        else:
            _check_size(field, out, value)
            out[...] = value.reshape(out.shape)

    def _fill(
        self, row: Mapping[str, Array], order: npt.NDArray[np.int64] | None, total: int
    ) -> None:
        for name in self._rows:
            out = row[name]
            empty: Any = slice(total, None)
            if order is not None:
                empty = np.ones(len(out), bool)
                empty[order] = False
            out[empty] = np.nan if out.dtype.kind in "fc" else 0
        row[PARTICLES][...] = total


def _check_size(field: Field, out: Array, value: Array) -> None:
    if value.size != out.size:
        raise SchemaError(
            f"The values of {field.name!r} changed their shape to {value.shape}; the stream was "
            f"opened with {out.shape}."
        )


def _stored_view(out: Array, variable: Variable) -> Array:
    """Return the bytes of an array as the type that ADIOS2 has for it."""
    dtype, shape = stored_as(variable.numpy_dtype, variable.shape)
    if dtype == out.dtype:
        return out
    return out.reshape(*variable.shape, 1).view(dtype).reshape(shape)
