"""A rank that asks a model, each for itself: ``python asking_ranks.py ADDRESS``; prints a line."""

from __future__ import annotations

import json
import sys

import numpy as np
from mpi4py import MPI

from sim_adapters.mpi import link_mpi

COMM = MPI.COMM_WORLD


def main() -> None:
    told = []
    rows = 3 + COMM.rank
    x = np.full((rows, 2), float(COMM.rank + 1))
    x[-1] = -1.0
    with link_mpi(COMM, "w", stager=sys.argv[1], limit=30.0) as link:
        for step in range(1, 4):
            link.put(step, float(step), x=x + step)
            found = link.infer("double", x=x, timeout=60.0)
            told.append([found["y"][0].tolist(), found.valid.tolist(), found.version])
            link.service(step, float(step))
    # In one piece: the ranks share a pipe.
    sys.stdout.write(json.dumps({"rank": COMM.rank, "told": told}) + "\n")


if __name__ == "__main__":
    main()
