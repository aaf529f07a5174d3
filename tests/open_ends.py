"""What a module of tests leaves open is told there, and not where it happens to be collected.

A channel that nobody closed warns when it is garbage, and warnings are errors: a ring of garbage
would make any later test fail.
"""

from __future__ import annotations

import gc
import sys
import time
import weakref
from typing import Any

__all__ = ["find_left_open", "lasting", "note"]

PATIENCE = 5.0
"""Seconds for threads to close what they used."""

lasting: set[str] = set()
"""Addresses of stagers that serve several modules of tests: of session-wide fixtures."""

_told: weakref.WeakSet[Any] = weakref.WeakSet()
_opened_in: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def _find_ends() -> list[Any]:
    # Tests that need no transport do not import it for this.
    module = sys.modules.get("bridge.transports.context")
    return [] if module is None else list(module.open_ends)


def note(test: str) -> None:
    """Take note that whatever is open and was not before was opened in this test."""
    for end in _find_ends():
        _opened_in.setdefault(end, test)


def find_left_open(*, over: bool, failed: bool) -> list[str]:
    """Describe the ends that are still open, each of them once.

    Parameters
    ----------
    over
        No test comes after this: nothing may last.
    failed
        A test of the module failed, and may have left things open: they are none of the next's.
    """

    def find() -> list[Any]:
        return [e for e in _find_ends() if e not in _told and (over or e.address not in lasting)]

    if find() and not failed:
        # What closes itself when it is dropped may be part of a ring.
        gc.collect()
        # A thread may be about to close what it used.
        deadline = time.monotonic() + PATIENCE
        while find() and time.monotonic() < deadline:
            time.sleep(0.02)
    left = find()
    _told.update(left)
    if failed:
        return []
    return [
        f"{end!r}, opened {getattr(end, '_opened_by', 'somewhere')} during "
        f"{_opened_in.get(end, 'the teardown')}"
        for end in left
    ]
