"""Real stagers and a real Flink; nothing here is collected where PyFlink is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from bridge.staging import Stager, StagerClient

collect_ignore_glob = [] if find_spec("pyflink") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A JVM and three Python workers take their time to start on two cores."""
    for item in items:
        if "tests/flink" in str(item.path):
            item.add_marker(pytest.mark.timeout(240))


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
