"""A run as it will be carried out: the configuration with all that the command line changed."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from bridge.config import parse_bytes, to_struct
from bridge.engines import load_engine
from bridge.errors import ConfigError
from bridge.pipeline import Pipeline
from bridge.runs.adapters import Adapter, load_adapter
from bridge.runs.configuration import EngineTable, RunConfiguration
from bridge.runs.directory import RunDirectory, write_json
from bridge.runs.pipelines import build_pipeline, check_coordinates, check_models
from bridge.runs.placement import Placement
from bridge.runs.training import Training
from bridge.staging.messages import StreamOptions
from bridge.steering import GuardRules

__all__ = ["Plan", "describe_machine", "list_versions"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the processes of a run need to know; stored as ``resolved.json``.

    Attributes
    ----------
    configuration
        With the control applied.
    source
        The file it was read from.
    base
        Folder of that file: relative paths begin there.
    control
        Name of the control run; empty for the steered one.
    address
        Where the stager listens, once that is known.
    resume
        Whether topics hold frames of an earlier part of this run.
    """

    configuration: RunConfiguration
    source: str
    base: str
    control: str = ""
    address: str = ""
    resume: bool = False

    @classmethod
    def read(cls, directory: RunDirectory) -> Plan:
        """Read what `write` wrote.

        Raises
        ------
        ConfigError
            If the folder is not that of a run, or was written by another version.
        """
        table = directory.read_resolved()
        known = set(cls.__struct_fields__)
        return to_struct(
            cls, {k: v for k, v in table.items() if k in known}, str(directory.resolved)
        )

    def write(self, directory: RunDirectory) -> None:
        """Write it into the folder of the run, with the versions in use beside it."""
        table = msgspec.to_builtins(self)
        write_json(directory.resolved, {**table, "versions": list_versions()})

    @property
    def key_folder(self) -> str:
        """Folder of the key files; empty without."""
        keys = self.configuration.staging.keys
        return str(Path(self.base) / keys) if keys else ""

    @property
    def rules(self) -> GuardRules:
        """Rules of the guard."""
        return to_struct(GuardRules, self.configuration.steering, f"{self.source}, [steering]")

    @property
    def engine(self) -> EngineTable:
        """Which engine, and its options."""
        return to_struct(EngineTable, self.configuration.engine, f"{self.source}, [engine]")

    @property
    def options(self) -> StreamOptions:
        """How the stager keeps the frames of each simulation."""
        staging = self.configuration.staging
        return StreamOptions(when_full=staging.when_full, capacity=parse_bytes(staging.capacity))

    def pipeline(self, directory: RunDirectory | None = None) -> Pipeline:
        """Make the pipeline; relative paths in it begin at `base`, and so do modules.

        In the `directory` of the run lies what operators write ahead, and the registry of models
        where they are given no other.
        """
        if self.base not in sys.path:
            sys.path.append(self.base)
        with contextlib.chdir(self.base):
            return build_pipeline(
                self.configuration.pipeline,
                seed=self.configuration.run.seed,
                where=self.source,
                ledger="" if directory is None else str(directory.ahead),
                registry=str(Path("models") if directory is None else directory.models),
            )

    def training(self, name: str, directory: RunDirectory | None = None) -> Training:
        """Return one of the trainings; for `directory` see `pipeline`."""
        return Training(
            name=name,
            table=self.configuration.training[name],
            base=self.base,
            where=f"{self.source}, [training.{name}]",
            seed=self.configuration.run.seed,
            registry=str(Path("models") if directory is None else directory.models),
        )

    def adapter(self) -> Adapter:
        """Make the adapter."""
        return load_adapter(self.configuration.simulation, Path(self.base), self.source)

    def streams(self) -> dict[str, tuple[str, ...]]:
        """Return the simulations of each member.

        Raises
        ------
        ConfigError
            If two members write the same stream.
        """
        adapter = self.adapter()
        streams = {name: tuple(adapter.simulations(name)) for name in adapter.members()}
        names = [s for simulations in streams.values() for s in simulations]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"{self.source}: two members write the stream {twice[0]!r}.")
        return streams

    def check(self) -> None:
        """Raise for whatever is wrong with it, before anything is started.

        Raises
        ------
        ConfigError, PipelineError, MissingExtra
            The first fault.
        """
        _ = self.rules, self.options
        if self.engine.kind != "local":
            load_engine(self.engine.kind)
        pipeline = self.pipeline()
        check_models(self.configuration, pipeline, self.source)
        trainings = {name: self.training(name).pipeline() for name in self.configuration.training}
        check_coordinates(self.configuration, pipeline, trainings, self.source)
        self.streams()
        self.placement()

    def placement(self) -> Placement:
        """Return which processors of this machine the trainers have for themselves.

        Raises
        ------
        ConfigError
            If nothing would be left.
        """
        trainings = self.configuration.training
        return Placement({f"trainer-{name}": t.processors for name, t in trainings.items()})


def list_versions() -> dict[str, str]:
    """Return the versions of Python, Headrace and the packages that runs use, if installed."""
    versions = {"python": platform.python_version()}
    for name in ("headrace", "numpy", "pyzmq", "msgspec", "xxhash", "openmm", "MDAnalysis"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def describe_machine() -> dict[str, Any]:
    """Return what figures depend on: processor, its number of cores, memory, system."""
    cpu = ""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line for line in lines if line.startswith("model name")).partition(":")[2]
    memory = 0
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        memory = int(next(line for line in lines if line.startswith("MemTotal")).split()[1]) << 10
    return {
        "processor": cpu.strip() or platform.processor() or platform.machine(),
        "cores": _cores(),
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
    }


def _cores() -> int:
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
