"""A world to steer in, over each way to a stager."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bridge.steering.world import World, make_world


@pytest.fixture(params=["memory://approvals", "tcp://127.0.0.1:0"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Return a stager, a walker that answers, and an engine that asks people first."""
    with make_world(request.param) as found:
        yield found
