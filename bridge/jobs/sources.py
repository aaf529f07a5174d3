"""From what the command line names to a job: a file, or an object in a module."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bridge.config import read_toml, refuse_unknown, to_struct
from bridge.engines.job import Job, PipelineSource
from bridge.engines.protocol import Until
from bridge.errors import ConfigError
from bridge.runs.configuration import EngineTable
from bridge.runs.keyfiles import client_keys
from bridge.steering import GuardRules, KeeperMaker

__all__ = ["JobPlan", "load_job"]

_TABLES = ("pipeline", "engine", "steering")
_OF_RUNS = (
    "control", "dashboard", "report", "run", "service", "simulation", "staging", "training"
)  # fmt: skip


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A job before it is built; plain data, so that another process can take it up.

    Attributes
    ----------
    source
        The file, or ``module:object``.
    table, base
        The table ``[pipeline]``, and the folder in which its relative paths begin.
    engine, rules
        The tables ``[engine]`` and ``[steering]``.
    stagers, keys
        Addresses of the stagers, and folder of the key files.
    until
        ``finished`` or ``stopped``.
    files, archive
        Python files or folders, and an archived environment, for the workers.
    """

    source: str
    table: dict[str, Any] = {}
    base: str = ""
    engine: EngineTable = EngineTable()
    rules: GuardRules = GuardRules()
    stagers: str = ""
    keys: str = ""
    until: Until = "finished"
    files: tuple[str, ...] = ()
    archive: str = ""

    def job(self, ledger: str = "") -> Job:
        """Return the job; its pipeline, built where it is needed, writes into this folder."""
        reference = "" if self.table else self.source
        keys = partial(client_keys, self.keys) if self.keys else None
        return Job(
            PipelineSource(
                reference,
                self.table,
                self.base,
                f"{self.source}, [pipeline]",
                {"ledger": ledger} if ledger else {},
            ),
            self.stagers,
            options=self.engine,
            guard=KeeperMaker(self.rules),
            keys=keys,
            until=self.until,
        )


def load_job(
    source: str,
    *,
    stagers: str,
    settings: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
    keys: str = "",
    until: Until = "finished",
    files: Sequence[str] = (),
    archive: str = "",
) -> JobPlan:
    """Read what is to be submitted, and check all of it.

    Parameters
    ----------
    source
        A TOML file with the table ``[pipeline]``, and perhaps ``[engine]`` and ``[steering]``; the
        run.toml of a run will do. Or ``module:object``.
    stagers
        Addresses of the stagers.
    settings
        ``KEY=VALUE`` each: Flink's or Spark's own settings.
    changes
        Keys of the table ``[engine]``, instead of those in the file.
    keys
        Folder of the key files.
    until
        ``finished`` or ``stopped``.
    files, archive
        For the workers.

    Raises
    ------
    ConfigError
        For whatever is wrong with it.
    """
    path = Path(source)
    document: Mapping[str, Any] = {}
    base = str(Path.cwd())
    if ":" not in source or path.suffix == ".toml":
        document = read_toml(path)
        refuse_unknown(document, (*_TABLES, *_OF_RUNS), source)
        base = str(path.absolute().parent)
        if not isinstance(document.get("pipeline"), Mapping):
            raise ConfigError(f"{source} lacks the table [pipeline], which says what to run.")
    own = {**_table(document, "engine", source), **(changes or {})}
    own["settings"] = {**own.get("settings", {}), **_settings(settings)}
    missing = [
        name for name in (*files, *([archive] if archive else [])) if not Path(name).exists()
    ]
    if missing:
        raise ConfigError(f"There is no file or folder {missing[0]!r} to be given to the workers.")
    for name in files:
        # Found here as it will be found by the workers.
        place = Path(name).absolute()
        sys.path.append(str(place if place.is_dir() else place.parent))
    plan = JobPlan(
        source=source,
        table=dict(document.get("pipeline", {})),
        base=base,
        engine=to_struct(EngineTable, own, f"{source}, [engine]"),
        rules=to_struct(GuardRules, _table(document, "steering", source), f"{source}, [steering]"),
        stagers=stagers,
        keys=str(Path(keys).absolute()) if keys else "",
        until=until,
        files=tuple(str(Path(name).absolute()) for name in files),
        archive=str(Path(archive).absolute()) if archive else "",
    )
    job = plan.job()
    _ = job.spread, job.gathered
    return plan


def _table(document: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, Mapping):
        raise ConfigError(f"{source}: [{name}] must be a table.")
    return dict(table)


def _settings(pairs: Sequence[str]) -> dict[str, str]:
    out = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not (sign and key):
            raise ConfigError(f"--set takes KEY=VALUE, not {pair!r}.")
        out[key] = value
    return out
