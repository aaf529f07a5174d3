"""Frames of LAMMPS: what they are made of, and how a rank's block is read from its atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from mpi4py import MPI

from bridge.errors import ConfigError, MemberFailed
from bridge.schema import StreamSchema, Topology, Variable
from sim_adapters.lammps_units import UnitStyle, unit_style

__all__ = ["FIELDS", "BlockReader", "Field", "read_box"]

Field = Literal["positions", "velocities", "forces", "types", "images"]
FIELDS: tuple[Field, ...] = get_args(Field)

_VECTORS = {
    "positions": ("x", "length"), "velocities": ("v", "velocity"), "forces": ("f", "force"),
}  # fmt: skip
# Keyword of the thermo command, name on the wire, quantity.
_THERMO = {
    "temp": ("temperature", "temperature"),
    "pe": ("potential_energy", "energy"),
    "ke": ("kinetic_energy", "energy"),
    "etotal": ("total_energy", "energy"),
    "enthalpy": ("enthalpy", "energy"),
    "press": ("pressure", "pressure"),
    "vol": ("volume", "volume"),
}
_Array = npt.NDArray[Any]


class _Rows:
    """Which row of a frame an atom is in: the order of the ids of the chosen atoms."""

    def __init__(self, comm: MPI.Intracomm, tags: _Array) -> None:
        mine = np.array([len(tags), tags.max(initial=0)], np.int64)
        total, largest = np.empty_like(mine[:1]), np.empty_like(mine[:1])
        comm.Allreduce(mine[:1], total, MPI.SUM)
        comm.Allreduce(mine[1:], largest, MPI.MAX)
        self.count = int(total[0])
        self.table: _Array | None = None
        if largest[0] != self.count:
            counts = np.empty(comm.Get_size(), np.int64)
            comm.Allgather(mine[:1], counts)
            table = np.empty(self.count, np.int64)
            offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
            comm.Allgatherv(tags.astype(np.int64), [table, counts, offsets, MPI.INT64_T])
            self.table = np.sort(table)

    def find(self, tags: _Array) -> tuple[_Array, _Array | None]:
        """Return the rows of the chosen atoms among these, and which those are (None for all)."""
        if self.table is None:
            rows = tags.astype(np.int64) - 1
            # Ids from 1 to the count: a group of the first atoms, or everything.
            inside = rows < self.count
            return (rows, None) if inside.all() else (rows[inside], inside)
        rows = np.searchsorted(self.table, tags)
        inside = rows < self.count
        inside[inside] = self.table[rows[inside]] == tags[inside]
        return (rows, None) if inside.all() else (rows[inside], inside)


class BlockReader:
    """Reads this rank's part of a frame; every rank makes one.

    Parameters
    ----------
    lmp
        A `lammps.lammps` with atoms.
    comm
        The communicator that it runs on.
    fields
        Per-atom arrays to read.
    thermo
        Keywords of the thermo command to read besides.
    group
        LAMMPS group of the atoms to read; who is in it is found once.
    dtype
        Of positions, velocities and forces.
    unwrap
        Undo the wrapping of positions into the periodic box by the atoms' image flags.

    Attributes
    ----------
    units
        LAMMPS's unit style.
    atoms
        Atoms in the frames.
    schema
        What frames are made of.

    Raises
    ------
    ConfigError
        If a field, group or keyword is unknown, or atoms have no ids.
    """

    def __init__(
        self,
        lmp: Any,
        comm: MPI.Intracomm,
        *,
        fields: Sequence[Field] = ("positions",),
        thermo: Sequence[str] = (),
        group: str = "all",
        dtype: str = "<f4",
        unwrap: bool = False,
        topology: Topology | None = None,
    ) -> None:
        unknown = [f for f in fields if f not in FIELDS]
        if unknown or not fields:
            raise ConfigError(
                f"Nobody knows the field {unknown[0]!r}; there are {', '.join(FIELDS)}."
                if unknown
                else "No field is to be sent; name at least one."
            )
        self.units: UnitStyle = unit_style(lmp.extract_global("units"))
        self._lmp = lmp
        self._fields = tuple(fields)
        self._thermo = tuple(thermo)
        self._dtype = np.dtype(dtype)
        self._unwrap = unwrap
        self._total = int(lmp.get_natoms())
        self._imageint = int(lmp.extract_setting("imageint"))
        if not self._total or lmp.extract_atom("id") is None:
            raise ConfigError("LAMMPS has no atoms, or atoms without ids; make them first.")
        tags = self._local("id")
        if group != "all":
            groups = lmp.available_ids("group")
            if group not in groups:
                raise ConfigError(f"LAMMPS has no group {group!r}; it has {_join(groups)}.")
            tags = tags[self._local("mask") & (1 << groups.index(group)) != 0]
        self._rows = _Rows(comm, tags)
        self.atoms = self._rows.count
        if not self.atoms:
            raise ConfigError(f"The group {group!r} of LAMMPS has no atoms.")
        for keyword in thermo:
            _check_thermo(lmp, keyword)
        self.schema = self._describe(group, comm.Get_size(), topology)

    def read(self) -> tuple[npt.NDArray[np.int64], dict[str, Any]]:
        """Return the rows of this rank's atoms in the frame, and its arrays; every rank calls it.

        Raises
        ------
        MemberFailed
            If atoms were added or have gone.
        """
        lmp, units = self._lmp, self.units
        if lmp.get_natoms() != self._total:
            raise MemberFailed(
                f"LAMMPS has {lmp.get_natoms()} atoms and had {self._total} when it was linked; "
                "a stream's frames all have the same atoms. Send a group that does not change."
            )
        rows, chosen = self._rows.find(self._local("id"))
        box, origin = read_box(lmp)
        values: dict[str, Any] = {}
        for field in self._fields:
            if field == "types":
                values[field] = _take(self._local("type"), chosen)
                continue
            if field == "images":
                values[field] = self._images(chosen)
                continue
            name, quantity = _VECTORS[field]
            vectors = _take(self._local(name), chosen)
            if field == "positions" and self._unwrap:
                vectors = vectors + self._images(chosen) @ box
            factor = units.factor(quantity)
            out = np.empty(vectors.shape, self._dtype)
            np.multiply(vectors, factor, out=out, casting="same_kind")
            values[field] = out
        if "positions" in self._fields:
            values["box"] = box * units.length
            values["box_origin"] = origin * units.length
        for keyword in self._thermo:
            name, quantity = _THERMO.get(keyword, (_clean(keyword), "none"))
            factor = units.length**3 if quantity == "volume" else units.factor(quantity)
            values[name] = np.float64(lmp.get_thermo(keyword) * factor)
        return rows, values

    def time(self) -> float:
        """Return the simulated time."""
        return float(self._lmp.get_thermo("time")) * self.units.time

    def local_rows(self) -> tuple[npt.NDArray[np.int64], _Array | None]:
        """Return the rows of this rank's atoms, and which of them have one (None for all)."""
        return self._rows.find(self._local("id"))

    def _local(self, name: str) -> _Array:
        # A view of LAMMPS's own memory, which moves when atoms migrate: taken anew each time.
        count = int(self._lmp.extract_setting("nlocal"))
        found: _Array = self._lmp.numpy.extract_atom(name, nelem=count)
        return found

    def _images(self, chosen: _Array | None) -> _Array:
        packed = _take(self._local("image"), chosen)
        bits = 10 if self._imageint == 4 else 21
        mask, half = (1 << bits) - 1, 1 << (bits - 1)
        parts = (packed & mask, (packed >> bits) & mask, packed >> (2 * bits))
        return np.stack([p - half for p in parts], axis=1).astype(np.int32)

    def _describe(self, group: str, ranks: int, topology: Topology | None) -> StreamSchema:
        n, units, lmp = self.atoms, self.units, self._lmp
        variables = []
        for field in self._fields:
            if field in _VECTORS:
                unit = units.unit(_VECTORS[field][1])
                variables.append(Variable(field, self._dtype.str, (n, 3), unit, decomposed=True))
            else:
                shape = (n,) if field == "types" else (n, 3)
                variables.append(Variable(field, "<i4", shape, decomposed=True))
        if "positions" in self._fields:
            length = units.unit("length")
            variables += [
                Variable("box", "<f8", (3, 3), length, description="Rows are vectors."),
                Variable("box_origin", "<f8", (3,), length, description="Corner of the box."),
            ]
        for keyword in self._thermo:
            name, quantity = _THERMO.get(keyword, (_clean(keyword), "none"))
            text = f"The thermo keyword {keyword}, as thermo_modify norm has it."
            variables.append(Variable(name, "<f8", (), units.unit(quantity), description=text))
        periodic = lmp.extract_box()[5]
        masses = lmp.numpy.extract_atom("mass")
        attributes = {
            "code": f"LAMMPS {lmp.version()}",
            "units": f"{units.name}, reduced" if units.reduced else f"converted from {units.name}",
            "periodic": "true" if any(periodic) else "false",
            "periodic_axes": "".join(a for a, p in zip("xyz", periodic, strict=True) if p),
            "wrapped": "true" if any(periodic) and not self._unwrap else "false",
            "atoms": str(self._total),
        }
        if masses is not None:
            by_type = np.ravel(masses)[1 : lmp.extract_global("ntypes") + 1] * units.mass
            attributes["masses_by_type"] = " ".join(f"{m:.10g}" for m in by_type)
        return StreamSchema(
            tuple(variables),
            time_unit=units.unit("time"),
            topology=topology,
            selection="" if n == self._total else f"group {group}",
            n_ranks=ranks,
            attributes=attributes,
        )


def read_box(lmp: Any) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the box as three row vectors, and its corner, in LAMMPS's own units."""
    low, high, xy, yz, xz, _, _ = lmp.extract_box()
    lx, ly, lz = (float(b) - float(a) for a, b in zip(low, high, strict=True))
    return np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]]), np.array(low, np.float64)


def _check_thermo(lmp: Any, keyword: str) -> None:
    """Make sure that LAMMPS knows a keyword: for any other it would tell a value of 0."""
    known = keyword.isalnum() and keyword[0].isalpha()
    if known:
        lmp.command(f"variable headrace_keyword equal {keyword}")
        try:
            lmp.extract_variable("headrace_keyword")
        except Exception as error:
            # Other faults say that it has no value before a run.
            known = "Invalid thermo keyword" not in str(error)
        finally:
            lmp.command("variable headrace_keyword delete")
    if not known:
        raise ConfigError(
            f"LAMMPS has no thermo keyword {keyword!r}; its command thermo_style lists them, and "
            "computes, fixes and variables are none."
        )


def _take(array: _Array, chosen: _Array | None) -> _Array:
    return array if chosen is None else array[chosen]


def _clean(keyword: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in keyword).strip("_")


def _join(names: Sequence[str | None]) -> str:
    return ", ".join(n for n in names if n)
