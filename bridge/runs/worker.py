"""One worker of a team: ``python -m bridge.runs.worker OUTPUT RANK NODE NICE``."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from bridge.engines.local import LocalEngine
from bridge.engines.observing import Observing
from bridge.errors import ConfigError
from bridge.runs.child import run_child
from bridge.runs.directory import write_json
from bridge.runs.keyfiles import client_keys
from bridge.runs.team import Learner, TeamPlan, ready_file, wanted_by
from bridge.runs.training import TrainingReport, figures_of
from bridge.staging.spread import connect

__all__ = ["main", "work"]

log = logging.getLogger(__name__)

_IDLE = 0.05  # seconds to wait for frames where there is nothing else to do
_ASK = 0.25  # seconds between two questions whether everything was read
_STEADY = 3600.0  # seconds that a batch may take: how much is read must not follow from the clock


class _Asked:
    """Whether all of this worker's streams were read to the end; asked now and then."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._next = 0.0
        self._last = False

    def __call__(self, *, came: bool) -> bool:
        if came:
            self._last = False
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _ASK
            self._last = self._engine.has_read_all()
        return self._last


def _find_learner(engine: LocalEngine) -> Learner:
    for name, operator in reversed(engine.pipeline.operators):
        if operator.scope == "global" and hasattr(operator, "join"):
            learner: Learner = engine.operator(name)
            return learner
    raise ConfigError(
        f"No operator of the training {engine.pipeline.name!r} can learn together with others; "
        "end its pipeline with one that can, such as train, or leave out --workers."
    )


def _run(output: Path, arguments: list[str], stop: threading.Event) -> None:
    rank, node, nice = (int(text) for text in arguments)
    plan = msgspec.json.decode((output / f"team-{node}.json").read_bytes(), type=TeamPlan)
    os.nice(nice)
    report = work(plan, rank, output, stop)
    if rank == 0:
        write_json(output / "team-report.json", msgspec.to_builtins(report))


def work(
    plan: TeamPlan, rank: int, output: Path, stop: threading.Event | None = None
) -> TrainingReport:
    """Be one worker of a team, to its end.

    Parameters
    ----------
    plan
        Of the team; where worker 0 is met must be known.
    rank
        Number of this worker, from 0.
    output
        Folder of the checkpoints.
    stop
        Ends the whole team when set.

    Raises
    ------
    HeadraceError
        What the engine and the operators raise; `EngineError` if another worker does not come.
    """
    training, table = plan.training, plan.training.table
    with (
        contextlib.chdir(training.base),
        connect(plan.stager, name=f"worker {rank}", keys=client_keys(plan.keys)) as client,
    ):
        options = training.options
        if "batch_seconds" not in table.engine:
            options = msgspec.structs.replace(options, batch_seconds=_STEADY)
        engine = LocalEngine(
            training.pipeline(),
            Observing(
                client,
                behind=table.behind if table.observe else 0,
                wanted=wanted_by(rank, plan.size),
            ),
            checkpoint=output / f"{training.name}-{rank}.checkpoint",
            options=options,
        )
        engine.begin()
        report = _learn(engine, plan, rank, stop or threading.Event(), ready_file(output, rank))
    log.info("Worker %d has ended: %s.", rank, report)
    return report


def _learn(
    engine: LocalEngine, plan: TeamPlan, rank: int, stop: threading.Event, ready: Path
) -> TrainingReport:
    began = time.monotonic()
    learning = _find_learner(engine).join(
        rank=rank,
        size=plan.size,
        groups=plan.groups,
        host=plan.host,
        port=plan.port,
        timeout=plan.timeout,
    )
    log.info("Worker %d of %d has met the others.", rank, plan.size)
    ready.parent.mkdir(parents=True, exist_ok=True)
    ready.touch()
    has_read_all, busy = _Asked(engine), False
    while True:
        # Frames that the others are not ready for are not read yet.
        reads = learning.hungry
        came = engine.step(0.0 if busy else _IDLE) if reads else 0
        ended = plan.until == "finished" and has_read_all(came=bool(came) or not reads)
        turn = learning.turn(ended=ended, stopped=stop.is_set())
        for event in turn.events:
            engine.tell(event)
        if turn.over:
            break
        busy = bool(came or turn.updates or not learning.hungry)
    engine.end()
    statistics = engine.statistics()
    return TrainingReport(
        name=plan.training.name,
        frames=statistics.frames,
        missed=sum(s.missed for s in statistics.simulations.values()),
        seconds=time.monotonic() - began,
        figures=figures_of(engine),
    )


def main() -> int:
    """Run; returns the exit code."""
    return run_child(_run)


if __name__ == "__main__":
    sys.exit(main())
