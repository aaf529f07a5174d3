"""What an ADIOS2 stream's variables mean, told by a small TOML file where attributes do not say it.

::

    step = "ntimestep"           # an integer; by default the number of the ADIOS2 step
    time = "t"                   # or dt = 0.002, where there is none
    time_unit = "ps"
    ids = "atom_ids"             # frames come in the order of the ids, whoever owns a particle
    first_id = 1

    [variables.positions]
    from = "x"                   # or ["x", "y", "z"], joined as columns
    unit = "angstrom"
    to = "nm"

    [variables.box]
    from = ["lx", "ly", "lz"]
    unit = "angstrom"
    diagonal = true              # a matrix with these on its diagonal

    [topology]
    elements = "elements"        # names of attributes
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bridge.config import read_toml, to_struct
from bridge.errors import ConfigError
from bridge.schema import check_name

__all__ = ["StreamMapping", "TopologyMapping", "VariableMapping", "read_mapping"]


class VariableMapping(msgspec.Struct, frozen=True, kw_only=True, rename={"source": "from"}):
    """Where one variable of a frame comes from.

    Attributes
    ----------
    source
        In TOML ``from``: an ADIOS2 variable, or several that become columns.
    unit
        Its unit; by default that of its attribute ``units``, if it has one.
    to
        Convert values to this unit.
    columns
        Which columns of a table to take; all by default.
    shape
        Another shape for the same number of values, such as ``[3, 3]``.
    diagonal
        The values are the diagonal of a square matrix.
    whole
        Every writer has all of it: of several streams, the first one's is taken.
    description
        One sentence for people.
    """

    source: str | tuple[str, ...]
    unit: str = ""
    to: str = ""
    columns: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    diagonal: bool = False
    whole: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        if not self.source or (self.columns and len(self.sources) > 1):
            raise ConfigError("'from' names one variable with 'columns', or one or several alone.")

    @property
    def sources(self) -> tuple[str, ...]:
        """The ADIOS2 variables."""
        return (self.source,) if isinstance(self.source, str) else tuple(self.source)


class TopologyMapping(msgspec.Struct, frozen=True, kw_only=True):
    """Names of attributes that describe the particles; lists, or text with spaces between.

    Attributes
    ----------
    names, elements, residues, residue_ids, masses
        As in `bridge.schema.Topology`.
    bonds
        Pairs of indices, one behind another.
    """

    names: str = ""
    elements: str = ""
    residues: str = ""
    residue_ids: str = ""
    masses: str = ""
    bonds: str = ""


class StreamMapping(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of a stream; everything may be left out.

    Attributes
    ----------
    variables
        Name on the wire to where it comes from; without any, all numbers of the stream are taken.
    step, time, epoch, ids
        Names of ADIOS2 variables.
    time_unit, dt
        Unit of the time; time between two steps, where no variable tells the time.
    first_id
        Id of the particle in row 0.
    capacity
        Rows of a frame, where the number of particles changes; those without a particle are NaN,
        or 0 in integers, and a variable ``n_particles`` tells the number.
    species
        Which particle species to take of an openPMD stream; all by default.
    topology, attributes
        For the schema.
    where
        The file, for messages.
    """

    variables: dict[str, VariableMapping] = {}
    step: str = ""
    time: str = ""
    epoch: str = ""
    ids: str = ""
    time_unit: str = ""
    dt: float = 0.0
    first_id: int = 0
    capacity: int = 0
    species: str = ""
    topology: TopologyMapping = TopologyMapping()
    attributes: dict[str, str] = {}
    where: str = "the mapping"

    def __post_init__(self) -> None:
        if self.capacity < 0 or self.dt < 0:
            raise ConfigError("'capacity' and 'dt' are not negative.")
        if self.time and self.dt:
            raise ConfigError("Give 'time' or 'dt', not both.")


def read_mapping(given: Path | Mapping[str, Any] | None) -> StreamMapping:
    """Return the mapping of a TOML file, or of a table; an empty one for None.

    Raises
    ------
    ConfigError
        For an unknown key (the message names the nearest), or a value that is none.
    """
    if given is None:
        return StreamMapping()
    table = dict(given) if isinstance(given, Mapping) else read_toml(given)
    where = table.pop("where", "the mapping") if isinstance(given, Mapping) else str(given)
    inner = table.pop("variables", {})
    if not isinstance(inner, Mapping):
        raise ConfigError(f"{where}: 'variables' is a table of variables.")
    variables = {}
    for name, value in inner.items():
        place = f"{where}, [variables.{name}]"
        check_name(name, "variable")
        one = value if isinstance(value, Mapping) else {"from": value}
        variables[name] = to_struct(VariableMapping, one, place)
    return msgspec.structs.replace(
        to_struct(StreamMapping, table, where), variables=variables, where=where
    )
