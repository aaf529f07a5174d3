"""The file ``run.toml`` as typed objects: what runs, what is limited, what the report shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from bridge.config import parse_bytes, parse_duration, read_toml, refuse_unknown, to_struct
from bridge.engines.options import JobOptions, LocalOptions
from bridge.errors import ConfigError, HeadraceError
from bridge.runs.dashboard_tables import DashboardTable
from bridge.runs.quantities import parse_simulated_time
from bridge.schema import check_name

__all__ = [
    "ControlTable",
    "EngineTable",
    "MapTable",
    "PipelineTable",
    "ReferenceTable",
    "ReportTable",
    "RestartsTable",
    "RunConfiguration",
    "RunTable",
    "ServiceTable",
    "StagingTable",
    "TrainingTable",
    "load_run",
]


class RestartsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often each kind of process is started again after a failure.

    Attributes
    ----------
    member, engine, stager, trainer
        Restarts of one process in one run; a service counts as a trainer. A stager that is not
        durable has lost its topics with its process and is never started again.
    """

    member: int = 3
    engine: int = 3
    stager: int = 3
    trainer: int = 3


class RunTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is true for the run as a whole.

    Attributes
    ----------
    name
        Name of the run.
    output
        Folder of the run, from the working directory; empty for ``runs/<name>`` or, where that is
        taken, ``runs/<name>-2`` and so on.
    seed
        All random numbers of the run come from it.
    max_time
        Limit on the simulated time over all members, such as ``"10 ns"``; empty for none.
    max_wall_time
        Limit on the duration of the run; empty for none.
    drain
        How long the processes may take to end once they are told to.
    when_member_fails
        What to do when a member has used up its restarts: ``stop`` the run, or ``go_on`` with the
        others. The run counts as failed either way.
    nice
        By how much members give way to the engine and the stager where there are fewer cores than
        processes: decisions that come late are worth less.
    restarts
        See `RestartsTable`.
    """

    name: str
    output: str = ""
    seed: int = 0
    max_time: str = ""
    max_wall_time: str = ""
    drain: str = "30 s"
    when_member_fails: Literal["stop", "go_on"] = "stop"
    nice: int = 10
    restarts: RestartsTable = RestartsTable()

    def __post_init__(self) -> None:
        check_name(self.name, "run")
        if self.seed < 0:
            raise ConfigError(f"The seed must not be negative; it is {self.seed}.")
        if not 0 <= self.nice <= 19:
            raise ConfigError(f"The key 'nice' must be from 0 to 19; it is {self.nice}.")
        parse_duration(self.drain)
        if self.max_wall_time:
            parse_duration(self.max_wall_time)
        if self.max_time:
            parse_simulated_time(self.max_time)


class StagingTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where frames go.

    Attributes
    ----------
    address
        Where the stager listens; port 0 for any free one.
    capacity
        Bytes that the stream of one simulation may hold.
    limit
        Bytes of all streams together.
    when_full
        What a full stream does.
    durable
        Keep the topics on disk, in the run's folder, so that the run outlives its stager.
    keys
        Folder of key files made by ``headrace keys``; empty for none.
    """

    address: str = "tcp://127.0.0.1:0"
    capacity: str | int = "64 MiB"
    limit: str | int = "2 GiB"
    when_full: Literal["block", "drop_oldest", "drop_newest", "latest"] = "block"
    durable: bool = False
    keys: str = ""

    def __post_init__(self) -> None:
        if parse_bytes(self.capacity) < 1 or parse_bytes(self.limit) < 1:
            raise ConfigError("The keys 'capacity' and 'limit' must be at least one byte.")


class EngineTable(JobOptions, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which engine runs the pipeline, and how; see `JobOptions` for the other keys.

    Attributes
    ----------
    kind
        ``local``: in a process of its own; ``flink`` or ``spark``: on a cluster.
    cluster
        Address of the cluster; empty for one on this machine that begins and ends with the run.
    parallelism
        Workers of the cluster that take part.
    settings
        Settings of Flink or Spark itself, under their own names.
    """

    kind: Literal["local", "flink", "spark"] = "local"
    cluster: str = ""
    parallelism: int = 2
    settings: dict[str, str] = msgspec.field(default_factory=dict)


class PipelineTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The operators, in the order in which they are applied.

    Attributes
    ----------
    name
        Name of the pipeline.
    operators
        One table each: ``use`` (short name, or ``module:Class``), ``name`` (the short name where
        it is left out), and the operator's parameters.
    inputs, outputs
        Variables to read, and columns to publish; empty for all.
    """

    name: str = "pipeline"
    operators: tuple[dict[str, Any], ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for number, table in enumerate(self.operators, 1):
            if not isinstance(table.get("use"), str):
                raise ConfigError(
                    f"Operator {number} lacks the key 'use', which says what it is: a registered "
                    'short name, or "module:Class".'
                )


class TrainingTable(PipelineTable, frozen=True, forbid_unknown_fields=True):
    """A pipeline beside the one that steers, in a process of its own; its last operator learns.

    Attributes
    ----------
    observe
        Read along without holding the streams back: what is released before it was read is left
        out, and told of. Otherwise the simulations wait for it, as they do for the engine.
    behind
        With `observe`: frames of one stream to be late at most; beyond, older ones are passed over.
        0 for no limit.
    nice
        By how much it gives way to the engine, the stager and the simulations.
    processors
        Processors of this machine that are its own: everything else of the run keeps off them.
        0 to share all of them, and give way.
    workers, groups
        Processes that learn together, each from its own share of the simulations, and groups of
        them; see `bridge.runs.team`.
    engine
        Options of the local engine that runs it (`LocalOptions`); `max_frames` is 256 here.
    """

    observe: bool = True
    behind: int = 20_000
    nice: int = 15
    processors: int = 0
    workers: int = 1
    groups: int = 1
    engine: dict[str, Any] = {}

    def __post_init__(self) -> None:
        PipelineTable.__post_init__(self)
        if not 0 <= self.nice <= 19:
            raise ConfigError(f"The key 'nice' must be from 0 to 19; it is {self.nice}.")
        for name in ("behind", "processors"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"The key {name!r} must not be negative; it is {getattr(self, name)}."
                )
        if self.workers < 1 or not 1 <= self.groups <= self.workers:
            raise ConfigError(
                "The key 'workers' must be at least 1, and 'groups' from 1 to that; they are "
                f"{self.workers} and {self.groups}."
            )
        to_struct(LocalOptions, self.engine, "The table 'engine' of a training")


class ServiceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that answers the simulations, in a process of its own.

    Attributes
    ----------
    model
        Name of the model; that of the service where it is left out.
    use
        What answers (`bridge.surrogate.SURROGATES`, or ``module:factory``).
    options
        For what answers; ``registry`` is the run's where it is left out.
    max_rows
        Rows of one call of the model; more are cut.
    """

    model: str = ""
    use: str = "registry"
    options: dict[str, Any] = {}
    max_rows: int = 1 << 20

    def __post_init__(self) -> None:
        if self.max_rows < 1:
            raise ConfigError(f"The key 'max_rows' must be at least 1; it is {self.max_rows}.")


class ControlTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``--control NAME`` changes, so that a run can be held against its control.

    Attributes
    ----------
    remove
        Names of operators to leave out.
    set
        Name of an operator to the parameters that it gets instead.
    steering
        Keys of ``[steering]``, instead of those there.
    description
        For people.
    """

    remove: tuple[str, ...] = ()
    set: dict[str, dict[str, Any]] = {}
    steering: dict[str, Any] = {}
    description: str = ""


class MapTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A plot of two columns of the results against each other.

    Attributes
    ----------
    name
        Name of the file, without its ending.
    x, y
        Columns, such as ``"tica[0]"``.
    labels
        Of the two axes.
    degrees
        The columns are in radians and are shown in degrees, from -180 to 180.
    colour
        ``density`` (how often each place was visited) or ``time`` (when).
    restarts
        Mark the frames from which walkers were restarted.
    version
        Column whose value 0 means that `x` and `y` do not count yet; empty for none.
    target_x, target_y
        Bounds of the target, to be shaded; empty for none.
    title
        Above the plot.
    """

    name: str
    x: str
    y: str
    labels: tuple[str, str] | None = None
    degrees: bool = False
    colour: Literal["density", "time"] = "density"
    restarts: bool = False
    version: str = ""
    target_x: tuple[float, float] | None = None
    target_y: tuple[float, float] | None = None
    title: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "plot")


class ReferenceTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure to hold the run against: the mean simulated time to the event, measured elsewhere.

    Attributes
    ----------
    name
        What was measured.
    value, low, high
        Mean, and its 95 % confidence interval.
    unit
        Unit of the three.
    source
        Where the figure is from.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    source: str = ""


class ReportTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the report shows.

    Attributes
    ----------
    event
        Kind of the event that the run waits for.
    maps
        Plots of two columns.
    references
        Figures to hold the time to the event against.
    max_points
        Frames in a plot at most, over all members; more are thinned out evenly.
    """

    event: str = "target_reached"
    maps: tuple[MapTable, ...] = ()
    references: tuple[ReferenceTable, ...] = ()
    max_points: int = 50_000


class RunConfiguration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole ``run.toml``.

    Attributes
    ----------
    run, staging, pipeline, report
        See the tables.
    simulation
        ``adapter``, and the keys of that adapter.
    engine
        Which engine, and its options (`EngineTable`).
    steering
        Rules of the guard (`bridge.steering.GuardRules`).
    control
        Name to `ControlTable`.
    training
        Name to `TrainingTable`.
    service
        Name to `ServiceTable`.
    dashboard
        See `DashboardTable`.
    """

    run: RunTable
    simulation: dict[str, Any]
    staging: StagingTable = StagingTable()
    pipeline: PipelineTable = PipelineTable()
    engine: dict[str, Any] = {}
    steering: dict[str, Any] = {}
    control: dict[str, ControlTable] = {}
    report: ReportTable = ReportTable()
    training: dict[str, TrainingTable] = {}
    service: dict[str, ServiceTable] = {}
    dashboard: DashboardTable = DashboardTable()

    def __post_init__(self) -> None:
        for name in self.service:
            check_name(name, "service")
        for name in self.training:
            check_name(name, "training")
            if name == self.pipeline.name:
                raise ConfigError(
                    f"[training.{name}] has the name of the pipeline; give one of the two another."
                )
        if not isinstance(self.simulation.get("adapter"), str):
            raise ConfigError("[simulation] lacks the key 'adapter', which says what is simulated.")


def load_run(path: Path) -> RunConfiguration:
    """Read a ``run.toml``.

    Raises
    ------
    ConfigError
        If it cannot be read, has an unknown key or a wrong value; the message names both the
        place and the nearest known key.
    """
    table = read_toml(path)
    for name in ("run", "simulation"):
        if not isinstance(table.get(name), Mapping):
            refuse_unknown(table, RunConfiguration.__struct_fields__, str(path))
            raise ConfigError(f"{path} lacks the table [{name}].")
    try:
        _check_lists(table, path)
        return to_struct(RunConfiguration, table, str(path))
    except ConfigError:
        raise
    except HeadraceError as error:
        raise ConfigError(f"{path}: {error}") from error


def _check_lists(table: Mapping[str, Any], path: Path) -> None:
    """Check tables within lists and maps, where `to_struct` does not look for the nearest key."""
    report = table.get("report", {})
    kinds: dict[str, type[msgspec.Struct]] = {"maps": MapTable, "references": ReferenceTable}
    for key, kind in kinds.items():
        for number, entry in enumerate(_entries(report, key), 1):
            to_struct(kind, entry, f"{path}, [[report.{key}]] number {number}")
    named: dict[str, type[msgspec.Struct]] = {
        "control": ControlTable,
        "service": ServiceTable,
        "training": TrainingTable,
    }
    for key, kind in named.items():
        entries = table.get(key, {})
        for name, entry in entries.items() if isinstance(entries, Mapping) else ():
            if isinstance(entry, Mapping):
                to_struct(kind, entry, f"{path}, [{key}.{name}]")


def _entries(table: Any, key: str) -> list[Mapping[str, Any]]:
    entries = table.get(key, []) if isinstance(table, Mapping) else []
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, Mapping)]
