"""What every adapter must do, as checks that need no test framework.

`check_adapter` runs all that apply; a failed one raises `AssertionError` with a sentence. With
pytest, and one assertion each::

    from bridge.testing.adapters import CHECKS, AdapterCase

    CASE = AdapterCase(make=MySimulation, units={"positions": "nm"}, timestep=0.002)

    @pytest.mark.parametrize("check", CHECKS)
    def test_my_adapter(check):
        check(CASE)

``MySimulation`` is a `Specimen`: a simulation as small as it may be, with and without the adapter;
``docs/adapters.md`` shows one. One that needs processes of its own, under MPI or in another
language, is made by a `ProcessMaker`. Each check starts a stager of its own on a loopback address.
A check that does not apply, because nothing can be set or selected, raises `unittest.SkipTest`,
which pytest and unittest show as skipped. No check depends on speed; all give up after `PATIENCE`
seconds.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable

from bridge.testing.adapter_commands import (
    check_applied_once,
    check_at_step,
    check_capabilities_declared,
    check_expired,
    check_interval,
    check_pause,
    check_refused_changes_nothing,
    check_restart,
    check_stop,
)
from bridge.testing.adapter_frames import (
    check_close_twice,
    check_frames,
    check_next_life,
    check_selection,
    check_stager_lost_and_found,
    check_unchanged_when_linked,
    check_units,
)
from bridge.testing.adapter_process import ProcessMaker, ProcessSpecimen, serve_specimen
from bridge.testing.adapter_tools import PATIENCE, AdapterCase, Maker, Settable, Specimen

__all__ = [
    "CHECKS",
    "PATIENCE",
    "AdapterCase",
    "Maker",
    "ProcessMaker",
    "ProcessSpecimen",
    "Settable",
    "Specimen",
    "check_adapter",
    "check_applied_once",
    "check_at_step",
    "check_capabilities_declared",
    "check_close_twice",
    "check_expired",
    "check_frames",
    "check_interval",
    "check_next_life",
    "check_pause",
    "check_refused_changes_nothing",
    "check_restart",
    "check_selection",
    "check_stager_lost_and_found",
    "check_stop",
    "check_unchanged_when_linked",
    "check_units",
    "serve_specimen",
]

CHECKS: tuple[Callable[[AdapterCase], None], ...] = (
    check_frames,
    check_units,
    check_selection,
    check_unchanged_when_linked,
    check_close_twice,
    check_next_life,
    check_stager_lost_and_found,
    check_capabilities_declared,
    check_refused_changes_nothing,
    check_applied_once,
    check_at_step,
    check_expired,
    check_interval,
    check_pause,
    check_restart,
    check_stop,
)


def check_adapter(case: AdapterCase) -> list[str]:
    """Run all checks that apply, in order; returns why others do not."""
    skipped = []
    for check in CHECKS:
        try:
            check(case)
        except unittest.SkipTest as reason:
            skipped.append(f"{check.__name__}: {reason}")
    return skipped
