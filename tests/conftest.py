"""What is true for all tests: no dashboard beside runs, and what was opened is closed again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.open_ends import find_left_open, note

os.environ.setdefault("HEADRACE_DASHBOARD", "off")

_FAILURES = pytest.StashKey[int]()
"""How many tests had failed when the module before had ended."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Complain at the end of a module about the channels and listeners that it left open."""
    note(item.nodeid)
    yield
    # PySpark and PyFlink keep connections for as long as their workers live.
    engines = "pyspark" in sys.modules or "pyflink" in sys.modules
    if engines or (nextitem is not None and nextitem.path == item.path):
        return
    failures = item.session.testsfailed
    failed = failures > item.session.stash.get(_FAILURES, 0)
    item.session.stash[_FAILURES] = failures
    left = find_left_open(over=nextitem is None, failed=failed)
    if left:
        pytest.fail(
            f"{item.path.name} left open, now that all its tests are over: {'; '.join(left)}. "
            "Use with statements, or close what fixtures open.",
            pytrace=False,
        )
