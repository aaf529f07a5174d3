"""The particle convention of openPMD, read and written.

Standard 1.1.0, doi:10.5281/zenodo.1167843.

An iteration has particle species, a species has records such as ``position``, and a record has
components ``x``, ``y`` and ``z``, each a variable of its own with one value per particle. What a
value means stands in attributes: ``unitSI`` and ``unitDimension``, ``time`` and ``timeUnitSI``.
Names hold the number of the iteration (``/data/100/particles/…``), or do not
(``/data/particles/…``, the encoding by variables, which a stream wants).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bridge.errors import ConfigError, ProtocolError
from bridge.schema import StreamSchema, Variable
from bridge.transports.adios.plan import Field, Stated, read_attributes
from bridge.transports.adios.source import Source
from bridge.transports.adios.units import Powers, parse_unit, unit_text

__all__ = ["NAMES", "find_openpmd", "records_of", "static_attributes"]

NAMES = {
    "position": "positions", "velocity": "velocities", "force": "forces",
    "momentum": "momenta", "mass": "masses", "charge": "charges",
}  # fmt: skip
"""Record of openPMD to variable on the wire; others keep their names."""

_DIMENSIONS: dict[str, Powers] = {
    "position": (1.0, 0, 0, 0, 0, 0, 0), "velocity": (1.0, 0, -1.0, 0, 0, 0, 0),
    "force": (1.0, 1.0, -2.0, 0, 0, 0, 0), "momentum": (1.0, 1.0, -1.0, 0, 0, 0, 0),
    "mass": (0, 1.0, 0, 0, 0, 0, 0), "charge": (0, 0, 1.0, 1.0, 0, 0, 0),
}  # fmt: skip
_PARTICLES = re.compile(r"/data/(?:(\d+)/)?particles/([^/]+)/([^/]+)(?:/([^/]+))?")
_TIME: Powers = (0, 0, 1.0, 0, 0, 0, 0)


def iterations_of(names: Iterable[str]) -> list[int]:
    """Return the iterations that names of variables speak of, in order."""
    found = (re.match(r"/data/(\d+)/", name) for name in names)
    return sorted({int(m[1]) for m in found if m is not None})


# ----------------------------------------------------------------------- reading


def find_openpmd(source: Source, species: str = "") -> Stated | None:
    """Return what the attributes of a stream state; None if it is not openPMD.

    Parameters
    ----------
    species
        Take this one only.

    Raises
    ------
    ConfigError
        If there is no such species.
    ProtocolError
        If attributes contradict the standard.
    """
    if not isinstance(source.attribute("openPMD"), str) and not isinstance(
        source.attribute("/openPMD"), str
    ):
        return None
    names = source.names()
    iterations = iterations_of(names)
    base = f"/data/{iterations[0]}/" if iterations else "/data/"
    records = _records(source, names, base)
    kinds = sorted({kind for kind, _ in records})
    if species and species not in kinds:
        raise ConfigError(
            f"There is no particle species {species!r} in {source.described}; it has: "
            f"{', '.join(kinds) or 'none'}."
        )
    alone = bool(species) or len(kinds) == 1
    fields: list[Field] = []
    ids, notes = "", {}
    masses: tuple[float, ...] = ()
    for (kind, record), parts in records.items():
        if (species and kind != species) or record == "positionOffset":
            continue
        prefix = f"{base}particles/{kind}/{record}"
        unit = _unit_of(source, prefix, record, parts)
        if all(isinstance(p, float) for p in parts.values()):
            if record == "mass" and alone:
                masses = _constant_masses(source, prefix, unit)
            else:
                notes[f"{kind}.{record}"] = f"{' '.join(f'{p:g}' for p in parts.values())} {unit}"
            continue
        if record == "id" and alone:
            ids = str(next(iter(parts.values())))
            continue
        name = NAMES.get(record, record)
        above = f"{base}particles/{kind}/"
        plus = _offset(source, records.get((kind, "positionOffset"))) if name == "positions" else ()
        fields.append(
            Field(
                name if alone else f"{kind}.{name}",
                tuple(parts.values()),
                unit,
                plus=plus,
                plus_scale=_offset_scale(source, above, parts) if plus else 1.0,
            )
        )
    factor = source.attribute(base + "timeUnitSI")
    return Stated(
        tuple(_general(f, base) for f in fields) if iterations else tuple(fields),
        ids=_hide(ids, base) if iterations else ids,
        time_attribute=_hide(base + "time", base) if iterations else "/data/time",
        time_unit="" if factor is None else unit_text(float(factor[0]), _TIME),
        iterations=bool(iterations),
        snapshot="" if iterations else "/data/snapshot",
        masses=masses,
        attributes={"convention": "openPMD", **notes},
    )


def _records(
    source: Source, names: Iterable[str], base: str
) -> dict[tuple[str, str], dict[str, str | float]]:
    """Return species and record to component to variable, or to value if it is constant."""
    records: dict[tuple[str, str], dict[str, str | float]] = {}
    for name in names:
        found = _PARTICLES.fullmatch(name)
        if found is not None and name.startswith(base):
            records.setdefault((found[2], found[3]), {})[found[4] or ""] = name
    prefix = f"{base}particles/"
    for name, value in read_attributes(source, prefix).items():
        head, _, tail = name.rpartition("/")
        if tail != "value" or not 2 <= len(head.split("/")) <= 3:
            continue
        kind, record, *component = head.split("/")
        records.setdefault((kind, record), {})[component[0] if component else ""] = float(value[0])
    return {key: dict(sorted(parts.items())) for key, parts in sorted(records.items())}


def _unit_of(source: Source, prefix: str, record: str, parts: Mapping[str, Any]) -> str:
    factors = [
        source.attribute(f"{prefix}/{part}/unitSI" if part else f"{prefix}/unitSI")
        for part in parts
    ]
    present = {float(f[0]) for f in factors if f is not None}
    if len(present) > 1:
        raise ProtocolError(
            f"The components of {prefix!r} in {source.described} have different units: "
            f"{sorted(present)}. Name their variables and units in a mapping."
        )
    if not present:
        return ""
    factor = present.pop()
    powers = source.attribute(f"{prefix}/unitDimension")
    dimension = tuple(float(p) for p in powers) if powers is not None else ()
    if (not any(dimension) and factor != 1.0) or len(dimension) != 7:
        # Some writers leave out what the standard fixes for these records.
        dimension = _DIMENSIONS.get(record, (0.0,) * 7)
    return unit_text(factor, dimension)


def _constant_masses(source: Source, prefix: str, unit: str) -> tuple[float, ...]:
    shape = source.attribute(f"{prefix}/shape")
    value = source.attribute(f"{prefix}/value")
    known, wanted = parse_unit(unit), parse_unit("u")
    if shape is None or known is None or wanted is None or known[1] != wanted[1]:
        return ()
    return (float(value[0]) * known[0] / wanted[0],) * int(shape[0])


def _offset(source: Source, parts: Mapping[str, str | float] | None) -> tuple[str | float, ...]:
    values = tuple((parts or {}).values())
    return values if any(v != 0.0 for v in values) else ()


def _offset_scale(source: Source, prefix: str, parts: Mapping[str, Any]) -> float:
    """Return from the unit of the offset to that of the position."""
    part = next(iter(parts))
    one = source.attribute(f"{prefix}positionOffset/{part}/unitSI")
    other = source.attribute(f"{prefix}position/{part}/unitSI")
    return 1.0 if one is None or other is None else float(one[0]) / float(other[0])


def _hide(name: str, base: str) -> str:
    return name.replace(base, "/data/%T/", 1)


def _general(field: Field, base: str) -> Field:
    def hide(parts: tuple[str | float, ...]) -> tuple[str | float, ...]:
        return tuple(_hide(p, base) if isinstance(p, str) else p for p in parts)

    return Field(
        field.name, hide(field.sources), field.unit, plus=hide(field.plus),
        plus_scale=field.plus_scale,
    )  # fmt: skip


# ----------------------------------------------------------------------- writing


def records_of(schema: StreamSchema) -> dict[str, str]:
    """Return which variables of a schema are particle records: name to record.

    Those are positions and whatever has as many rows and one or three columns of numbers.
    """
    names = {wire: record for record, wire in NAMES.items()}
    lead = next((v for v in schema.variables if v.name == "positions" and _is_vector(v)), None)
    if lead is None:
        lead = next((v for v in schema.variables if _is_vector(v)), None)
    if lead is None or not lead.shape[0]:
        return {}
    return {
        v.name: names.get(v.name, "position" if v is lead else v.name)
        for v in schema.variables
        if v.shape[:1] == lead.shape[:1]
        and (len(v.shape) == 1 or _is_vector(v))
        and v.numpy_dtype.kind in "iuf"
        and v.numpy_dtype.itemsize <= 8
        and v.numpy_dtype.str != "<f2"
    }


def _is_vector(variable: Variable) -> bool:
    return len(variable.shape) == 2 and variable.shape[1] == 3


def static_attributes(
    schema: StreamSchema, records: Mapping[str, str], species: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the attributes that stay the same in all steps, and the groups of openPMD-api."""
    out: dict[str, Any] = {
        "/openPMD": "1.1.0",
        "/openPMDextension": np.uint32(0),
        "/basePath": "/data/%T/",
        "/particlesPath": "particles/",
        "/iterationEncoding": "variableBased",
        "/iterationFormat": "/data",
        "/software": "Headrace",
        "/data/dt": 1.0,
        "/data/timeUnitSI": _time_factor(schema.time_unit),
        # How openPMD-api keeps groups in ADIOS2, without which it finds but the first step.
        "__openPMD_internal/openPMD2_adios2_schema": np.uint64(0),
        "__openPMD_internal/useModifiableAttributes": np.uint8(1),
        "__openPMD_internal/useSteps": np.uint8(1),
    }
    base = f"/data/particles/{species}"
    groups = ["", "data", "data/particles", base[1:]]
    shapes = {v.name: v.shape for v in schema.variables}
    for name, record in records.items():
        factor, powers = parse_unit(schema.variable(name).unit) or (1.0, (0.0,) * 7)
        prefix = f"{base}/{record}"
        out[f"{prefix}/unitDimension"] = np.array(powers, np.float64)
        out[f"{prefix}/timeOffset"] = 0.0
        for place in _places(prefix, shapes[name]):
            out[f"{place}/unitSI"] = factor
        groups.append(prefix[1:])
    if "position" in records.values():
        rows = next(shapes[name][0] for name, record in records.items() if record == "position")
        prefix = f"{base}/positionOffset"
        out[f"{prefix}/unitDimension"] = np.array([1.0, 0, 0, 0, 0, 0, 0])
        out[f"{prefix}/timeOffset"] = 0.0
        groups.append(prefix[1:])
        for place in _places(prefix, (rows, 3)):
            out |= {f"{place}/unitSI": 1.0, f"{place}/value": 0.0}
            out[f"{place}/shape"] = np.array([rows], np.uint64)
            groups.append(place[1:])
    return out, groups


def _places(prefix: str, shape: tuple[int, ...]) -> list[str]:
    return [prefix] if len(shape) == 1 else [f"{prefix}/{c}" for c in "xyz"]


def _time_factor(unit: str) -> float:
    known = parse_unit(unit) if unit else None
    return known[0] if known is not None and known[1] == _TIME else 1.0
