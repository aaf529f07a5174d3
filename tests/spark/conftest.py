"""One Spark for all tests, and stagers that its workers reach. Needs the environment of Spark."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bridge.staging import Stager, StagerClient

collect_ignore_glob = [] if find_spec("pyspark") else ["test_*.py"]


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Spark session in this process; engines use it, too."""
    from bridge.engines.spark.session import Session

    made = Session("tests", "local[2,4]", {}, tmp_path_factory.mktemp("spark") / "spark.log")
    yield made
    made.stop()


@pytest.fixture
def spark(session: Any) -> Any:
    """The session, which knows the format headrace."""
    from bridge.engines.spark import register

    register(session.spark)
    return session.spark


@pytest.fixture
def stager() -> Iterator[Stager]:
    """A stager in a thread, on a port."""
    with Stager("tcp://127.0.0.1:0") as service:
        yield service.start()


@pytest.fixture
def reader(stager: Stager) -> Iterator[StagerClient]:
    """A connection, to look at what came about."""
    with StagerClient(stager.address) as connection:
        yield connection


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder for a checkpoint, not there yet."""
    return tmp_path / "checkpoint"
