"""Simulations under MPI: what streaming costs LAMMPS and Gray-Scott, and a million atoms joined.

LAMMPS and Gray-Scott run pieces of equal length in turn, streaming and not, in random order, in the
same processes; the ratio is of the two pieces beside each other. ``fix imd`` of LAMMPS is measured
in the same way, with a process that reads it, and so is an SST stream of ADIOS2 from each rank of
Gray-Scott. LAMMPS drives those runs itself; "driven" is what it
costs to run in pieces, between which commands can be applied, and includes one more setup a piece.
The frames of a million atoms come from four ranks; another process reads them, joined, and the
figure is beside raw ZeroMQ with the same bytes. "contiguous" ranks own rows that follow each other,
those of "migrating" ones lie in no order at all.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.processes import receive, spawn, stager_process
from benchmarks.report import figure, result
from benchmarks.staging import raw
from bridge.staging import StagerClient
from sim_adapters.mpi_launch import launch

ROOT = Path(__file__).parents[1]
MILLION = 1_000_000


def _ranks(what: str, ranks: int, *arguments: Any, limit: float = 600.0) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.mpi_ranks", what, *map(str, arguments)]
    lines = launch(ranks, command, what=what, directory=ROOT, limit=limit)
    told: dict[str, Any] = json.loads(next(line for line in lines if line.startswith("{")))
    return told


def _read(address: str, count: int, pipe: Any) -> None:
    with StagerClient(address) as client:
        pipe.send("ready")
        positions = {"frames/million": 0}
        seen, began = 0, 0.0
        while seen < count:
            with client.fetch(positions, group="bench", commit=positions, wait=10.0) as got:
                seen += sum(len(b) for b in got.batches)
                positions.update(got.positions)
                began = began or (got.stamps[0] if got.stamps else 0.0)
        pipe.send((began, time.time()))


def million(count: int, order: str) -> float:
    """Return joined frames of a million atoms a second, from the first put to the last read."""
    with stager_process() as (address, _):
        mine, theirs = spawn.Pipe()
        reader = spawn.Process(target=_read, args=(address, count, theirs))
        reader.start()
        receive(mine, reader)
        _ranks("million", 4, address, count, order)
        began, ended = receive(mine, reader)
        reader.join()
    return count / float(ended - began)


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the module's text."""
    figures = []
    with stager_process() as (address, _):
        told = _ranks("lammps", 1, address, 3 if quick else 12, 100 if quick else 200)
    for name, target in (("fix external", 0.03), ("driven", None), ("fix imd", None)):
        label = f"LAMMPS, 32,000 atoms, frame each 10 steps: slowdown, {name}"
        slower = [ratio - 1.0 for ratio in told[name]]
        figures.append(figure(label, slower, "", target=target, better="lower"))
    with stager_process() as (address, _):
        told = _ranks("gray-scott", 2, address, 6 if quick else 20, 60 if quick else 200)
    label = "Gray-Scott 64³, 2 ranks, frame each 20 steps: slowdown"
    for name, what, target in (("linked", label, 0.015), ("SST", f"{label} by SST", None)):
        slower = [ratio - 1.0 for ratio in told[name]]
        figures.append(figure(what, slower, "", target=target, better="lower"))
    repeats, count = (2, 60) if quick else (5, 300)
    for order, target in (("contiguous", 0.5), ("migrating", None)):
        ratios, rates = [], []
        for _ in range(repeats):
            plain = raw(MILLION, count)
            rate = million(count, order)
            ratios.append(rate / plain)
            rates.append(rate * MILLION * 12 / 1e6)
        label = f"a million atoms from 4 ranks, {order}, joined"
        figures.append(figure(f"{label}, to raw ZeroMQ", ratios, "×", target=target))
        figures.append(figure(label, rates, "MB/s"))
    return result("mpi", figures)
