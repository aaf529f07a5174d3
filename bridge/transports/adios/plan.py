"""How the variables of an ADIOS2 stream become the variables of frames."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bridge.config import refuse_unknown
from bridge.errors import ConfigError, ProtocolError
from bridge.schema import StreamSchema, Topology
from bridge.transports.adios.mapping import StreamMapping
from bridge.transports.adios.source import Found, Source
from bridge.transports.adios.units import factor_between

__all__ = ["LAYOUT", "SCHEMA", "Field", "Plan", "Stated", "make_plan", "read_attributes"]

SCHEMA = "headrace/schema"
"""Attribute with the schema, of what Headrace wrote."""

LAYOUT = "headrace/layout"
"""Attribute with a map of the schema's variables to the ADIOS2 variables that hold them."""

_STEPS = ("step", "timestep", "ntimestep")
_TIMES = ("time",)
_EPOCHS = ("epoch",)


@dataclass(frozen=True, slots=True)
class Field:
    """One variable of a frame, and where it is read from.

    Attributes
    ----------
    name
        Name on the wire.
    sources
        Names of ADIOS2 variables, or numbers that stand for a constant column. In a stream whose
        names change with the iteration, ``%T`` stands for it.
    unit, scale
        Unit, and what the values are multiplied with to be in it.
    plus, plus_scale
        What is added to each column, as `sources`; and what it is multiplied with before.
    columns, shape, diagonal, whole, description
        As in `bridge.transports.adios.mapping.VariableMapping`.
    dtype
        On the wire, where that is another than in the stream.
    """

    name: str
    sources: tuple[str | float, ...]
    unit: str = ""
    scale: float = 1.0
    plus: tuple[str | float, ...] = ()
    plus_scale: float = 1.0
    columns: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None
    diagonal: bool = False
    whole: bool = False
    description: str = ""
    dtype: str = ""

    @property
    def variables(self) -> list[str]:
        """The ADIOS2 variables among the sources."""
        return [s for s in (*self.sources, *self.plus) if isinstance(s, str)]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read in each step.

    Attributes
    ----------
    fields
        The variables of a frame.
    step, time, epoch, ids
        ADIOS2 variables; empty where there is none.
    time_attribute
        Attribute that holds the time of an iteration.
    time_scale, time_unit, dt
        What the time is multiplied with, its unit then, and the time between steps.
    iterations
        Names of variables change with the iteration, which is the step.
    snapshot
        Attribute that tells the step.
    capacity, first_id
        As in the mapping.
    topology, attributes, schema
        For the schema; the schema itself, of what Headrace wrote.
    left_out
        Variables that nobody asked for by a mapping and that are no part of a frame: text, and
        openPMD's meshes.
    """

    fields: tuple[Field, ...]
    step: str = ""
    time: str = ""
    epoch: str = ""
    ids: str = ""
    time_attribute: str = ""
    time_scale: float = 1.0
    time_unit: str = ""
    dt: float = 0.0
    iterations: bool = False
    snapshot: str = ""
    capacity: int = 0
    first_id: int = 0
    topology: Topology | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    schema: StreamSchema | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stated:
    """What attributes state of a stream: the fields, and how to tell the step and the time."""

    fields: tuple[Field, ...] = ()
    ids: str = ""
    time_attribute: str = ""
    time_scale: float = 1.0
    time_unit: str = ""
    iterations: bool = False
    snapshot: str = ""
    masses: tuple[float, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)


def make_plan(source: Source, mapping: StreamMapping, stated: Stated | None) -> Plan:
    """Return the plan for a source that is in its first step.

    Parameters
    ----------
    stated
        What `bridge.transports.adios.openpmd.find_openpmd` found.

    Raises
    ------
    ConfigError
        If the mapping names a variable or attribute that is not there.
    ProtocolError
        If there is nothing to read.
    """
    there = {name: found for name in source.names() if (found := source.find(name)) is not None}
    own = source.attribute(SCHEMA)
    if isinstance(own, str) and not mapping.variables:
        return _plan_of_ours(source, own, there, mapping)
    _check_names(mapping, there)
    stated = stated or Stated()
    # What tells step and time is no variable of the frame as well.
    step = mapping.step or ("" if stated.iterations else _find(there, _STEPS, "iu"))
    time = mapping.time or ("" if mapping.dt or stated.time_attribute else _find(there, _TIMES, ""))
    epoch = mapping.epoch or _find(there, _EPOCHS, "iu")
    ids = mapping.ids or stated.ids
    taken = {step, time, epoch, ids}
    if mapping.variables:
        fields = _mapped(source, mapping)
    else:
        taken |= {v for f in stated.fields for v in f.variables}
        fields = (*stated.fields, *_all_else(source, there, taken))
    if not fields:
        raise ProtocolError(
            f"There are no numbers to read in {source.described}; it has "
            f"{', '.join(there) or 'no variables'}."
        )
    time_unit = mapping.time_unit or stated.time_unit or (_unit_of(source, time) if time else "")
    topology = _topology(source, mapping)
    if stated.masses and topology is None:
        topology = Topology(masses=stated.masses)
    return Plan(
        tuple(fields), step=step, time=time, epoch=epoch, ids=ids,
        time_attribute="" if mapping.time or mapping.dt else stated.time_attribute,
        time_scale=stated.time_scale if stated.time_attribute and not mapping.time else 1.0,
        time_unit=time_unit, dt=mapping.dt, iterations=stated.iterations,
        snapshot="" if mapping.step else stated.snapshot,
        capacity=mapping.capacity, first_id=mapping.first_id, topology=topology,
        attributes={**stated.attributes, **mapping.attributes},
        left_out=() if mapping.variables else tuple(n for n, f in there.items() if _no_part(n, f)),
    )  # fmt: skip


def _no_part(name: str, found: Found) -> bool:
    return found.dtype is None or (name.startswith("/data/") and "/particles/" not in name)


def _plan_of_ours(
    source: Source, schema_text: str, there: dict[str, Found], mapping: StreamMapping
) -> Plan:
    layout_text = source.attribute(LAYOUT)
    try:
        schema = msgspec.json.decode(schema_text, type=StreamSchema)
        layout = msgspec.json.decode(layout_text, type=dict[str, list[str]])
        fields = tuple(
            # What has no values is not written.
            Field(
                v.name,
                tuple(layout[v.name]) if v.nbytes else (),
                v.unit,
                shape=v.shape,
                dtype=v.dtype,
            )
            for v in schema.variables
        )
    except (msgspec.MsgspecError, TypeError, KeyError) as error:
        raise ProtocolError(
            f"What {source.described} says about its frames cannot be read: {error}."
        ) from error
    return Plan(
        fields, step="step", time="time", epoch="epoch" if "epoch" in there else "",
        time_unit=schema.time_unit, topology=schema.topology,
        attributes={**schema.attributes, **mapping.attributes}, schema=schema,
    )  # fmt: skip


def _check_names(mapping: StreamMapping, there: dict[str, Found]) -> None:
    for key in ("step", "time", "epoch", "ids"):
        if name := getattr(mapping, key):
            _need([name], there, f"{mapping.where}, {key!r}")
    for name, one in mapping.variables.items():
        _need(one.sources, there, f"{mapping.where}, [variables.{name}]")


def _need(names: Iterable[str], there: dict[str, Found], where: str) -> None:
    try:
        refuse_unknown(names, there, where)
    except ConfigError as error:
        text = str(error).replace("has the unknown key", "names the ADIOS2 variable")
        raise ConfigError(text.replace("; ", ", which the stream does not have; ", 1)) from None
    for name in names:
        if there[name].dtype is None:
            raise ConfigError(
                f"{where} names {name!r}, which is {there[name].kind}; only numbers can be read."
            )


def _mapped(source: Source, mapping: StreamMapping) -> tuple[Field, ...]:
    fields = []
    for name, one in mapping.variables.items():
        unit = one.unit or _unit_of(source, one.sources[0])
        scale = factor_between(unit, one.to) if one.to else 1.0
        fields.append(
            Field(
                name, one.sources, one.to or unit, scale=scale, columns=one.columns,
                shape=one.shape or None, diagonal=one.diagonal, whole=one.whole,
                description=one.description,
            )
        )  # fmt: skip
    return tuple(fields)


def _all_else(source: Source, there: dict[str, Found], taken: set[str]) -> tuple[Field, ...]:
    fields: list[Field] = []
    for name, found in there.items():
        if found.dtype is None or name in taken or name.startswith("/data/"):
            continue
        wire = re.sub(r"[^A-Za-z0-9_.\-]+", ".", name).strip("._-")
        if wire in ("step", "time", "epoch", "offset"):
            wire = f"adios.{wire}"
        if not wire or any(f.name == wire for f in fields):
            raise ConfigError(
                f"The ADIOS2 variable {name!r} has no name that can be used on the wire; give it "
                "one in a mapping."
            )
        fields.append(Field(wire, (name,), _unit_of(source, name)))
    return tuple(fields)


def _unit_of(source: Source, name: str) -> str:
    for ending in ("units", "unit"):
        found = source.attribute(f"{name}/{ending}")
        if isinstance(found, str):
            return found
    return ""


def _find(there: dict[str, Found], names: Iterable[str], kinds: str) -> str:
    for name in names:
        found = there.get(name)
        # Some writers send a number as an array of one.
        if found is None or found.dtype is None or found.shape not in ((), (1,)):
            continue
        if not kinds or found.dtype.kind in kinds:
            return name
    return ""


def read_attributes(source: Source, prefix: str) -> dict[str, Any]:
    """Return the attributes under a prefix, without it."""
    return {
        name.removeprefix(prefix): source.attribute(name)
        for name in source.attribute_names()
        if name.startswith(prefix)
    }


def _topology(source: Source, mapping: StreamMapping) -> Topology | None:
    given = {k: v for k, v in msgspec.structs.asdict(mapping.topology).items() if v}
    if not given:
        return None
    values: dict[str, Any] = {}
    for key, name in given.items():
        found = source.attribute(name)
        if found is None:
            where = f"{mapping.where}, [topology]"
            try:
                refuse_unknown([name], source.attribute_names(), where)
            except ConfigError as error:
                text = str(error).replace("has the unknown key", "names the attribute")
                raise ConfigError(text) from None
            raise ConfigError(f"{where} names the attribute {name!r}, which cannot be read.")
        if isinstance(found, str):
            found = found.split()
        if key == "bonds":
            pairs = [int(n) for n in found]
            values[key] = tuple(zip(pairs[::2], pairs[1::2], strict=True))
        else:
            kind: Any = {"residue_ids": int, "masses": float}.get(key, str)
            values[key] = tuple(kind(n) for n in found)
    return Topology(**values)
