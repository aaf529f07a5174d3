"""Workers that run one training together: started, watched and ended on this machine.

Each worker is a process with an engine of its own, which reads its own share of the simulations, by
rendezvous hashing of their names, and whose last operator learns together with those of the others
(`Learner`). Who they meet at is worker 0, by default at an address that this machine alone can
reach. On several machines, each starts its own share of the workers.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from bridge.commands import Event
from bridge.errors import ConfigError, EngineError
from bridge.runs.directory import write_json
from bridge.runs.processes import Process, describe_exit, last_lines
from bridge.runs.training import Training, TrainingReport
from bridge.staging.ownership import owner

__all__ = ["Learner", "Learning", "TeamPlan", "Turn", "ready_file", "run_team", "wanted_by"]

_LOOK = 0.1  # seconds between two looks at the workers
_KILL_AFTER = 30.0  # seconds that workers have to end beyond those for reading what is left


class Turn(Protocol):
    """What one round of a `Learning` came to."""

    @property
    def over(self) -> bool:
        """All have ended, by agreement."""
        ...

    @property
    def updates(self) -> int:
        """Made in it."""
        ...

    @property
    def events(self) -> Sequence[Event]:
        """To be told."""
        ...


class Learning(Protocol):
    """What an operator does together with those of other workers, between its frames."""

    @property
    def hungry(self) -> bool:
        """Whether frames are wanted before the next round; they are then looked for."""
        ...

    def turn(self, *, ended: bool, stopped: bool) -> Turn:
        """Make one round; all workers call it in turn. See `Learner`."""
        ...


class Learner(Protocol):
    """An operator that can learn together with its likes; it has this method."""

    def join(
        self, *, rank: int, size: int, groups: int, host: str, port: int, timeout: float
    ) -> Learning:
        """Join the others; blocks until all have."""
        ...


class TeamPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What every worker needs to know; stored in a file.

    Attributes
    ----------
    training
        What is run.
    stager, keys
        Address of the stager, and folder of the keys.
    size, groups
        Workers, and groups of them.
    host, port
        Where worker 0 is met.
    until
        ``finished`` or ``stopped``.
    timeout
        Seconds that a worker is waited for.
    """

    training: Training
    stager: str
    keys: str = ""
    size: int = 1
    groups: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    until: str = "finished"
    timeout: float = 120.0


def wanted_by(rank: int, size: int) -> Callable[[str], bool]:
    """Return what says of a simulation whether a worker reads it; each is read by one."""
    workers = [f"worker-{i}" for i in range(size)]
    return lambda name: owner(name, workers) == workers[rank]


def run_team(
    plan: TeamPlan,
    output: Path,
    *,
    nodes: int = 1,
    node_rank: int = 0,
    stop: Callable[[], bool] | None = None,
    nice: int = 0,
    on_ready: Callable[[], object] | None = None,
) -> TrainingReport | None:
    """Start this machine's workers, and wait for their end.

    Parameters
    ----------
    plan
        With a port of 0 on one machine, for any free one.
    output
        Folder of their states and logs, which all machines see.
    nodes, node_rank
        Machines, and the number of this one, from 0.
    stop
        Asked whether to end.
    nice
        By how much the workers give way.
    on_ready
        Called once all workers of this machine have met the others, and are about to read.

    Returns
    -------
    TrainingReport or None
        That of worker 0; None where it is on another machine.

    Raises
    ------
    EngineError
        If a worker failed; the others are ended.
    ConfigError
        If the workers cannot be shared out evenly.
    """
    if plan.size % nodes or not 0 <= node_rank < nodes:
        raise ConfigError(
            f"{plan.size} workers cannot be shared out over {nodes} machines, of which this is "
            f"number {node_rank}, counted from 0."
        )
    if not plan.port:
        if nodes > 1:
            raise ConfigError("With several machines, say where worker 0 is: --rendezvous.")
        plan = msgspec.structs.replace(plan, port=_free_port())
    (output / "logs").mkdir(parents=True, exist_ok=True)
    write_json(output / f"team-{node_rank}.json", msgspec.to_builtins(plan))
    told = output / "team-report.json"
    share = plan.size // nodes
    ranks = range(node_rank * share, (node_rank + 1) * share)
    if 0 in ranks:
        told.unlink(missing_ok=True)
    signs = {rank: ready_file(output, rank) for rank in ranks}
    for sign in signs.values():
        sign.unlink(missing_ok=True)

    def look() -> bool:
        nonlocal on_ready
        if on_ready is not None and all(sign.exists() for sign in signs.values()):
            on_ready()
            on_ready = None
        return stop is not None and stop()

    processes = {
        rank: Process(
            f"worker {rank}",
            "bridge.runs.worker",
            [str(output), str(rank), str(node_rank), str(nice)],
            log=output / "logs" / f"worker-{rank}.log",
            directory=Path(plan.training.base),
        )
        for rank in ranks
    }
    try:
        _wait(processes, look, plan)
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.kill()
            process.wait(10.0)
    if 0 not in ranks:
        return None
    return msgspec.json.decode(told.read_bytes(), type=TrainingReport)


def ready_file(output: Path, rank: int) -> Path:
    """Return the file with which a worker says that it has met the others."""
    return output / "logs" / f"worker-{rank}.ready"


def _wait(processes: dict[int, Process], stop: Callable[[], bool], plan: TeamPlan) -> None:
    deadline = float("inf")
    failed: Process | None = None
    while running := [p for p in processes.values() if p.poll() is None]:
        if failed is None:
            failed = next((p for p in processes.values() if p.poll()), None)
        if deadline == float("inf") and (stop() or failed is not None):
            deadline = time.monotonic() + _KILL_AFTER
            for process in running:
                process.ask_to_stop()
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK)
    failed = failed or next((p for p in processes.values() if p.poll() != 0), None)
    if failed is not None:
        code = failed.poll()
        how = "did not end" if code is None else describe_exit(code)
        lines = "\n  ".join(last_lines(failed.log, 5))
        raise EngineError(
            f"{failed.name} of the training {plan.training.name!r} {how}, and the others were "
            f"ended with it. The last lines of {failed.log}:\n  {lines}"
        )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: Any = found.getsockname()[1]
    return int(port)
