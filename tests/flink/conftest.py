"""Real stagers and a real Flink; nothing here is collected where PyFlink is not installed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from bridge.jobs.clusters import LocalCluster
from bridge.staging import Stager, StagerClient

collect_ignore_glob = [] if find_spec("pyflink") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A JVM and three Python workers take their time to start on two cores."""
    for item in items:
        if "tests/flink" in str(item.path):
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture
def stager() -> Iterator[Stager]:
    """A stager that other processes can reach, in a thread."""
    with Stager("tcp://127.0.0.1:0") as service:
        yield service.start()


@pytest.fixture
def reader(stager: Stager) -> Iterator[StagerClient]:
    """A connection, to look at what came about."""
    with StagerClient(stager.address) as connection:
        yield connection


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A standalone cluster, whose processes are started again if they end."""
    folder = tmp_path_factory.mktemp("cluster")
    with LocalCluster("flink", workers=2, slots=1, directory=folder) as found:
        over = threading.Event()

        def look_after() -> None:
            while not over.wait(0.2):
                found.look_after()

        keeper = threading.Thread(target=look_after, daemon=True)
        keeper.start()
        yield found
        over.set()
        keeper.join(5)
