"""What an ASE simulation looks like on the wire: topology, selection, variables and units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError
from bridge.schema import StreamSchema, Topology, Variable

__all__ = ["FIELDS", "Field", "Selection", "describe", "select_atoms"]

Field = Literal["positions", "velocities", "forces", "energies", "temperature", "box"]
FIELDS: tuple[Field, ...] = get_args(Field)

Selection = str | Sequence[int]
"""``"all"``, ``"heavy"``, a chemical symbol, or atom indices."""

_VECTORS: tuple[tuple[Field, str], ...] = (
    ("positions", "nm"),
    ("velocities", "nm/ps"),
    ("forces", "kJ/mol/nm"),
)


def select_atoms(atoms: Any, select: Selection) -> npt.NDArray[np.intp]:
    """Return the indices of the selected atoms, in the order of the atoms.

    Parameters
    ----------
    atoms
        An `ase.Atoms`.
    select
        See `Selection`.

    Raises
    ------
    ConfigError
        If the word is unknown, no atom is selected, or an index does not exist.
    """
    symbols = np.array(atoms.get_chemical_symbols())
    if not isinstance(select, str):
        chosen = np.unique(np.asarray(select, np.intp))
        if chosen.size and (chosen[0] < 0 or chosen[-1] >= len(atoms)):
            wrong = chosen[0] if chosen[0] < 0 else chosen[-1]
            raise ConfigError(f"Atom {wrong} is selected; the system has {len(atoms)} atoms.")
    elif select == "all":
        chosen = np.arange(len(atoms))
    elif select == "heavy":
        chosen = np.flatnonzero(symbols != "H")
    else:
        chosen = np.flatnonzero(symbols == select)
    if not chosen.size:
        raise ConfigError(
            f"The selection {select!r} has no atoms in this system; use 'all', 'heavy', a symbol "
            f"among {', '.join(sorted(set(symbols.tolist())))}, or a list of atom indices."
        )
    return chosen


def describe(
    atoms: Any,
    *,
    select: Selection = "all",
    fields: Sequence[Field] = ("positions",),
    dtype: str = "<f4",
) -> StreamSchema:
    """Return the schema of the frames that `sim_adapters.ase.HeadraceObserver` sends.

    Positions in nm, velocities in nm/ps and forces in kJ/mol/nm have shape (atoms, 3) and
    `dtype`; ``potential_energy`` and ``kinetic_energy`` are float64 in kJ/mol, ``temperature``
    (the kinetic one) float64 in K. A periodic system sends its ``box``, three row vectors in nm,
    with the positions.
    """
    unknown = [f for f in fields if f not in FIELDS]
    if unknown or not fields:
        raise ConfigError(
            f"Nobody knows the field {unknown[0]!r}; there are {', '.join(FIELDS)}."
            if unknown
            else "No field is to be sent; name at least one."
        )
    rows = select_atoms(atoms, select)
    variables = [
        Variable(name, dtype, (len(rows), 3), unit) for name, unit in _VECTORS if name in fields
    ]
    if "energies" in fields:
        variables += [
            Variable(f"{kind}_energy", "<f8", (), "kJ/mol") for kind in ("potential", "kinetic")
        ]
    if "temperature" in fields:
        variables.append(Variable("temperature", "<f8", (), "K", description="Kinetic."))
    periodic = bool(atoms.pbc.any())
    if "box" in fields or (periodic and "positions" in fields):
        variables.append(Variable("box", "<f8", (3, 3), "nm", description="Rows are vectors."))
    return StreamSchema(
        tuple(variables),
        time_unit="ps",
        topology=_read_topology(atoms, rows),
        selection="" if len(rows) == len(atoms) else _name(select),
        attributes={
            "wrapped": "false",
            "periodic": "true" if periodic else "false",
            "periodic_along": "".join(a for a, p in zip("abc", atoms.pbc, strict=True) if p),
            "atoms": str(len(atoms)),
        },
    )


def _name(select: Selection) -> str:
    return select if isinstance(select, str) else f"{len(select)} atoms by index"


def _read_topology(atoms: Any, rows: npt.NDArray[np.intp]) -> Topology:
    symbols = atoms.get_chemical_symbols()
    arrays = atoms.arrays

    def get(name: str, kind: Any) -> tuple[Any, ...]:
        # Files with residues bring such arrays along; most systems have none.
        return tuple(kind(arrays[name][i]) for i in rows) if name in arrays else ()

    return Topology(
        names=get("atomtypes", str) or tuple(symbols[i] for i in rows),
        elements=tuple(symbols[i] for i in rows),
        residues=get("residuenames", str),
        residue_ids=get("residuenumbers", int),
        masses=tuple(float(m) for m in atoms.get_masses()[rows]),
    )
