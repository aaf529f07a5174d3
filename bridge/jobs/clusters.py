"""Clusters on this machine, from the pip packages of Flink and Spark: to try out, and for tests."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from bridge.engines.java import find_java
from bridge.errors import ConfigError, EngineError, MissingExtra
from bridge.jobs.records import is_running, started_at
from bridge.runs.processes import last_lines
from bridge.staging.files import replace_file

__all__ = ["ClusterFile", "LocalCluster", "read_cluster"]

Kind = Literal["flink", "spark"]
FILE = "cluster.json"
_START = 120.0


class _Member(msgspec.Struct):
    """A process of a cluster."""

    role: str
    pid: int
    started: str


class ClusterFile(msgspec.Struct, kw_only=True):
    """A cluster that was started; the contents of ``cluster.json``.

    Attributes
    ----------
    engine, address
        Kind of cluster, and what ``--cluster`` takes.
    page
        Address of its own page.
    members
        Its processes.
    supervisor
        The process that starts again what ends.
    """

    engine: Kind
    address: str
    page: str
    members: list[_Member]
    supervisor: _Member


def read_cluster(directory: Path) -> ClusterFile:
    """Read what is known of the cluster in a folder.

    Raises
    ------
    ConfigError
        If there is none.
    """
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=ClusterFile)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no cluster in {directory}; start one with headrace cluster up."
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"Cannot read {directory / FILE}: {error}.") from error


def _free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def _end_orphans(child: subprocess.Popen[bytes]) -> None:
    """End what a process that was killed left behind: Flink's Python workers wait on for ever.

    Before anybody takes notice of its end, so that its number cannot be another's already.
    """
    try:
        ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    if ended is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _package(name: str, engine: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise MissingExtra(name, engine, f"a cluster of {engine}")
    return Path(spec.origin).parent


class LocalCluster:
    """A cluster whose processes are children of this one.

    Parameters
    ----------
    engine
        ``flink`` or ``spark``.
    workers
        Task managers, or Spark workers.
    slots
        Tasks that each works on at a time.
    directory
        For configuration, logs and ``cluster.json``.
    port
        Where the cluster listens; 0 for any free port.

    Raises
    ------
    ConfigError
        If the port is in use, there is no Java, or a cluster runs in this folder already.
    MissingExtra
        If the engine is not installed here.
    """

    def __init__(
        self, engine: Kind, *, workers: int, slots: int, directory: Path, port: int = 0
    ) -> None:
        if workers < 1 or slots < 1:
            raise ConfigError("A cluster has at least one worker with one slot.")
        self.engine: Kind = engine
        self.directory = directory.absolute()
        self._workers, self._slots = workers, slots
        self._package = _package("pyflink" if engine == "flink" else "pyspark", engine)
        oldest = 11 if engine == "flink" else 17
        java = find_java(oldest, engine.capitalize(), bundled=engine == "flink")
        self._refuse_second()
        if port:
            self._check_port(port)
        self._port = port or _free_port()
        self._page = self._port if engine == "flink" else _free_port()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._logs = self.directory / "logs"
        for folder in (self._logs, self.directory / "conf", self.directory / "work"):
            folder.mkdir(parents=True, exist_ok=True)
        self._environment = {
            **os.environ,
            "JAVA_HOME": java.home,
            "PYSPARK_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_NO_DAEMONIZE": "1",
            "SPARK_LOG_DIR": str(self._logs),
            "SPARK_WORKER_DIR": str(self.directory / "work"),
            "FLINK_CONF_DIR": str(self.directory / "conf"),
            "FLINK_LOG_DIR": str(self._logs),
        }
        if engine == "flink":
            self._configure_flink()

    def _refuse_second(self) -> None:
        with contextlib.suppress(ConfigError):
            found = read_cluster(self.directory)
            if is_running(found.supervisor.pid, found.supervisor.started):
                raise EngineError(
                    f"A cluster of {found.engine} runs in {self.directory} already, at "
                    f"{found.address}; end it with headrace cluster down, or name another folder."
                )

    def _check_port(self, port: int) -> None:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as error:
            raise ConfigError(
                f"Port {port} of 127.0.0.1 cannot be had ({error.strerror}); name another, or none."
            ) from error

    @property
    def address(self) -> str:
        """What ``--cluster`` takes."""
        scheme = "http" if self.engine == "flink" else "spark"
        return f"{scheme}://127.0.0.1:{self._port}"

    @property
    def page(self) -> str:
        """Address of the cluster's own page."""
        return f"http://127.0.0.1:{self._page}"

    # ------------------------------------------------------------------ roles

    def _configure_flink(self) -> None:
        settings = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": _free_port(),
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.memory.process.size": "900m",
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": self._slots,
            "taskmanager.memory.process.size": "1100m",
            "taskmanager.memory.managed.fraction": "0.1",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self._port,
            "rest.bind-port": self._port,
            "python.executable": sys.executable,
            "python.client.executable": sys.executable,
            "heartbeat.interval": "1 s",
            "heartbeat.timeout": "8 s",
            # Workers are up before the job manager, or outlive it, and try again each second.
            "cluster.registration.error-delay": "1 s",
            "taskmanager.slot.timeout": "3 s",
            "parallelism.default": 1,
            "io.tmp.dirs": str(self.directory / "work"),
            "classloader.check-leaked-classloader": "false",
        }
        lines = [f"{key}: {value}" for key, value in settings.items()]
        conf = self.directory / "conf"
        (conf / "config.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for name in ("log4j-console.properties", "log4j.properties", "log4j-cli.properties"):
            (conf / name).write_text(_LOG4J, encoding="utf-8")

    def _roles(self) -> list[str]:
        head = "jobmanager" if self.engine == "flink" else "master"
        return [head, *(f"worker-{number}" for number in range(self._workers))]

    def _command(self, role: str) -> tuple[Sequence[str], Mapping[str, str]]:
        if self.engine == "flink":
            script = "jobmanager.sh" if role == "jobmanager" else "taskmanager.sh"
            return ["bash", str(self._package / "bin" / script), "start-foreground"], {}
        launch = [str(self._package / "bin" / "spark-class")]
        if role == "master":
            return [
                *launch, "org.apache.spark.deploy.master.Master", "--host", "127.0.0.1",
                "--port", str(self._port), "--webui-port", str(self._page),
            ], {}  # fmt: skip
        return [
            *launch, "org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1",
            "--cores", str(self._slots), "--memory", "1g", "--webui-port", "0",
            "--work-dir", str(self.directory / "work"), self.address,
        ], {}  # fmt: skip

    # ------------------------------------------------------------------- life

    def start(self) -> None:
        """Start everything, and wait until the workers have come to the cluster.

        Raises
        ------
        EngineError
            If it does not come up; the message has the last words of its log.
        """
        try:
            for role in self._roles():
                self._start(role)
            self._wait()
        except BaseException:
            self.stop()
            raise
        self._write()

    def _start(self, role: str) -> None:
        command, more = self._command(role)
        with (self._logs / f"{role}.out").open("ab") as file:
            self._children[role] = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**self._environment, **more},
                cwd=self.directory,
                start_new_session=True,
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + _START
        while self._present() < self._workers:
            for role, child in self._children.items():
                if child.poll() is not None:
                    lines = last_lines(self._logs / f"{role}.out", 3)
                    raise EngineError(
                        f"The {role} of {self.engine} ended with {child.returncode}: "
                        f"{' / '.join(lines) or 'it said nothing'}."
                    )
            if time.monotonic() > deadline:
                raise EngineError(
                    f"Waited {_START:.0f} s for {self._workers} workers of {self.engine}; "
                    f"{self._present()} came. Look at the logs in {self._logs}."
                )
            time.sleep(0.2)

    def _present(self) -> int:
        """Return the workers that the cluster knows."""
        path = "/overview" if self.engine == "flink" else "/json/"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.page + path, timeout=2.0) as answer:
                told = msgspec.json.decode(answer.read())
        except (OSError, urllib.error.URLError, msgspec.MsgspecError):
            return 0
        return int(told["taskmanagers"] if self.engine == "flink" else told["aliveworkers"])

    def look_after(self) -> list[str]:
        """Start again what has ended, and return the roles that were."""
        for child in self._children.values():
            _end_orphans(child)
        ended = [role for role, child in self._children.items() if child.poll() is not None]
        for role in ended:
            self._start(role)
        if ended:
            self._write()
        return ended

    def _write(self) -> None:
        members = [
            _Member(role, child.pid, started_at(child.pid))
            for role, child in self._children.items()
        ]
        me = _Member("supervisor", os.getpid(), started_at(os.getpid()))
        found = ClusterFile(
            engine=self.engine,
            address=self.address,
            page=self.page,
            members=members,
            supervisor=me,
        )
        replace_file(self.directory / FILE, msgspec.json.format(msgspec.json.encode(found)) + b"\n")

    def pid(self, role: str) -> int:
        """Return the process id of a role, such as ``worker-0``."""
        return self._children[role].pid

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of the processes that were started."""
        return tuple(self._children)

    def stop(self, timeout: float = 15.0) -> None:
        """End everything that was started, the workers first."""
        children = list(reversed(list(self._children.values())))
        for child in children:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.1, deadline - time.monotonic()))
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait(5.0)
        self._children.clear()
        (self.directory / FILE).unlink(missing_ok=True)

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.stop()


_LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.file.ref = file
rootLogger.appenderRef.console.ref = console
appender.file.name = file
appender.file.type = File
appender.file.fileName = ${sys:log.file}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %-60c %x - %m%n
appender.console.name = console
appender.console.type = CONSOLE
appender.console.filter.threshold.type = ThresholdFilter
appender.console.filter.threshold.level = WARN
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %-60c %x - %m%n
"""
