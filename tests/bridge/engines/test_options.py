"""Options of the engines."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bridge.engines.options import JobOptions, LocalOptions
from bridge.errors import ConfigError


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_durations_are_positive(value: float) -> None:
    with pytest.raises(ConfigError, match="'checkpoint_every' must be greater than 0"):
        LocalOptions(checkpoint_every=value)


@pytest.mark.parametrize("name", ["max_frames", "block_groups", "partial_bytes"])
def test_numbers_are_positive(name: str) -> None:
    options: dict[str, Any] = {name: 0}
    with pytest.raises(ConfigError, match=f"{name!r} must be greater than 0, not 0"):
        JobOptions(**options)


def test_threads_may_be_left_to_the_libraries() -> None:
    assert JobOptions().threads == 1
    assert JobOptions(threads=0).threads == 0


def test_fewer_threads_than_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="'threads' must be at least 0, not -1"):
        JobOptions(threads=-1)
