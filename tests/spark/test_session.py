"""What stands in the way of Spark is said before it is started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.engines.spark import register
from bridge.engines.spark.session import Session, _reach, master_of
from bridge.errors import ConfigError, EngineError
from bridge.staging import Stager

ROOT = Path(__file__).parents[2]


def test_clusters_have_addresses() -> None:
    assert master_of("", 3) == "local[3,4]"
    assert master_of("spark://127.0.0.1:7077", 3) == "spark://127.0.0.1:7077"
    with pytest.raises(ConfigError, match="give spark://host:7077"):
        master_of("127.0.0.1:7077", 3)


def test_a_cluster_that_is_not_there_is_told() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(EngineError, match="cannot be reached"):
        _reach(f"spark://127.0.0.1:{port}")


def test_a_session_that_is_there_is_used_and_left(session: Any, tmp_path: Path) -> None:
    other = Session("other", "local[1]", {"spark.sql.shuffle.partitions": "7"}, tmp_path / "log")
    assert not other.mine
    assert other.spark.sparkContext is session.spark.sparkContext
    assert other.spark.conf.get("spark.sql.shuffle.partitions") == "7"
    assert session.spark.conf.get("spark.sql.shuffle.partitions") == "1"
    other.stop()
    assert session.spark.range(3).count() == 3
    register(session.spark)


def test_a_missing_java_is_told_in_a_sentence(stager: Stager, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.spark.driver", stager.address, str(tmp_path / "c"), ""],
        cwd=ROOT,
        env={**os.environ, "JAVA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bridge.errors.ConfigError: JAVA_HOME is ")
    assert "where no Java can be started" in last


_RELATIVE = """
import sys
from pathlib import Path
from bridge.engines.spark.session import Session

python = Path("environment") / Path(sys.executable).relative_to(sys.prefix)
settings = {"spark.pyspark.python": str(python)}
for _ in range(2):
    session = Session("test", "local[1]", settings, Path(sys.argv[1]))
    numbers = session.spark.sparkContext.parallelize([1, 2, 3], 1)
    # Of a worker, whose Python is found from where Java was started.
    print(numbers.map(lambda n: 2 * n).sum())
    session.stop()
"""


def test_the_folder_of_a_relative_python_goes_with_the_session(tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _RELATIVE, str(tmp_path / "log")],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["12", "12"]
    assert not list(folder.glob("headrace-spark-*"))


_ELSEWHERE = """
from bridge.engines.spark import register
from pyspark.sql import SparkSession

register(SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate())
"""


def test_a_session_whose_workers_lack_headrace_is_refused_with_what_to_do(tmp_path: Path) -> None:
    other = tmp_path / "python-without"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    other.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE],
        cwd=ROOT,
        env={**os.environ, "PYSPARK_PYTHON": str(other)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"bridge.errors.ConfigError: Spark's workers would be run by '{other}'")
    assert "No module named 'bridge'" in last
    assert f"set PYSPARK_PYTHON={sys.executable}" in last
