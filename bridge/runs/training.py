"""A pipeline that learns, run beside the one that steers, or over the streams of any stager."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from bridge.config import refuse_unknown, to_struct
from bridge.engines.configure import pipeline_from_table
from bridge.engines.local import LocalEngine
from bridge.engines.observing import Observing
from bridge.engines.options import LocalOptions
from bridge.engines.protocol import EngineStatistics, Until
from bridge.errors import ConfigError
from bridge.pipeline import Pipeline
from bridge.runs.configuration import TrainingTable
from bridge.staging.client_like import ClientLike

__all__ = ["Training", "TrainingReport", "TrainingRun", "choose_training", "figures_of"]

_PORTION = 256  # frames at once, each of which may bring updates
_ASK = 0.1  # seconds between two questions whether to end


class TrainingReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a training came to.

    Attributes
    ----------
    name
        Of the training.
    frames, missed
        Frames that were seen, and that were passed over or released before.
    seconds
        That it took.
    figures
        What the operators tell of themselves: operator to name to number.
    """

    name: str
    frames: int
    missed: int
    seconds: float
    figures: dict[str, dict[str, float]]

    @property
    def frames_per_second(self) -> float:
        """Frames seen in a second."""
        return self.frames / self.seconds if self.seconds else 0.0


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be run; plain data, so that another process can take it up.

    Attributes
    ----------
    name
        Of the training and its pipeline.
    table
        What the configuration says.
    base
        Folder in which relative paths of the configuration begin, and modules are looked for.
    where
        The file, for messages.
    seed
        For operators that take a ``seed`` and are given none.
    registry
        Folder for operators that take a ``registry`` and are given none.
    """

    name: str
    table: TrainingTable
    base: str
    where: str
    seed: int = 0
    registry: str = ""

    @property
    def options(self) -> LocalOptions:
        """Options of the engine; frames are taken in small portions, to be told to end between."""
        table = {"max_frames": _PORTION, **self.table.engine}
        return to_struct(LocalOptions, table, f"{self.where}, engine")

    def pipeline(self) -> Pipeline:
        """Make the pipeline.

        Raises
        ------
        ConfigError, MissingExtra
            If an operator is unknown, or refuses its parameters.
        """
        if self.base not in sys.path:
            sys.path.append(self.base)
        defaults = {"seed": self.seed, "registry": self.registry}
        with contextlib.chdir(self.base):
            return pipeline_from_table(
                {
                    "name": self.name,
                    "inputs": list(self.table.inputs),
                    "outputs": list(self.table.outputs),
                    "operators": list(self.table.operators),
                },
                self.where,
                defaults=defaults,
            )


def choose_training(
    document: Mapping[str, Any], name: str, where: str
) -> tuple[str, TrainingTable]:
    """Return one of the tables ``[training.NAME]`` of a file.

    Parameters
    ----------
    document
        What the file says.
    name
        Which one; empty where there is only one.
    where
        The file, for messages.

    Raises
    ------
    ConfigError
        If there is no such table, or something in it is wrong.
    """
    tables = document.get("training", {})
    if not isinstance(tables, Mapping) or not all(isinstance(t, Mapping) for t in tables.values()):
        raise ConfigError(f"{where}: [training] must hold tables; write each as [training.NAME].")
    if not tables:
        raise ConfigError(f"{where} lacks a table [training.NAME], which says what is to learn.")
    if not name and len(tables) > 1:
        raise ConfigError(
            f"{where} has more than one training: {', '.join(tables)}. Name one with --name."
        )
    name = name or next(iter(tables))
    refuse_unknown([name], tables, f"{where}, [training],")
    place = f"{where}, [training.{name}]"
    table = to_struct(TrainingTable, tables[name], place)
    if not table.operators:
        raise ConfigError(f"{place} has no operators; add a [[training.{name}.operators]] table.")
    return name, table


def figures_of(engine: LocalEngine) -> dict[str, dict[str, float]]:
    """Return what operators tell of themselves, by a method ``figures`` without arguments.

    That method returns name to number; it is called in the engine's thread.
    """
    found = {}
    for name, operator in engine.pipeline.operators:
        if operator.scope != "keyed":
            tell = getattr(engine.operator(name), "figures", None)
            if tell is not None:
                found[name] = {key: float(value) for key, value in tell().items()}
    return found


class TrainingRun:
    """One training in this process; see `run`.

    Parameters
    ----------
    training
        What to run.
    client
        To the stager; not closed.
    checkpoint
        File to save the state in; None for none.
    simulations
        Names that must have come and finished before it ends by itself.
    on_status
        Called about once a second, in the thread of `run`.
    """

    def __init__(
        self,
        training: Training,
        client: ClientLike,
        *,
        checkpoint: Path | None = None,
        simulations: Collection[str] = (),
        on_status: Callable[[TrainingReport], None] | None = None,
    ) -> None:
        self.training = training
        table = training.table
        if table.observe:
            client = Observing(client, behind=table.behind)
        self._began = time.monotonic()
        self._on_status = on_status
        self.engine = LocalEngine(
            training.pipeline(),
            client,
            checkpoint=checkpoint,
            simulations=simulations,
            on_status=self._status,
            options=training.options,
        )

    def _status(self, statistics: EngineStatistics) -> None:
        if self._on_status is not None:
            self._on_status(self._report(statistics))

    def _report(self, statistics: EngineStatistics) -> TrainingReport:
        return TrainingReport(
            name=self.training.name,
            frames=statistics.frames,
            missed=sum(s.missed for s in statistics.simulations.values()),
            seconds=time.monotonic() - self._began,
            figures=figures_of(self.engine),
        )

    def run(
        self,
        until: Until = "finished",
        *,
        stop: Callable[[], bool] | None = None,
        drain: float = 0.0,
    ) -> TrainingReport:
        """Run, and return what it came to.

        Parameters
        ----------
        until
            ``finished``: until all streams have finished and were read; or ``stopped``.
        stop
            Asked ten times a second, in a thread of its own, whether to end.
        drain
            Seconds that it may still take then to read what there is. Its operators are told of the
            end in any case, even where frames are left.

        Raises
        ------
        HeadraceError
            What `LocalEngine.run` raises.
        """
        self._began = time.monotonic()
        over = threading.Event()

        def wait() -> None:
            while not over.wait(_ASK):
                if stop is not None and stop():
                    over.wait(drain)
                    # What was learned since the last candidate is judged all the same.
                    self.engine.stop(finish=True)
                    return

        threading.Thread(target=wait, name="stop-training", daemon=True).start()
        try:
            statistics = self.engine.run(until)
        finally:
            over.set()
        return self._report(statistics)
