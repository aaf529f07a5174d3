"""Every process that a test starts ends with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bridge.runs.commands import end_all


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole runs are several processes, one after the other; a busy machine takes its time."""
    for item in items:
        if "tests/bridge/runs" in item.path.as_posix() and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(autouse=True)
def nobody_left_behind() -> Iterator[None]:
    """Kill what is left."""
    yield
    end_all()
