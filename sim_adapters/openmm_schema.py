"""What an OpenMM system looks like on the wire: topology, selection, variables and units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError
from bridge.schema import StreamSchema, Topology, Variable

__all__ = ["FIELDS", "Field", "Selection", "describe", "select_atoms"]

Field = Literal["positions", "velocities", "forces", "energies", "box"]
FIELDS: tuple[Field, ...] = get_args(Field)

Selection = str | Sequence[int]
"""``"all"``, ``"heavy"``, ``"protein"``, ``"CA"``, or atom indices."""

# fmt: off
_PROTEIN = frozenset((
    "ALA", "ARG", "ASH", "ASN", "ASP", "CYM", "CYS", "CYX", "GLH", "GLN", "GLU", "GLY",
    "HID", "HIE", "HIP", "HIS", "ILE", "LEU", "LYN", "LYS", "MET", "PHE", "PRO", "SER",
    "THR", "TRP", "TYR", "VAL", "ACE", "NME", "NMA", "NH2",
))
# fmt: on
_VECTORS: tuple[tuple[Field, str], ...] = (
    ("positions", "nm"),
    ("velocities", "nm/ps"),
    ("forces", "kJ/mol/nm"),
)


def select_atoms(topology: Any, select: Selection) -> npt.NDArray[np.intp]:
    """Return the indices of the selected atoms, in the order of the topology.

    Parameters
    ----------
    topology
        An `openmm.app.Topology`.
    select
        See `Selection`.

    Raises
    ------
    ConfigError
        If the word is unknown, no atom is selected, or an index does not exist.
    """
    atoms = list(topology.atoms())
    if not isinstance(select, str):
        chosen = sorted(set(select))
        if chosen and (chosen[0] < 0 or chosen[-1] >= len(atoms)):
            wrong = chosen[0] if chosen[0] < 0 else chosen[-1]
            raise ConfigError(f"Atom {wrong} is selected; the system has {len(atoms)} atoms.")
    elif select == "all":
        chosen = list(range(len(atoms)))
    elif select == "heavy":
        # Virtual sites have no element.
        chosen = [a.index for a in atoms if a.element is not None and a.element.symbol != "H"]
    elif select == "protein":
        chosen = [a.index for a in atoms if a.residue.name in _PROTEIN]
    elif select == "CA":
        chosen = [a.index for a in atoms if a.name == "CA" and a.residue.name in _PROTEIN]
    else:
        raise ConfigError(
            f"Nobody knows the selection {select!r}; use 'all', 'heavy', 'protein', 'CA' or a "
            "list of atom indices."
        )
    if not chosen:
        raise ConfigError(f"The selection {select!r} has no atoms in this system.")
    return np.array(chosen, np.intp)


def describe(
    topology: Any,
    system: Any,
    *,
    select: Selection = "all",
    fields: Sequence[Field] = ("positions",),
    dtype: str = "<f4",
    wrapped: bool = False,
) -> StreamSchema:
    """Return the schema of the frames that `sim_adapters.openmm.HeadraceReporter` sends.

    Positions in nm, velocities in nm/ps and forces in kJ/mol/nm have shape (atoms, 3) and
    `dtype`; ``potential_energy`` and ``kinetic_energy`` are float64 in kJ/mol. A periodic system
    sends its ``box``, three row vectors in nm, with the positions.
    """
    unknown = [f for f in fields if f not in FIELDS]
    if unknown or not fields:
        raise ConfigError(
            f"Nobody knows the field {unknown[0]!r}; there are {', '.join(FIELDS)}."
            if unknown
            else "No field is to be sent; name at least one."
        )
    indices = select_atoms(topology, select)
    n = len(indices)
    variables = [Variable(name, dtype, (n, 3), unit) for name, unit in _VECTORS if name in fields]
    if "energies" in fields:
        variables += [
            Variable(f"{kind}_energy", "<f8", (), "kJ/mol") for kind in ("potential", "kinetic")
        ]
    periodic = system.usesPeriodicBoundaryConditions()
    if "box" in fields or (periodic and "positions" in fields):
        variables.append(Variable("box", "<f8", (3, 3), "nm", description="Rows are vectors."))
    return StreamSchema(
        tuple(variables),
        time_unit="ps",
        topology=_read_topology(topology, system, indices),
        selection="" if n == topology.getNumAtoms() else _name(select),
        attributes={
            "wrapped": "true" if wrapped and periodic else "false",
            "periodic": "true" if periodic else "false",
            "atoms": str(topology.getNumAtoms()),
        },
    )


def _name(select: Selection) -> str:
    return select if isinstance(select, str) else f"{len(select)} atoms by index"


def _read_topology(topology: Any, system: Any, indices: npt.NDArray[np.intp]) -> Topology:
    atoms = list(topology.atoms())
    chosen = [atoms[i] for i in indices]
    place = {int(index): row for row, index in enumerate(indices)}
    bonds = ((place.get(a.index), place.get(b.index)) for a, b in topology.bonds())
    return Topology(
        names=tuple(a.name for a in chosen),
        elements=tuple(a.element.symbol if a.element else "" for a in chosen),
        residues=tuple(a.residue.name for a in chosen),
        residue_ids=tuple(_number(a.residue) for a in chosen),
        bonds=tuple((a, b) for a, b in bonds if a is not None and b is not None),
        masses=tuple(_mass(a, system) for a in chosen),
    )


def _number(residue: Any) -> int:
    try:
        return int(residue.id)
    except ValueError:
        return int(residue.index) + 1


def _mass(atom: Any, system: Any) -> float:
    # The element's, because a system's may be repartitioned among bonded atoms.
    if atom.element is not None:
        return float(atom.element.mass._value)
    return float(system.getParticleMass(atom.index)._value)
