"""Which columns a run has, and which of them span the space that its frames are shown in."""

from __future__ import annotations

from typing import Any

from bridge.dashboard.about import About
from bridge.dashboard.sampling import scalars_of
from bridge.dashboard.stores.columns import version_column
from bridge.dashboard.stores.memory import Memory

__all__ = ["guess_embedding", "list_columns"]


def list_columns(memory: Memory) -> list[dict[str, Any]]:
    """Return each column that can be asked for: its numbers in a frame, its unit, its source."""
    schemas = memory.simulations.schemas()
    units: dict[str, str] = {}
    scalars: dict[str, int] = {}
    for schema in schemas.values():
        scalars |= dict.fromkeys(scalars_of(schema), 1)
        for v in schema.variables:
            units.setdefault(v.name, v.unit)
    results = memory.results
    # What an operator says of its columns counts, should a variable have the same name.
    told = {n: u for status in memory.latest.values() for n, u in status.units.items()}
    out = [
        {
            "name": name, "size": size, "unit": told.get(name) or units.get(name, ""),
            "source": "results",
            "kept": name in results.columns,
        }
        for name, size in results.sizes.items()
        if size
    ]  # fmt: skip
    out += [
        {"name": name, "size": 1, "unit": units[name], "source": "frames", "kept": True}
        for name in scalars
        if name not in results.sizes
    ]
    return out


def guess_embedding(memory: Memory, about: About) -> dict[str, Any] | None:
    """Return the columns that are worth showing against each other: those of a map, or a guess."""
    known = memory.results.columns
    maps = sorted(about.maps, key=lambda m: not m.get("version"))
    for one in maps:
        return {"x": one["x"], "y": one["y"], "version": one.get("version") or None}
    for name, size in known.items():
        version = version_column(name, known)
        if size >= 2 and version:
            return {"x": f"{name}[0]", "y": f"{name}[1]", "version": version}
    for name, size in known.items():
        if size >= 2:
            return {"x": f"{name}[0]", "y": f"{name}[1]", "version": None}
    scalars = [n for n, size in known.items() if size == 1 and not n.endswith("_version")]
    if not scalars:
        return None
    if len(scalars) == 1:
        return {"x": "time", "y": scalars[0], "version": None}
    return {"x": scalars[0], "y": scalars[1], "version": None}
