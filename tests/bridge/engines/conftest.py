"""A stager and a client for the tests of engines."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from bridge.staging import Stager, StagerClient


@pytest.fixture
def stager() -> Iterator[Stager]:
    """A stager in memory, in a thread."""
    with Stager(f"memory://{uuid4().hex}") as service:
        yield service.start()


@pytest.fixture
def client(stager: Stager) -> Iterator[StagerClient]:
    """The engine's connection."""
    with StagerClient(stager.address) as connection:
        yield connection


@pytest.fixture
def reader(stager: Stager) -> Iterator[StagerClient]:
    """Another connection, to look at what came about."""
    with StagerClient(stager.address) as connection:
        yield connection
