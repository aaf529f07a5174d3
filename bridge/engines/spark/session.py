"""A Spark session with the right settings: the worker's Python, loopback, quiet, quick commits."""

from __future__ import annotations

import logging
import os
import site
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from bridge.engines.java import find_java
from bridge.errors import ConfigError, EngineError

__all__ = ["OLDEST_JAVA", "QUERY_SETTINGS", "Session", "master_of"]

log = logging.getLogger(__name__)

OLDEST_JAVA = 17
"""Oldest Java that Spark 4.3 runs on."""

_LAST_WORDS = 30.0
"""Seconds in which Java has to end where its folder is removed."""

QUERY_SETTINGS = {
    # Writing the two files of a micro-batch: 35 ms instead of 90, measured on a local disk.
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing."
        "FileSystemBasedCheckpointFileManager"
    ),
    "spark.sql.streaming.noDataMicroBatches.enabled": "false",
    "spark.sql.streaming.minBatchesToRetain": "10",
    "spark.sql.streaming.numRecentProgressUpdates": "10",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
}
"""Settings of the session that the engine's query runs in."""


def master_of(cluster: str, parallelism: int) -> str:
    """Return Spark's name of a cluster; without an address, this process and `parallelism` threads.

    Raises
    ------
    ConfigError
        If it is not an address that Spark knows.
    """
    if not cluster:
        # The second number: a task whose worker died is tried again, as on a cluster.
        return f"local[{parallelism},4]"
    if cluster.startswith(("spark://", "local", "k8s://")) or cluster == "yarn":
        return cluster
    raise ConfigError(
        f"{cluster!r} is not the address of a Spark cluster; give spark://host:7077, yarn, "
        "k8s://…, or nothing for this machine alone."
    )


def _paths() -> str:
    """Return where modules are found here besides what is installed, for workers beside us."""
    standard = Path(sys.base_prefix).resolve() / "lib"
    installed = [Path(p).resolve() for p in (*site.getsitepackages(), sys.prefix)]
    out: dict[str, None] = {}
    for entry in [*os.environ.get("PYTHONPATH", "").split(os.pathsep), *sys.path]:
        place = Path(entry or ".").resolve()
        if place.is_dir() and not any(
            place == other or other in place.parents for other in [*installed, standard]
        ):
            out[str(place)] = None
    return os.pathsep.join(out)


def _reach(master: str) -> None:
    """Make sure that a standalone cluster is there: Spark itself would look for a minute."""
    if not master.startswith("spark://"):
        return
    failures = []
    for address in master.removeprefix("spark://").split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5.0).close()
            return
        except (OSError, ValueError) as error:
            failures.append(f"{address}: {error}")
    raise EngineError(
        f"The Spark cluster {master} cannot be reached ({'; '.join(failures)}). Look whether its "
        "master runs and listens there."
    )


def _folder_for(python: str) -> tempfile.TemporaryDirectory[str] | None:
    """Return a folder to start Java in, where the workers' Python has a relative path.

    It is in an archive that workers unpack in their folders. What plans a source is started by
    Java here, with the same path: it gets our own environment.
    """
    if Path(python).is_absolute() or not Path(python).parent.parent.name:
        return None
    folder = tempfile.TemporaryDirectory(prefix="headrace-spark-")
    place = Path(folder.name) / Path(python).parent.parent
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(sys.prefix)
    return folder


class Session:
    """A Spark session; one that is there already is used, and left as it was.

    Parameters
    ----------
    name
        Of the application.
    master
        Spark's name of the cluster.
    settings
        Settings of Spark, which go before ours.
    log
        File that takes what Java says.

    Raises
    ------
    ConfigError
        If Java is missing or too old.
    EngineError
        If the cluster cannot be reached.
    """

    def __init__(self, name: str, master: str, settings: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.mine = SparkContext._active_spark_context is None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        try:
            context = (
                self._start(name, master, settings)
                if self.mine
                else SparkContext._active_spark_context
            )
        except BaseException:
            self._leave_folder()
            raise
        self.spark = SparkSession(context)
        if not self.mine:
            # Settings of the query do not touch other queries of the same application.
            self.spark = self.spark.newSession()
        for key, value in {**QUERY_SETTINGS, **settings}.items():
            if key in QUERY_SETTINGS or (not self.mine and key.startswith("spark.sql.")):
                self.spark.conf.set(key, value)

    def _start(self, name: str, master: str, settings: Mapping[str, str]) -> Any:
        _reach(master)
        is_here = master.startswith("local")
        # Spark asks the environment, not the setting, for the Python of what plans a source.
        python = (
            settings.get("spark.pyspark.python")
            or os.environ.get("PYSPARK_PYTHON")
            or sys.executable
        )
        os.environ["PYSPARK_PYTHON"] = python
        conf = {
            "spark.master": master,
            "spark.app.name": name,
            "spark.pyspark.python": python,
            "spark.pyspark.driver.python": sys.executable,
            "spark.ui.showConsoleProgress": "false",
            "spark.ui.enabled": "false" if is_here else "true",
            # Its page knows no passwords: to look at, not to end jobs with.
            "spark.ui.killEnabled": "false",
            "spark.python.worker.reuse": "true",
            "spark.python.worker.faulthandler.enabled": "true",
            "spark.task.maxFailures": "4",
            "spark.locality.wait": "0s",
            "spark.log.level": "ERROR",
        }
        if is_here or "127.0.0.1" in master or "localhost" in master:
            conf |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
        conf |= {k: v for k, v in settings.items() if not k.startswith("headrace.")}
        made = SparkConf(loadDefaults=False)
        for key, value in conf.items():
            made.set(key, value)
        return SparkContext(gateway=SparkContext._gateway or self._launch(made, python), conf=made)

    def _launch(self, conf: Any, python: str) -> Any:
        """Start Java, which says what it has to say to the log."""
        java = find_java(OLDEST_JAVA, "Apache Spark", bundled=False)
        ours = {"JAVA_HOME": java.home, "PYTHONPATH": _paths()}
        if conf.get("spark.driver.bindAddress", "") == "127.0.0.1":
            # The address that its page listens at is no setting of Spark's; all, without this.
            ours["SPARK_LOCAL_IP"] = "127.0.0.1"
        self._folder = _folder_for(python)
        folder = None if self._folder is None else self._folder.name
        before = {key: os.environ.get(key) for key in ours}
        os.environ.update(ours)
        try:
            with self.log.open("ab") as out:
                return launch_gateway(
                    conf, popen_kwargs={"stdout": out, "stderr": out, "cwd": folder}
                )
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value

    def stop(self) -> None:
        """Stop Spark, unless it ran before."""
        if not self.mine:
            return
        try:
            self.spark.stop()
        except Exception as error:
            # Java is gone; whoever comes next starts another.
            log.debug("Spark could not be stopped: %s", error)
            SparkContext._gateway = SparkContext._jvm = None
            SparkContext._active_spark_context = None
        finally:
            self._leave_folder()

    def _leave_folder(self) -> None:
        """Remove the folder that Java was started in, if it was for this session, and end Java."""
        if self._folder is None:
            return
        gateway, SparkContext._gateway, SparkContext._jvm = SparkContext._gateway, None, None
        if gateway is not None:
            gateway.shutdown()
            # It ends with what it reads from; a later session starts one where its Python is.
            gateway.proc.stdin.close()
            try:
                gateway.proc.wait(_LAST_WORDS)
            except subprocess.TimeoutExpired:
                gateway.proc.kill()
                gateway.proc.wait()
        self._folder.cleanup()
        self._folder = None
