"""A pipeline as it is given to a cluster: what runs, over which stagers, with which options."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bridge.config import build
from bridge.engines.configure import pipeline_from_table
from bridge.engines.options import JobOptions
from bridge.engines.protocol import Guard, Until
from bridge.errors import ConfigError
from bridge.pipeline import BlockOperator, Pipeline
from bridge.staging.client_like import ClientLike
from bridge.staging.spread import connect

__all__ = ["Connect", "GuardMaker", "Job", "PipelineSource", "partition_names", "split_partition"]

Connect = Callable[[str], ClientLike]
"""Connects to staging, under a name for people."""

GuardMaker = Callable[[Connect], Guard]
"""Makes the guard. It travels to the coordinator, and so must be importable there."""


@dataclass(frozen=True)
class PipelineSource:
    """Where a pipeline comes from: a reference to an object, or a configuration table.

    Parameters
    ----------
    reference
        ``module:object``: a `Pipeline`, or a callable without parameters that returns one.
    table
        The table ``[pipeline]``, as `bridge.engines.configure.pipeline_from_table` takes it.
    base
        Folder in which modules are looked for besides the usual places, and in which relative paths
        of the operators begin; on every worker.
    where
        What the table is, for messages.
    defaults
        Parameters for operators of the table that take them and are not given them.
    """

    reference: str = ""
    table: Mapping[str, Any] = field(default_factory=dict)
    base: str = ""
    where: str = "[pipeline]"
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Pipeline:
        """Make the pipeline.

        Raises
        ------
        ConfigError
            If there is no such object, or something is wrong with the table.
        """
        if self.base and not Path(self.base).is_dir():
            raise ConfigError(
                f"The folder {self.base} of the pipeline is not there on this machine; share it "
                "with the workers, or ship the pipeline in an archive."
            )
        if self.base and self.base not in sys.path:
            sys.path.append(self.base)
        with contextlib.chdir(self.base) if self.base else contextlib.nullcontext():
            if self.reference:
                return self._load()
            return pipeline_from_table(self.table, self.where, defaults=self.defaults)

    def _load(self) -> Pipeline:
        module, colon, name = self.reference.partition(":")
        if not (module and colon and name):
            raise ConfigError(
                f"{self.reference!r} does not name a pipeline; write it as module:object."
            )
        try:
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except (ModuleNotFoundError, AttributeError) as error:
            raise ConfigError(f"The pipeline {self.reference!r} cannot be loaded: {error}.") from (
                error
            )
        made = found if isinstance(found, Pipeline) or not callable(found) else build(found, {}, "")
        if not isinstance(made, Pipeline):
            raise ConfigError(
                f"{self.reference!r} is a {type(made).__name__}, not a pipeline "
                "(bridge.pipeline.Pipeline), nor a function that returns one."
            )
        return made


def partition_names(simulation: str, groups: int) -> tuple[str, ...]:
    """Return the names of a simulation's partitions: its own, or one for each group of blocks."""
    if groups == 1:
        return (simulation,)
    return tuple(f"{simulation}#{group}" for group in range(groups))


def split_partition(name: str) -> tuple[str, int]:
    """Return the simulation of a partition, and the number of its group of blocks."""
    simulation, _, group = name.partition("#")
    return simulation, int(group or 0)


@dataclass(frozen=True)
class Job:
    """What a cluster is given; engines ship it to their workers as they ship all code.

    Parameters
    ----------
    pipeline
        The pipeline itself, or where it comes from. A pipeline itself travels as code does, so its
        operators' classes must be importable on the workers.
    stagers
        Addresses of the stagers, separated by commas, as the workers reach them.
    group
        Consumer group under which frames are committed; by default the pipeline's name.
    options
        Everything that can be set.
    guard
        Makes what judges commands; without it, all are sent.
    keys
        Returns the keys for an encrypted connection; called on every worker.
    expected
        Simulations that must have come and finished before a run until all have finished ends.
    until
        ``finished`` or ``stopped``; see `bridge.engines.protocol.Engine.run`.
    """

    pipeline: Pipeline | PipelineSource
    stagers: str
    group: str = ""
    options: JobOptions = field(default_factory=JobOptions)
    guard: GuardMaker | None = None
    keys: Callable[[], Any] | None = None
    expected: tuple[str, ...] = ()
    until: Until = "finished"

    @cached_property
    def prototype(self) -> Pipeline:
        """The pipeline, built once in each process.

        Raises
        ------
        ConfigError
            If it cannot be made, or the options do not fit it.
        """
        pipeline = self.pipeline
        made = pipeline.build() if isinstance(pipeline, PipelineSource) else pipeline
        if self.options.block_groups > 1 and not (
            made.operators and isinstance(made.operators[0][1], BlockOperator)
        ):
            raise ConfigError(
                f"The option 'block_groups' is {self.options.block_groups}, but the first operator "
                f"of the pipeline {made.name!r} cannot be given parts of frames; put an operator "
                "such as density_map first, or set block_groups = 1."
            )
        return made

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.prototype.name

    @property
    def consumer(self) -> str:
        """Consumer group of the workers."""
        return self.group or self.name

    @property
    def merger(self) -> str:
        """Consumer group of the coordinator."""
        return f"{self.consumer}.global"

    def connect(self, name: str) -> ClientLike:
        """Connect to the stagers, under a name for people who look at their logs."""
        keys = None if self.keys is None else self.keys()
        timeout = min(10.0, self.options.reconnect_timeout)
        return connect(self.stagers, name=name, keys=keys, timeout=timeout)

    def partitions(self, simulation: str) -> tuple[str, ...]:
        """Return the names of a simulation's partitions."""
        return partition_names(simulation, self.options.block_groups)

    # ----------------------------------------------------------------- stages

    @cached_property
    def spread(self) -> Pipeline:
        """The operators that run on the workers, as a pipeline."""
        whole = self.prototype
        if self.options.block_groups > 1:
            chosen = whole.operators[:1]
        else:
            stages = whole.stages()
            chosen = (*stages["frame"], *stages["keyed"])
        last = len(chosen) == len(whole.operators) and self.options.block_groups == 1
        return Pipeline(
            whole.name, chosen, inputs=whole.inputs, outputs=whole.outputs if last else ()
        )

    @cached_property
    def gathered(self) -> Pipeline:
        """The operators that run in the coordinator, as a pipeline; perhaps none."""
        whole = self.prototype
        rest = whole.operators[len(self.spread.operators) :]
        return Pipeline(whole.name, rest, outputs=whole.outputs)

    @property
    def is_gathered(self) -> bool:
        """Whether results come from the coordinator, not from the workers."""
        return self.options.block_groups > 1 or bool(self.gathered.operators)

    @cached_property
    def wanted(self) -> tuple[str, ...] | None:
        """Variables that the coordinator may need besides what workers hand on; None for all."""
        if not self.is_gathered or self.options.block_groups > 1:
            return ()
        wanted = dict.fromkeys(self.gathered.outputs)
        for _, operator in self.gathered.operators:
            reads = operator.reads()
            if reads is None:
                return None
            wanted |= dict.fromkeys(reads)
        return tuple(wanted)

    def __getstate__(self) -> dict[str, Any]:
        # What is cached is built anew where the job arrives.
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}
