"""From a job to a running Flink job: settings, graph, submission."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from bridge.engines.causes import find_cause
from bridge.engines.flink.rest import FlinkRest
from bridge.engines.java import find_java
from bridge.engines.job import Job
from bridge.errors import ConfigError, EngineError, MissingExtra

__all__ = ["Submission", "find_checkpoint", "locate_savepoint", "submit"]

OLDEST_JAVA = 11
_MODE = "_python_worker_execution_mode"

_ALWAYS = {
    # A record at a time: what comes is a timer now and then, and nothing may wait for more.
    "python.fn-execution.bundle.size": "1",
    "python.fn-execution.bundle.time": "1",
    "execution.buffer-timeout.interval": "1 ms",
    "execution.checkpointing.unaligned.enabled": "true",
    "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    "execution.checkpointing.num-retained": "2",
    "execution.checkpointing.tolerable-failed-checkpoints": "100",
    "restart-strategy.type": "exponential-delay",
    "restart-strategy.exponential-delay.initial-backoff": "200 ms",
    "restart-strategy.exponential-delay.max-backoff": "10 s",
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": "12",
    "restart-strategy.exponential-delay.reset-backoff-threshold": "2 min",
}

_LOOPBACK = {
    "rest.address": "127.0.0.1",
    "rest.bind-address": "127.0.0.1",
    "jobmanager.rpc.address": "127.0.0.1",
    "jobmanager.bind-host": "127.0.0.1",
    "taskmanager.host": "127.0.0.1",
    "taskmanager.bind-host": "127.0.0.1",
}


@dataclass(frozen=True)
class Submission:
    """A job that was submitted.

    Attributes
    ----------
    id, name
        Flink's id of the job, and its name, unlike any other's.
    rest
        Address of the cluster's REST interface.
    checkpoints
        Folder of checkpoints and savepoints.
    """

    id: str
    name: str
    rest: str
    checkpoints: str


def submit(
    job: Job,
    *,
    cluster: str = "",
    parallelism: int = 2,
    checkpoint: str | Path = "",
    savepoint: str = "",
    settings: Mapping[str, str] | None = None,
    files: Sequence[str] = (),
    archive: str = "",
    cancels: bool = True,
) -> Submission:
    """Submit a job, and return without waiting for anything of it.

    Parameters
    ----------
    job
        What to run.
    cluster
        Address of a cluster's REST interface; empty for one in a JVM that ends with this process.
    parallelism
        Workers that take part.
    checkpoint
        Folder for checkpoints, which all workers see under the same path; empty for a temporary
        one.
    savepoint
        Checkpoint or savepoint to go on from; or a folder, for the newest one in it.
    settings
        Flink's own, under its names; they come last.
    files, archive
        Python files or folders for the workers, and an archived environment.
    cancels
        The job's coordinator ends the Flink job when all is done.

    Raises
    ------
    ConfigError
        If there is no Java that will do, or no savepoint where one is named.
    MissingExtra
        If PyFlink is not installed.
    EngineError
        If the cluster does not answer, or refuses the job.
    """
    _ = job.spread, job.gathered
    java = find_java(OLDEST_JAVA, "Flink", bundled=True)
    os.environ.setdefault("JAVA_HOME", java.home)
    # Logs of the JVM beside the program are for its developers; the folder may not be ours.
    os.environ.setdefault("FLINK_LOG_DIR", tempfile.gettempdir())
    # Workers are processes of their own, also on this machine, where PyFlink prefers threads.
    os.environ[_MODE] = "process"
    place = Path(checkpoint) if checkpoint else Path(tempfile.mkdtemp(prefix="headrace-flink-"))
    place.mkdir(parents=True, exist_ok=True)
    name = f"headrace {job.name} {uuid4().hex[:8]}"
    options = {
        **_ALWAYS,
        "python.executable": f"{Path(archive).name}/bin/python" if archive else sys.executable,
        "python.client.executable": sys.executable,
        "execution.checkpointing.interval": f"{int(job.options.checkpoint_every * 1000)} ms",
        "execution.checkpointing.dir": place.absolute().as_uri(),
        "execution.checkpointing.savepoint-dir": (place / "savepoints").absolute().as_uri(),
        "parallelism.default": str(parallelism),
    }
    if savepoint:
        options["execution.state-recovery.path"] = locate_savepoint(savepoint)
    if files:
        options["python.files"] = ",".join(files)
    if archive:
        options["python.archives"] = archive
    if cluster:
        rest = FlinkRest(cluster)
        rest.overview()
        address = urlsplit(rest.address)
        options |= {
            "execution.target": "remote",
            "execution.attached": "false",
            "rest.address": address.hostname or "127.0.0.1",
            "rest.port": str(address.port or 8081),
            "pipeline.jars": _python_jar(),
        }
    else:
        port = _free_port()
        rest = FlinkRest(f"http://127.0.0.1:{port}")
        options |= {
            **_LOOPBACK,
            "rest.port": str(port),
            "rest.bind-port": str(port),
            "taskmanager.numberOfTaskSlots": str(parallelism),
        }
        if sys.path[0] and Path(sys.path[0]).is_dir():
            # Modules beside the script that is running are found by its workers, too.
            options["python.pythonpath"] = str(Path(sys.path[0]).absolute())
    options |= dict(settings or {})
    return Submission(
        _execute(job, name, rest.address, options, cancels=cancels), name, rest.address, str(place)
    )


def find_checkpoint(folder: str | Path) -> str:
    """Return the newest checkpoint or savepoint in a folder; empty if there is none."""
    found: dict[Path, int] = {}
    for path in Path(folder).glob("**/_metadata"):
        # A job that runs removes its old ones.
        with suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    newest = max(found, key=lambda path: found[path], default=None)
    return "" if newest is None else newest.parent.absolute().as_uri()


def locate_savepoint(path: str) -> str:
    """Return the address of a checkpoint or savepoint, as Flink takes it.

    Parameters
    ----------
    path
        Its folder, or one that has such folders in it: the newest counts. An address that only the
        cluster can see (``hdfs://…``) stays as it is.

    Raises
    ------
    ConfigError
        If there is none in a folder of this machine.
    """
    here = unquote(urlsplit(path).path) if path.startswith("file:") else path
    if ":" in path and not Path(here).exists():
        return path
    found = find_checkpoint(here)
    if not found:
        raise ConfigError(
            f"There is no checkpoint or savepoint of Flink in {path}, which has a file _metadata. "
            "Name the folder that headrace cancel --savepoint told, a folder chk-NUMBER, or the "
            "job's folder of checkpoints, for the newest one there."
        )
    return found


def _execute(job: Job, name: str, rest: str, options: Mapping[str, str], *, cancels: bool) -> str:
    try:
        from pyflink.common import Configuration
        from pyflink.datastream import StreamExecutionEnvironment
        from pyflink.java_gateway import get_gateway
    except ImportError as error:
        raise MissingExtra("pyflink", "flink", "running a pipeline on Flink") from error
    configuration = Configuration()
    for key, value in options.items():
        configuration.set_string(key, value)
    try:
        if options.get("execution.target") == "remote":
            # The usual way makes a mini-cluster of whatever is not started by `flink run`.
            java = get_gateway().jvm.org.apache.flink.streaming.api.environment
            environment = StreamExecutionEnvironment(
                java.StreamExecutionEnvironment(configuration._j_configuration)
            )
        else:
            environment = StreamExecutionEnvironment.get_execution_environment(configuration)
        _build(environment, job, name, rest, cancels=cancels)
        return str(environment.execute_async(name).get_job_id())
    except MissingExtra:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("py4j", "pyflink", "builtins"):
            raise
        raise EngineError(f"Flink did not take the job: {find_cause(str(error))}") from error


def _build(environment: Any, job: Job, name: str, rest: str, *, cancels: bool) -> None:
    from pyflink.common import Types
    from pyflink.datastream.data_stream import KeyedStream
    from pyflink.java_gateway import get_gateway
    from pyflink.table import StreamTableEnvironment

    from bridge.engines.flink.functions import (
        BYTES,
        CoordinatorFunction,
        PartitionFunction,
        Plan,
        slots_of,
    )
    from bridge.engines.flink.slots import MAX_PARALLELISM, SLOTS, choose_keys

    environment.set_max_parallelism(MAX_PARALLELISM)
    gateway = get_gateway()
    keys = tuple(choose_keys(gateway))
    plan = Plan(job, name, rest, keys, cancels)

    def keyed(stream: Any, value: Any) -> Any:
        # As DataStream.key_by does, but with the key in the first field already: no Python is run.
        selector = gateway.jvm.KeyByKeySelector()
        java = stream._j_data_stream.keyBy(selector, Types.ROW([Types.INT()]).get_java_type_info())
        return KeyedStream(java, value, stream)

    tables = StreamTableEnvironment.create(environment)
    table = f"ticks_{uuid4().hex[:8]}"
    # Each slot's key once, so that all begin at once; then keys at random for ever, since a timer
    # that was on its way when its worker was killed is gone.
    tables.execute_sql(
        f"CREATE TEMPORARY TABLE {table} (i INT) WITH ('connector' = 'datagen', "
        f"'rows-per-second' = '{SLOTS // 2}', 'fields.i.kind' = 'random', "
        f"'fields.i.min' = '1', 'fields.i.max' = '{SLOTS}')"
    )
    ticks = tables.sql_query(
        f"SELECT k, 0 AS v FROM (SELECT k FROM (VALUES {slots_of(keys)}) AS t(k) "
        f"UNION ALL SELECT ARRAY{list(keys)}[i] AS k FROM {table})"
    )
    source = tables.to_append_stream(ticks, Types.ROW([Types.INT(), Types.INT()]))
    reports = (
        keyed(source, Types.INT())
        .process(PartitionFunction(plan), output_type=Types.ROW([Types.INT(), BYTES]))
        .name("partitions")
        .uid("partitions")
    )
    done = (
        keyed(reports, BYTES)
        .process(CoordinatorFunction(plan), output_type=Types.INT())
        .name("coordinator")
        .uid("coordinator")
        .set_parallelism(1)
    )
    sink = gateway.jvm.org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink()
    done._j_data_stream.sinkTo(sink).setParallelism(1).name("end")


def _python_jar() -> str:
    import pyflink

    jars = sorted((Path(pyflink.__file__).parent / "opt").glob("flink-python*.jar"))
    if not jars:
        raise EngineError("PyFlink lacks its jar flink-python; install apache-flink anew.")
    return jars[0].as_uri()


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])
