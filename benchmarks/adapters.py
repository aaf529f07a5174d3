"""Everything about linking simulations: ADIOS2, IMD, and simulations under MPI.

Each part can be run by itself: see `benchmarks.adios`, `benchmarks.imd` and `benchmarks.mpi`.
"""

from __future__ import annotations

from typing import Any

from benchmarks import adios, imd, mpi
from benchmarks.report import result


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the modules' texts."""
    figures = []
    for module in (adios, imd, mpi):
        part = module.run(quick)
        figures += [{**f, "name": f"{part['benchmark']}: {f['name']}"} for f in part["figures"]]
    return result("adapters", figures)
