"""Simulations that know nothing of us and write ADIOS2: ``python writers.py NAME KEY=VALUE …``.

Each says ``ready`` once the stream is open, and where it is asked to, waits for a line on its
standard input before each step or before it ends.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import numpy as np

# The package imports torch where that is installed, which takes seconds.
_TORCH = sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
from adios2 import bindings as b  # noqa: E402

if _TORCH is None:
    del sys.modules["torch"]

DEFAULTS = {
    "engine": "SST", "steps": 10, "first": 0, "every": 1, "atoms": 4, "rank": 0, "ranks": 1,
    "placed": 0, "readers": 1, "queue": 2, "policy": "Block", "kill": -1, "stop": -1, "hang": -1,
    "lockstep": 0, "skip": -1,
}  # fmt: skip


def positions(step: int, atoms: int) -> np.ndarray[Any, Any]:
    """Return what a test expects."""
    return (np.arange(atoms * 3, dtype=np.float32).reshape(atoms, 3) + step).astype(np.float32)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(name: str, options: dict[str, Any]) -> None:
    adios = b.ADIOS()
    io = adios.DeclareIO("writer")
    io.SetEngine(options["engine"])
    if options["engine"] == "SST":
        io.SetParameters(
            {
                "RendezvousReaderCount": str(options["readers"]),
                "QueueLimit": str(options["queue"]),
                "QueueFullPolicy": options["policy"],
                "DataTransport": "WAN",
            }
        )
    atoms, rank, ranks = options["atoms"], options["rank"], options["ranks"]
    rows = slice(rank * atoms // ranks, (rank + 1) * atoms // ranks)
    mine = rows.stop - rows.start
    shape, start = ([atoms, 3], [rows.start, 0]) if options["placed"] else ([mine, 3], [0, 0])
    example = np.zeros((mine, 3), np.float32)
    x = io.DefineVariable("positions", example, shape, start, [mine, 3])
    step_variable = io.DefineVariable("step", np.zeros(1, np.int64), [], [], [])
    time_variable = io.DefineVariable("time", np.zeros(1), [], [], [])
    io.DefineAttribute("positions/units", "nm")
    io.DefineAttribute("time/units", "ps")
    say("open")
    engine = io.Open(name, b.Mode.Write)
    say("ready")
    for number in range(options["first"], options["first"] + options["steps"]):
        if options["lockstep"]:
            sys.stdin.readline()
        if number == options["skip"]:
            continue
        step = number * options["every"]
        values = np.ascontiguousarray(positions(step, atoms)[rows])
        engine.BeginStep()
        engine.Put(x, values, b.Mode.Sync)
        engine.Put(step_variable, np.array([step]), b.Mode.Sync)
        engine.Put(time_variable, np.array([step * 0.5]), b.Mode.Sync)
        if number == options["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == options["hang"]:
            say("hanging")
            sys.stdin.readline()
        engine.EndStep()
        if number == options["stop"]:
            os.kill(os.getpid(), signal.SIGSTOP)
    engine.Close()


if __name__ == "__main__":
    given = dict(DEFAULTS)
    for argument in sys.argv[2:]:
        key, _, value = argument.partition("=")
        given[key] = type(given[key])(value)
    main(sys.argv[1], given)
