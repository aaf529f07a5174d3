"""The specimen of the MPI link, a process for each rank: started by the conformance suite.

Six particles diffuse in wells; which of them a rank has changes from step to step. All ranks draw
the same numbers, so that each knows the noise of its own particles.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from mpi4py import MPI

from bridge.commands import Capability
from bridge.testing.adapters import serve_specimen
from sim_adapters.mpi import MpiLink, link_mpi

COMM = MPI.COMM_WORLD
N, DT = 6, 0.5
CAPABILITIES = [
    Capability("set", "temperature", 250.0, 400.0, "K"),
    *(Capability(kind) for kind in ("restart", "stop", "pause", "resume")),
    Capability("interval", minimum=1, maximum=50),
]


class Walk:
    """This rank's particles."""

    def __init__(
        self, name: str, address: str | None, *, every: int = 1, select: Any = None
    ) -> None:
        assert select is None
        self.random = np.random.default_rng(7)
        self.whole = self.random.normal(size=(N, 3))
        self.temperature = 300.0
        self.step = 0
        self.ids = np.arange(N)
        self.migrate()
        self.stream: MpiLink | None = None
        if address is not None:
            self.stream = link_mpi(
                COMM, name, stager=address, every=every, units={"x": "nm", "energy": "kJ/mol"},
                time_unit="ps", example=self.values(), capabilities=CAPABILITIES, timeout=30.0,
            )  # fmt: skip
            self.stream.on("set", "temperature", self.heat)
            self.stream.on_restart(self.place, {"x": (N, 3)})
            self.stream.put(0, 0.0, ids=self.ids, **self.values())

    def migrate(self) -> None:
        """Take the particles that are this rank's at this step; now and then all or none."""
        gather(self)
        shift = self.step % (N + 1)
        order = np.random.default_rng(self.step).permutation(N)
        mine = order[:shift] if COMM.rank == 0 else order[shift:]
        self.ids = mine if COMM.size > 1 else order
        self.x = self.whole[self.ids]

    def values(self) -> dict[str, Any]:
        energy = COMM.allreduce(0.5 * float((self.x**2).sum()))
        return {"x": self.x, "energy": np.array(energy)}

    def heat(self, value: float) -> None:
        self.temperature = value

    def place(self, arrays: Any, command: Any) -> None:
        self.x[:] = arrays["x"][self.ids]

    def advance(self, steps: int) -> bool:
        for _ in range(steps):
            if self.stream is not None and self.stream.stopped:
                return False
            noise = self.random.normal(size=(N, 3))[self.ids]
            self.x += -0.01 * self.x + 0.001 * np.sqrt(self.temperature) * noise
            self.step += 1
            self.migrate()
            if self.stream is not None:
                self.serve(self.stream)
        return self.stream is None or not self.stream.stopped

    def serve(self, stream: MpiLink) -> None:
        time = self.step * DT
        if stream.put(self.step, time, ids=self.ids, **self.values()) or (
            stream.next_command == self.step
        ):
            stream.service(self.step, time)

    def state(self) -> dict[str, Any]:
        gather(self)
        noise = np.frombuffer(str(self.random.bit_generator.state).encode(), np.uint8)
        return {"x": self.whole.copy(), "noise": noise}

    def frame(self) -> dict[str, Any]:
        gather(self)
        return {"x": self.whole.copy(), "energy": np.array(0.5 * (self.whole**2).sum())}

    def read(self, parameter: str) -> float:
        assert parameter == "temperature"
        return self.temperature

    def close(self, *, finished: bool = True) -> None:
        if self.stream is not None:
            self.stream.close(finished=finished)
            # Rank 0 answers for all of them.
            COMM.Barrier()


def gather(walk: Walk) -> None:
    """Bring all particles together on all ranks."""
    if not hasattr(walk, "x"):
        return
    for ids, x in COMM.allgather((walk.ids, walk.x)):
        walk.whole[ids] = x


if __name__ == "__main__":
    serve_specimen(Walk, rank=COMM.rank, share=COMM.bcast)
    sys.exit(0)
