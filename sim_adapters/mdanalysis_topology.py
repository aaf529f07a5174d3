"""What a stream says of its particles, as a topology for MDAnalysis."""

from __future__ import annotations

from typing import Any

import numpy as np

from bridge.errors import ConfigError, MissingExtra
from bridge.schema import StreamSchema

try:
    from MDAnalysis.core import topologyattrs as attributes
    from MDAnalysis.core.topology import Topology
    from MDAnalysis.topology.base import change_squash
except ImportError as error:
    raise MissingExtra("MDAnalysis", "mdanalysis", "reading streams with MDAnalysis") from error

__all__ = ["count_atoms", "make_topology"]


def count_atoms(schema: StreamSchema, names: tuple[str, ...]) -> int:
    """Return how many particles the first of these variables has that the stream carries.

    Raises
    ------
    ConfigError
        If it carries none of them, or one of another shape than (atoms, 3).
    """
    found = [schema.variable(name) for name in names if name in schema.names]
    if not found:
        raise ConfigError(
            f"The stream has none of {', '.join(names)}; it has {', '.join(schema.names)}. Name "
            "its variables, as in names={'positions': 'x'}."
        )
    for variable in found:
        if len(variable.shape) != 2 or variable.shape[1] != 3:
            raise ConfigError(
                f"The variable {variable.name!r} has shape {variable.shape}; MDAnalysis needs "
                "(atoms, 3)."
            )
        if variable.shape != found[0].shape:
            raise ConfigError(
                f"The variables {found[0].name!r} and {variable.name!r} have shapes "
                f"{found[0].shape} and {variable.shape}; they must have the same atoms."
            )
    return int(found[0].shape[0])


def make_topology(schema: StreamSchema, n_atoms: int) -> Topology:
    """Return the topology that a schema carries; of atoms without names where it carries none.

    A residue ends where the residue's number or name changes; all are in one segment, ``SYSTEM``.
    """
    given = schema.topology
    if given is None:
        return Topology(n_atoms, 1, 1)

    def whole(values: tuple[Any, ...], kind: Any) -> Any:
        return np.array(values, kind) if len(values) == n_atoms else None

    elements, names = whole(given.elements, object), whole(given.names, object)
    masses = whole(given.masses, np.float64)
    attrs: list[Any] = []
    if names is not None:
        attrs.append(attributes.Atomnames(names))
    if elements is not None:
        attrs += [attributes.Elements(elements), attributes.Atomtypes(elements.copy())]
    if masses is not None:
        attrs.append(attributes.Masses(masses))
    if given.bonds:
        attrs.append(attributes.Bonds([tuple(pair) for pair in given.bonds]))
    ids, residues = whole(given.residue_ids, np.int64), whole(given.residues, object)
    if ids is None and residues is None:
        attrs += [attributes.Resids(np.array([1])), attributes.Segids(np.array(["SYSTEM"], object))]
        return Topology(n_atoms, 1, 1, attrs=attrs)
    if ids is None:
        ids = np.cumsum(np.r_[True, residues[1:] != residues[:-1]])
    if residues is None:
        residues = np.full(n_atoms, "", object)
    index, (resids, resnames) = change_squash((ids, residues), (ids, residues))
    attrs += [
        attributes.Resids(resids),
        attributes.Resnums(resids.copy()),
        attributes.Resnames(resnames),
        attributes.Segids(np.array(["SYSTEM"], object)),
    ]
    return Topology(n_atoms, len(resids), 1, attrs=attrs, atom_resindex=index)
