"""A stager that the workers of every engine reach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.staging import Stager, StagerClient


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A JVM and its Python workers take their time to start on two cores."""
    for item in items:
        if "conformance/engines" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(400))


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
