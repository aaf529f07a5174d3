"""Which atoms are shown, where they are in nanometres, and slices of fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError
from bridge.schema import StreamSchema, Topology, Variable

__all__ = [
    "Atoms",
    "backbone",
    "box_of",
    "describe",
    "fields_of",
    "keep",
    "place_atoms",
    "positions_of",
    "select",
    "slice_field",
    "to_nm",
]

Array = npt.NDArray[Any]

Atoms = str | Sequence[int] | None
"""``ca``, ``solute``, ``all``, indices, or None for what is fit to be seen."""

LENGTHS = {
    "nm": 1.0, "angstrom": 0.1, "Angstrom": 0.1, "Å": 0.1, "A": 0.1, "pm": 1e-3, "um": 1e3,
    "µm": 1e3, "m": 1e9, "bohr": 0.0529177210903,
}  # fmt: skip
"""Nanometres in one of each (CODATA 2018)."""

_WATER = frozenset(("HOH", "WAT", "H2O", "SOL", "TIP", "TIP2", "TIP3", "TIP4", "TIP5", "TP3",
                    "TP4", "TP5", "TIP3P", "TIP4P", "SPC", "SPCE", "DOD", "OPC"))  # fmt: skip
_IONS = frozenset(("NA", "NA+", "CL", "CL-", "K", "K+", "MG", "MG2", "CA2", "CAL", "ZN", "ZN2",
                   "LI", "LI+", "CS", "CS+", "BR", "BR-", "RB", "SOD", "CLA", "POT", "CES", "IB",
                   "CIO", "MN", "FE", "CU", "F-", "I-"))  # fmt: skip

MOST_VALUES = 1 << 20
"""Values of a slice of a field that are sent; of more, every second, third... along each axis."""


def to_nm(unit: str) -> float | None:
    """Return how many nanometres one of a unit is; None if it is no known length."""
    return LENGTHS.get(unit.strip())


def positions_of(schema: StreamSchema) -> Variable | None:
    """Return the variable that says where the particles are; None if there is none."""
    for variable in schema.variables:
        if variable.name == "positions" and _is_cloud(variable):
            return variable
    for variable in schema.variables:
        if _is_cloud(variable) and to_nm(variable.unit) is not None:
            return variable
    return None


def _is_cloud(variable: Variable) -> bool:
    shape = variable.shape
    return len(shape) == 2 and shape[1] in (2, 3) and variable.numpy_dtype.kind in "fiu"


def fields_of(schema: StreamSchema) -> list[dict[str, Any]]:
    """Return the variables that are fields on a grid: two or three axes, none of them of 3."""
    out = []
    for v in schema.variables:
        grid = len(v.shape) in (2, 3) and min(v.shape, default=0) > 3
        if grid and v.numpy_dtype.kind in "fiub":
            out.append({"name": v.name, "shape": list(v.shape), "unit": v.unit})
    return out


def select(
    topology: Topology | None, n_atoms: int, atoms: Atoms, limit: int = 5000
) -> tuple[Array, str, int]:
    """Return which atoms are shown.

    Parameters
    ----------
    topology
        What the stream says of its particles.
    n_atoms
        Their number.
    atoms
        What is wanted. ``ca`` of something without alpha carbons, and ``solute`` of pure water, is
        everything.
    limit
        Atoms at most: of more, every second, third... one.

    Returns
    -------
    indices
        int64, ascending.
    selection
        What was selected: ``all``, ``ca``, ``solute`` or ``indices``.
    every
        One atom in so many is shown.

    Raises
    ------
    ConfigError
        If an index is out of range, or the selection is unknown.
    """
    everything = np.arange(n_atoms)
    found, selection = everything, "all"
    if atoms is None or isinstance(atoms, str):
        word = (atoms or ("all" if n_atoms <= limit else "solute")).lower()
        if word not in ("all", "ca", "solute"):
            raise ConfigError(
                f"There is no selection {atoms!r}; there are all, ca, solute, and indices."
            )
        chosen = everything
        if topology is not None and word == "ca":
            chosen = backbone(topology)
        elif topology is not None and word == "solute" and len(topology.residues) == n_atoms:
            names = np.array([r.strip().upper() for r in topology.residues])
            chosen = np.flatnonzero(~np.isin(names, [*_WATER, *_IONS]))
        if len(chosen) and word != "all" and topology is not None:
            found, selection = chosen, word
    else:
        # Before they become numbers of 64 bits, which the largest are not.
        wrong = next((int(index) for index in atoms if not 0 <= index < n_atoms), None)
        if wrong is not None:
            raise ConfigError(f"The atoms count from 0 to {n_atoms - 1}; {wrong} was asked for.")
        found, selection = np.unique(np.asarray(atoms, np.int64)), "indices"
    every = -(-len(found) // max(1, limit))
    return found[:: max(1, every)], selection, max(1, every)


def backbone(topology: Topology) -> Array:
    """Return the indices of the alpha carbons; calcium ions are none."""
    n = len(topology.names)
    names = np.array([x.strip() for x in topology.names]) == "CA"
    if len(topology.elements) == n and n:
        names &= np.array([e.strip().upper() for e in topology.elements]) != "CA"
    if len(topology.residues) == n and n:
        names &= ~np.isin([r.strip().upper() for r in topology.residues], ["CA", "CAL", "CA2"])
    return np.flatnonzero(names)


def describe(schema: StreamSchema, atoms: Atoms, limit: int = 5000) -> dict[str, Any]:
    """Return what is known of the shown particles, as plain data; see `Feed.topology`."""
    variable = positions_of(schema)
    top = schema.topology
    n = variable.shape[0] if variable is not None else 0
    indices, selection, every = select(top, n, atoms, limit)
    place = {int(index): i for i, index in enumerate(indices)}
    whole = len(indices) == n

    def part(values: Sequence[Any]) -> list[Any]:
        if len(values) != n:
            return []
        return list(values) if whole else [values[i] for i in indices]

    bonds = [] if top is None else top.bonds
    return {
        "names": part(top.names if top else ()),
        "elements": part(top.elements if top else ()),
        "residues": part(top.residues if top else ()),
        "residue_ids": part(top.residue_ids if top else ()),
        "bonds": [[place[a], place[b]] for a, b in bonds if a in place and b in place],
        "backbone": [place[int(i)] for i in (backbone(top) if top else ()) if int(i) in place],
        "indices": None if whole else indices.tolist(),
        "selection": selection,
        "every": every,
        "sent": schema.selection,
        "n_atoms": n,
        "shown": len(indices),
        "unit": "nm" if variable is not None and to_nm(variable.unit) else "",
        "declared_unit": variable.unit if variable is not None else "",
        "dimensions": variable.shape[1] if variable is not None else 0,
        "fields": fields_of(schema),
        "attributes": dict(schema.attributes),
    }


def place_atoms(values: Array, indices: Array, unit: str) -> Array:
    """Return positions in nanometres, float32 of shape (n, 3); those in a plane have z = 0."""
    chosen = np.asarray(values)
    chosen = chosen if len(indices) == len(chosen) else chosen[indices]
    out = np.zeros((len(chosen), 3), np.float32)
    out[:, : chosen.shape[1]] = chosen * np.float64(to_nm(unit) or 1.0)
    return out


def keep(schema: StreamSchema, values: dict[str, Array], limit: int = 5000) -> dict[str, Array]:
    """Return what of a frame is worth recording, as it was sent.

    Positions of more particles than `limit` are NaN where they would not be shown.
    """
    out = {k: np.array(v) for k, v in values.items() if k == "box"}
    variable = positions_of(schema)
    if variable is not None:
        chosen, _, _ = select(schema.topology, variable.shape[0], None, limit)
        whole = np.full(variable.shape, np.nan, np.float32)
        whole[chosen] = values[variable.name][chosen]
        out[variable.name] = whole
    for one in fields_of(schema):
        out[one["name"]] = np.asarray(values[one["name"]], np.float32)
    return out


def box_of(schema: StreamSchema, values: dict[str, Array], unit: str) -> Array | None:
    """Return the vectors of the cell in nanometres, float32 of shape (3, 3); None without."""
    box = values.get("box")
    if box is None or box.dtype.kind not in "fiu":
        return None
    own = next((v.unit for v in schema.variables if v.name == "box"), "")
    factor = to_nm(own) or to_nm(unit) or 1.0
    if box.shape == (3, 3):
        return (box * factor).astype(np.float32)
    if box.shape == (3,):
        return np.diag(box * factor).astype(np.float32)
    return None


def slice_field(values: Array, axis: int = 0, index: int | None = None) -> tuple[Array, int, int]:
    """Return a plane of a field.

    Parameters
    ----------
    values
        Two or three axes.
    axis, index
        Of three axes, the plane at `index` of this one; by default in the middle.

    Returns
    -------
    plane
        float32, two axes.
    index
        Which plane.
    every
        One value in so many along each axis.

    Raises
    ------
    ConfigError
        If there is no such plane.
    """
    at = 0
    if values.ndim == 3:
        if axis not in (0, 1, 2):
            raise ConfigError(f"A field has the axes 0, 1 and 2; {axis} was asked for.")
        at = values.shape[axis] // 2 if index is None else index
        if not 0 <= at < values.shape[axis]:
            raise ConfigError(
                f"The field has {values.shape[axis]} planes along axis {axis}; there is no {at}, "
                "counted from 0."
            )
        values = np.take(values, at, axis)
    if values.ndim != 2:
        raise ConfigError(f"A field has two or three axes; this one has {values.ndim}.")
    every = 1
    while values[::every, ::every].size > MOST_VALUES:
        every += 1
    return np.ascontiguousarray(values[::every, ::every], np.float32), at, every
