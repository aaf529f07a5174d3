"""The public suite for adapters over a simulation in C, built with sanitizers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.testing.adapters import CHECKS, AdapterCase, ProcessMaker, Settable


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_c_library(
    compile_c: Callable[[str], Path], check: Callable[[AdapterCase], None]
) -> None:
    check(
        AdapterCase(
            make=ProcessMaker([str(compile_c("specimen"))]),
            units={"x": "nm", "energy": "kJ/mol"},
            timestep=0.5,
            settable=Settable(parameter="temperature", values=(310.0, 320.0), outside=900.0),
            restart="x",
        )
    )
