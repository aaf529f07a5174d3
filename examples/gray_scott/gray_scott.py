"""Gray-Scott's reaction and diffusion in three dimensions, on one or more ranks.

    mpiexec -n 2 python gray_scott.py --stager tcp://127.0.0.1:5555 </dev/null

Each rank owns some planes of a periodic cube, exchanges the planes beside them with its
neighbours, and streams what it owns. Others may change the feed rate F, and stop, pause or restart
the reaction.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from mpi4py import MPI

from bridge.commands import Capability
from bridge.schema import StreamSchema, Variable
from sim_adapters.mpi import MpiLink, link_mpi
from sim_adapters.mpi_launch import end_with_parent

Floats = npt.NDArray[np.float64]

CELLS = 2
"""Cells along the two whole axes of the profile, in each of which a plane is averaged."""


class GrayScott:
    """One rank's planes of two species, float64, with a halo of one cell on every side.

    Parameters
    ----------
    comm
        The ranks; as many as there are planes at most.
    size
        Cells along each side of the cube.
    F, k
        Feed and kill rate.
    seed
        Of the noise that the reaction starts from; the same whatever the number of ranks.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        size: int,
        *,
        F: float = 0.03,
        k: float = 0.06,
        Du: float = 0.16,
        Dv: float = 0.08,
        dt: float = 0.5,
        seed: int = 1,
    ) -> None:
        self.comm = comm
        self.size = size
        self.F, self.k, self.Du, self.Dv, self.dt = F, k, Du, Dv, dt
        rank, ranks = comm.Get_rank(), comm.Get_size()
        self.start, self.stop = size * rank // ranks, size * (rank + 1) // ranks
        self.before, self.after = (rank - 1) % ranks, (rank + 1) % ranks
        shape = (self.stop - self.start + 2, size + 2, size + 2)
        self._u, self._v = np.ones(shape), np.zeros(shape)
        self._work = [np.empty(self.u.shape) for _ in range(3)]
        middle = slice(size // 2 - size // 8, size // 2 + size // 8)
        for plane in range(self.start, self.stop):
            noise = np.random.default_rng((seed, plane)).random((size, size))
            u, v = self.u[plane - self.start], self.v[plane - self.start]
            if middle.start <= plane < middle.stop:
                u[middle, middle], v[middle, middle] = 0.5, 0.25
            u -= 0.02 * noise
            v += 0.02 * noise

    @property
    def u(self) -> Floats:
        """The first species on this rank's planes; a view."""
        return self._u[1:-1, 1:-1, 1:-1]

    @property
    def v(self) -> Floats:
        """The second one."""
        return self._v[1:-1, 1:-1, 1:-1]

    def step(self) -> None:
        """Advance by one time step of Euler's method."""
        for field in (self._u, self._v):
            self._fill_halo(field)
        u, v = self.u, self.v
        reaction, flow, decay = self._work
        np.multiply(v, v, out=reaction)
        reaction *= u
        _laplacian(self._v, decay)
        decay *= self.Dv
        decay += reaction
        decay -= (self.F + self.k) * v
        _laplacian(self._u, flow)
        flow *= self.Du
        flow -= reaction
        flow += self.F * (1.0 - u)
        flow *= self.dt
        decay *= self.dt
        u += flow
        v += decay

    def _fill_halo(self, field: Floats) -> None:
        # The whole axes first, so that the planes that travel carry their corners.
        field[:, 0], field[:, -1] = field[:, -2], field[:, 1]
        field[:, :, 0], field[:, :, -1] = field[:, :, -2], field[:, :, 1]
        if self.comm.Get_size() == 1:
            field[0], field[-1] = field[-2], field[1]
            return
        self.comm.Sendrecv(field[-2], self.after, 0, field[0], self.before, 0)
        self.comm.Sendrecv(field[1], self.before, 1, field[-1], self.after, 1)

    def profile(self) -> Floats:
        """Return means of v over squares of each plane, of shape (planes, CELLS, CELLS)."""
        side = self.size // CELLS
        shape = (len(self.v), CELLS, side, CELLS, side)
        return self.v.reshape(shape).mean(axis=(2, 4))

    def place(self, arrays: Mapping[str, Any]) -> None:
        """Take up a frame of the whole cube."""
        self.u[:] = arrays["u"][self.start : self.stop]
        self.v[:] = arrays["v"][self.start : self.stop]


def _laplacian(field: Floats, out: Floats) -> None:
    inner = slice(1, -1)
    np.multiply(field[inner, inner, inner], -6.0, out=out)
    for axis in range(3):
        for shift in (slice(0, -2), slice(2, None)):
            where = [inner, inner, inner]
            where[axis] = shift
            out += field[tuple(where)]


def describe(size: int) -> StreamSchema:
    """Return what frames are made of: both fields, and a profile small enough to learn from."""
    cube = (size, size, size)
    return StreamSchema(
        (
            Variable("u", "<f4", cube, decomposed=True),
            Variable("v", "<f4", cube, decomposed=True),
            Variable("profile", "<f4", (size, CELLS, CELLS), decomposed=True),
            Variable("F", "<f8", (), description="Feed rate."),
        ),
        attributes={"system": "Gray-Scott, periodic cube, Euler"},
    )


def open_link(comm: MPI.Intracomm, system: GrayScott, name: str, **more: Any) -> MpiLink:
    """Link a system: its feed rate can be set, and it can be restarted from any frame."""
    cube = (system.size,) * 3
    link = link_mpi(
        comm,
        name,
        schema=describe(system.size),
        capabilities=[
            Capability("set", "F", 0.01, 0.1),
            Capability("restart"),
            *(Capability(kind) for kind in ("stop", "pause", "resume")),
            Capability("interval", minimum=1, maximum=10_000, unit="steps"),
        ],
        **more,
    )
    link.on("set", "F", lambda value: setattr(system, "F", value))
    link.on_restart(lambda arrays, _: system.place(arrays), {"u": cube, "v": cube})
    return link


def run(system: GrayScott, link: MpiLink, steps: int) -> None:
    """Advance up to a step, unless somebody stops it before."""
    step = max(0, link.step)
    while step < steps:
        step += 1
        system.step()
        due = step >= link.next_frame
        if due:
            link.put(
                step,
                step * system.dt,
                u=system.u.astype(np.float32),
                v=system.v.astype(np.float32),
                profile=system.profile().astype(np.float32),
                F=np.float64(system.F),
            )
        if (due or link.next_command == step) and not link.service(step, step * system.dt):
            return


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stager", help="address; default: HEADRACE_STAGER")
    parser.add_argument("--name", default=os.environ.get("HEADRACE_SIMULATION", "gray-scott"))
    parser.add_argument("--size", type=int, default=32, help=f"cells a side; a multiple of {CELLS}")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=20, help="steps between frames")
    parser.add_argument("--feed", type=float, default=0.03, help="the feed rate F")
    parser.add_argument("--kill", type=float, default=0.06, help="the kill rate k")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("HEADRACE_SEED", "1")))
    chosen = parser.parse_args(arguments)
    comm = MPI.COMM_WORLD
    if comm.Get_rank() == 0 and "HEADRACE_MEMBER" in os.environ:
        end_with_parent()
    system = GrayScott(comm, chosen.size, F=chosen.feed, k=chosen.kill, seed=chosen.seed)
    with open_link(comm, system, chosen.name, stager=chosen.stager, every=chosen.every) as link:
        run(system, link, chosen.steps)


if __name__ == "__main__":
    main()
