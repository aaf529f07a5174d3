"""What a stream carries: its variables, their dtypes, shapes and units, and who wrote it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from bridge.errors import SchemaError

__all__ = [
    "MAX_FRAME_BYTES",
    "StreamSchema",
    "Topology",
    "Variable",
    "check_name",
    "plain_unit",
]

MAX_FRAME_BYTES = 1 << 32
"""Largest frame that a schema may declare, in bytes (4 GiB)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")
_KINDS = "biufcS"


def plain_unit(unit: str) -> str:
    """Return a unit as people read it: "1" is how many codes say that there is none."""
    return "" if unit == "1" else unit


def check_name(name: str, what: str) -> str:
    """Return `name` if it may be used as a name on the wire and in file names.

    Raises
    ------
    SchemaError
        If it is empty, longer than 128 characters, or has characters other than
        letters, digits, ``_``, ``.`` and ``-``.
    """
    if not _NAME.fullmatch(name):
        raise SchemaError(
            f"The {what} {name!r} is not a valid name: use 1 to 128 letters, digits, '_', '.' "
            "or '-', beginning with a letter or digit."
        )
    return name


class Variable(msgspec.Struct, frozen=True, omit_defaults=True):
    """One named array of every frame.

    Attributes
    ----------
    name
        Name on the wire, for example ``positions``.
    dtype
        NumPy type string with byte order, for example ``<f4``; little-endian on the wire.
    shape
        Shape in one frame; ``()`` for a scalar. With `decomposed`, the global shape.
    unit
        Unit of the values, for example ``nm``; empty if they have none.
    decomposed
        The first axis is split over the ranks of the simulation.
    description
        One sentence for people.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    unit: str = ""
    decomposed: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "variable")
        try:
            dtype = np.dtype(self.dtype)
        except TypeError as error:
            raise SchemaError(
                f"Variable {self.name!r} has the unknown dtype {self.dtype!r}; give a NumPy type "
                "string such as '<f4'."
            ) from error
        if dtype.kind not in _KINDS or dtype.byteorder == ">" or dtype.itemsize == 0:
            raise SchemaError(
                f"Variable {self.name!r} has dtype {self.dtype!r}, which cannot be sent; use a "
                "little-endian boolean, integer, float, complex or fixed-length bytes type."
            )
        if any(n < 0 for n in self.shape) or (self.decomposed and not self.shape):
            raise SchemaError(f"Variable {self.name!r} has the impossible shape {self.shape}.")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype as NumPy knows it."""
        return np.dtype(self.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes in one frame."""
        size = self.numpy_dtype.itemsize
        for n in self.shape:
            size *= n
        return size


class Topology(msgspec.Struct, frozen=True, omit_defaults=True):
    """Optional description of the particles, in the order in which they are sent.

    Attributes
    ----------
    names, elements, residues
        Atom name, element symbol and residue name of each particle.
    residue_ids
        Residue number of each particle.
    bonds
        Pairs of particle indices.
    masses
        Mass of each particle in unified atomic mass units.
    """

    names: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    residues: tuple[str, ...] = ()
    residue_ids: tuple[int, ...] = ()
    bonds: tuple[tuple[int, int], ...] = ()
    masses: tuple[float, ...] = ()

    def take(self, rows: Sequence[int]) -> Topology:
        """Return the topology of some particles, in this order, with the bonds among them.

        Raises
        ------
        SchemaError
            If it does not describe one of them.
        """
        order = [int(row) for row in rows]
        given = (self.names, self.elements, self.residues, self.residue_ids, self.masses)
        shortest = min((len(values) for values in given if values), default=0)
        if shortest and max(order, default=-1) >= shortest:
            raise SchemaError(
                f"The topology describes {shortest} particles, and row {max(order)} is selected; "
                "give the topology of all rows."
            )
        new = {row: place for place, row in enumerate(order)}

        def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[row] for row in order) if values else ()

        return Topology(
            names=pick(self.names),
            elements=pick(self.elements),
            residues=pick(self.residues),
            residue_ids=pick(self.residue_ids),
            bonds=tuple((new[a], new[b]) for a, b in self.bonds if a in new and b in new),
            masses=pick(self.masses),
        )


class StreamSchema(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything a reader must know to understand the frames of one stream.

    Besides the `variables`, each frame carries its ``step`` (int64), its ``time`` (float64, in
    `time_unit`) and its ``epoch`` (int32: which continuous piece of trajectory it belongs to; a
    restart begins a new one).

    Attributes
    ----------
    variables
        The arrays of each frame, in wire order.
    time_unit
        Unit of the frames' time, for example ``ps``.
    topology
        Optional description of the particles.
    selection
        What was sent of the whole system, in the adapter's words; empty for all of it.
    n_ranks
        Number of processes that each write a block of every frame.
    attributes
        Anything else, as text.
    """

    variables: tuple[Variable, ...]
    time_unit: str = ""
    topology: Topology | None = None
    selection: str = ""
    n_ranks: int = 1
    attributes: dict[str, str] = {}

    def __post_init__(self) -> None:
        names = [v.name for v in self.variables]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise SchemaError(f"The schema declares {', '.join(twice)} more than once.")
        reserved = sorted(set(names) & {"step", "time", "epoch", "offset"})
        if reserved:
            raise SchemaError(
                f"The schema declares {', '.join(reserved)}, which every frame carries already; "
                "choose another name."
            )
        if self.n_ranks < 1:
            raise SchemaError(f"The schema declares {self.n_ranks} ranks; there is at least one.")
        if self.frame_nbytes > MAX_FRAME_BYTES:
            raise SchemaError(
                f"One frame of this schema has {self.frame_nbytes} bytes, more than the limit of "
                f"{MAX_FRAME_BYTES}; send a selection, or split the frame over ranks."
            )

    @classmethod
    def from_arrays(
        cls, example: Mapping[str, Any], *, units: Mapping[str, str] | None = None, **more: Any
    ) -> StreamSchema:
        """Derive a schema from one frame's arrays.

        Parameters
        ----------
        example
            Name to array (or number) of one frame.
        units
            Name to unit.
        **more
            Further fields of the schema.
        """
        given = dict(units or {})
        variables = []
        for name, value in example.items():
            array = np.asarray(value)
            dtype = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
            variables.append(Variable(name, dtype.str, array.shape, unit=given.pop(name, "")))
        if given:
            raise SchemaError(f"Units are given for unknown variables: {', '.join(sorted(given))}.")
        return cls(tuple(variables), **more)

    @property
    def frame_nbytes(self) -> int:
        """Bytes of one frame's variables."""
        return sum(v.nbytes for v in self.variables)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables, in wire order."""
        return tuple(v.name for v in self.variables)

    def variable(self, name: str) -> Variable:
        """Return the variable of that name.

        Raises
        ------
        SchemaError
            If there is none; the message names the nearest one.
        """
        for variable in self.variables:
            if variable.name == name:
                return variable
        near = difflib.get_close_matches(name, self.names, 1)
        hint = f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(self.names)}."
        raise SchemaError(f"The stream has no variable {name!r}.{hint}")
