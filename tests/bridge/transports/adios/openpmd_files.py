"""Writes openPMD files with openPMD-api, for the tests: ``python openpmd_files.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openpmd_api as pm

ATOMS = 5


def component(record: pm.Record, name: str, values: np.ndarray | float, unit: float = 1.0) -> None:
    part = record[name]
    kind = np.dtype("f4") if isinstance(values, float) else values.dtype
    part.reset_dataset(pm.Dataset(kind, [ATOMS]))
    part.unit_SI = unit
    if isinstance(values, float):
        part.make_constant(values)
    else:
        part.store_chunk(values)


def write(
    path: Path,
    encoding: pm.Iteration_Encoding,
    *,
    offset: float = 0.0,
    kinds: tuple[str, ...] = ("atoms",),
) -> None:
    series = pm.Series(str(path), pm.Access.create_linear)
    series.set_iteration_encoding(encoding)
    for step in (100, 200, 300):
        iteration = series.snapshots()[step]
        iteration.time, iteration.dt, iteration.time_unit_SI = step * 0.002, 0.2, 1e-12
        for kind in kinds:
            atoms = iteration.particles[kind]
            atoms["position"].unit_dimension = {pm.Unit_Dimension.L: 1}
            atoms["velocity"].unit_dimension = {pm.Unit_Dimension.L: 1, pm.Unit_Dimension.T: -1}
            for number, name in enumerate("xyz"):
                values = np.arange(ATOMS, dtype=np.float32) + step + number / 4
                component(atoms["position"], name, values, 1e-9)
                component(atoms["positionOffset"], name, offset, 1e-10)
                component(atoms["velocity"], name, 0.5 if name == "z" else values * 2, 1e2)
            atoms["mass"].unit_dimension = {pm.Unit_Dimension.M: 1}
            component(atoms["mass"], pm.Record_Component.SCALAR, 12.0, 1.66053906660e-27)
            charge = np.linspace(-1, 1, ATOMS)
            component(atoms["charge"], pm.Record_Component.SCALAR, charge, 1.602176634e-19)
            ids = np.roll(np.arange(ATOMS, dtype=np.uint64), step // 100)
            component(atoms["id"], pm.Record_Component.SCALAR, ids)
        iteration.close()
    series.close()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write(folder / "groups.bp", pm.Iteration_Encoding.group_based)
    write(folder / "variables.bp", pm.Iteration_Encoding.variable_based)
    write(folder / "offset.bp", pm.Iteration_Encoding.variable_based, offset=20.0)
    write(folder / "two.bp", pm.Iteration_Encoding.variable_based, kinds=("atoms", "electrons"))
