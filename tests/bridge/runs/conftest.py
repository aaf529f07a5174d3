"""Every process that a test starts ends with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bridge.runs.commands import end_all


@pytest.fixture(autouse=True)
def nobody_left_behind() -> Iterator[None]:
    """Kill what is left."""
    yield
    end_all()
