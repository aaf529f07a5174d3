"""What the ranks do in the tests of MPI: ``python mpi_ranks.py SCENARIO ADDRESS``.

Particles wander from rank to rank. Each rank prints one JSON line of what happened to it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import numpy as np
from mpi4py import MPI

from bridge import Capability, Command
from bridge.errors import CommandRefused, HeadraceError
from sim_adapters.mpi import MpiLink, link_mpi
from sim_adapters.mpi_launch import end_with_parent

N = 1000
COMM = MPI.COMM_WORLD
CAPABILITIES = [
    Capability("set", "force", -10.0, 10.0),
    Capability("set", "field", -10.0, 10.0),
    Capability("set", "broken", -10.0, 10.0),
    Capability("restart"),
    Capability("pause"),
    Capability("resume"),
    Capability("stop"),
    Capability("interval", minimum=1, maximum=50),
]


def where(step: int) -> np.ndarray:
    """Return where all particles are: what readers must get."""
    return np.random.default_rng(step).random((N, 3)).astype(np.float32)


def owned(step: int, rank: int) -> np.ndarray:
    """Return the ids of a rank's particles, in no order; now and then all are with one rank."""
    rng = np.random.default_rng(step + 10_000)
    order = rng.permutation(N)
    cuts = np.sort(rng.integers(0, N + 1, COMM.size - 1))
    return np.split(order, cuts)[rank]


def open_link(address: str, **more: object) -> MpiLink:
    return link_mpi(
        COMM, "w", stager=address, whole=("box",), time_unit="ps", capabilities=CAPABILITIES,
        **{"limit": 30.0, "units": {"x": "nm"}, **more},
    )  # fmt: skip


def put(link: MpiLink, step: int) -> bool:
    ids = owned(step, COMM.rank)
    values = {"x": where(step)[ids]}
    # The first frame makes the schema: there, all ranks need all arrays.
    if COMM.rank == 0 or step < 2:
        values["box"] = np.full((3, 3), float(step))
        values["energy"] = np.float64(step)
    return link.put(step, step * 0.5, ids=ids, **values)


def migrate(address: str, told: dict) -> None:
    with open_link(address, every=2) as link:
        for step in range(1, 61):
            put(link, step)
            link.service(step, step * 0.5)
        told["frames"] = link.producer.statistics().frames
        told["life"] = link.producer.resumed.incarnation


def steer(address: str, told: dict) -> None:
    force, placed = [], []

    def place(arrays: dict, command: Command) -> None:
        placed.append([command.id, float(arrays["x"].sum()), link.step])

    def judge(value: float) -> None:
        if COMM.rank == COMM.size - 1 and value > 5:
            raise CommandRefused(f"A field of {value:g} is too much for this rank.")

    def break_(value: float) -> None:
        if COMM.rank == COMM.size - 1:
            raise ValueError("Nobody expected this")

    with open_link(address) as link:
        link.on("set", "force", lambda v: force.append([v, link.step]))
        link.on("set", "field", lambda v: force.append([v, link.step]), check=judge)
        link.on("set", "broken", break_)
        link.on_restart(place, {"x": (N, 3)})
        step = 0
        while not link.stopped and step < 100_000:
            step += 1
            put(link, step)
            if COMM.rank == COMM.size - 1 and step % 10 == 0:
                time.sleep(0.05)  # a rank that is late
            if step == 1 and COMM.rank == 0:
                link.producer.wait_for_command(20.0)
            link.service(step, step * 0.5)
            COMM.Barrier()
        told.update(force=force, placed=placed, last=step, every=link.every, epoch=link.epoch)


def full(address: str, told: dict) -> None:
    with open_link(address, capacity=1 << 20) as link:
        step = 0
        while not link.stopped:
            step += 1
            put(link, step)
            # All but one rank may wait for the last one in a call of the simulation's own.
            COMM.Barrier()
            link.service(step, step * 0.5)
        told.update(step=link.step, dropped=link.producer.statistics().dropped)


def missing(address: str, told: dict) -> None:
    with open_link(address) as link:
        for step in range(1, 11):
            put(link, step)
            if step == 5:
                # Up to here, the ranks of a busy machine may wait longer for each other.
                link._rounds.limit = 0.5
            if step == 5 and COMM.rank == 0:
                time.sleep(60.0)
            link.service(step, step * 0.5)


def raising(address: str, told: dict) -> None:
    with open_link(address) as link:
        for step in range(1, 11):
            put(link, step)
            link.service(step, step * 0.5)
            if step == 5 and COMM.rank == COMM.size - 1:
                raise ValueError("The pressure is negative")
            # The simulation's own exchange, in which the others wait for the one that failed.
            COMM.Barrier()


def raising_alone(address: str, told: dict) -> None:
    with open_link(address) as link:
        for step in range(1, 100_000):
            put(link, step)
            link.service(step, step * 0.5)
            if step == 5 and COMM.rank == 0:
                raise ValueError("The pressure is negative")


def killed(address: str, told: dict) -> None:
    with open_link(address) as link:
        for step in range(1, 100_000):
            put(link, step)
            link.service(step, step * 0.5)
            if step == 20:
                # The others are killed, too, before they have sent what they put.
                link.producer.flush()
                COMM.Barrier()
            if step == 20 and COMM.rank == COMM.size - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            COMM.Barrier()


def orphaned(address: str, told: dict) -> None:
    if COMM.rank == 0:
        end_with_parent()
    COMM.Barrier()
    time.sleep(60.0)


def field(address: str, told: dict) -> None:
    rows = 5 + COMM.rank
    block = np.full((rows, 4), float(COMM.rank))
    with open_link(address, example={"u": block, "box": np.eye(3)}, units={}) as link:
        for step in range(1, 11):
            link.put(step, float(step), u=block + step, box=np.eye(3))
            link.service(step, float(step))
        told["rows"] = link.producer.schema.variable("u").shape[0]


def wrong_ids(address: str, told: dict) -> None:
    with open_link(address) as link:
        put(link, 1)
        ids = np.arange(N // COMM.size) + (N if COMM.rank else 0)
        link.put(
            2, 1.0, ids=ids, x=np.zeros((len(ids), 3), np.float32), box=np.eye(3),
            energy=np.float64(0),
        )  # fmt: skip
        link.service(2, 1.0)
        COMM.Barrier()


def main() -> int:
    name, address = sys.argv[1:]
    told: dict = {"rank": COMM.rank}
    try:
        globals()[name](address, told)
    except (HeadraceError, ValueError) as error:
        told["error"] = f"{type(error).__name__}: {error}"
        status = 1
    else:
        status = 0
    # In one piece: the ranks share a pipe.
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
