"""What the frames of decomposed simulations are made of, found from the ranks' blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bridge.errors import SchemaError
from bridge.schema import StreamSchema, Topology, Variable
from sim_adapters.mpi_rounds import Rounds

__all__ = ["describe_blocks"]


def describe_blocks(
    rounds: Rounds,
    values: Mapping[str, Any],
    *,
    whole: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
    time_unit: str = "",
    topology: Topology | None = None,
    attributes: Mapping[str, str] | None = None,
) -> StreamSchema:
    """Return the schema of the frames whose blocks the ranks have; every rank calls it.

    Parameters
    ----------
    rounds
        The ranks.
    values
        This rank's arrays. All ranks have the decomposed ones, in the same order.
    whole
        Arrays that are not decomposed. Numbers never are.

    Raises
    ------
    SchemaError
        If a name in `whole` or `units` is unknown.
    """
    unknown = sorted({*whole, *(units or {})} - set(values)) if rounds.rank == 0 else []
    if unknown:
        raise SchemaError(f"There is no variable {', '.join(map(repr, unknown))} in the frame.")
    variables = []
    for name, value in values.items():
        array = np.asarray(value)
        shape = array.shape
        decomposed = bool(shape) and name not in whole
        if decomposed:
            shape = (rounds.rows_before(shape[0])[1], *shape[1:])
        dtype = array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype
        unit = (units or {}).get(name, "")
        variables.append(Variable(name, dtype.str, shape, unit, decomposed=decomposed))
    return StreamSchema(
        tuple(variables),
        time_unit=time_unit,
        topology=topology,
        n_ranks=rounds.size,
        attributes=dict(attributes or {}),
    )
