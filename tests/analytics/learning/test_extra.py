"""Without the extra, the error names it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules["torch"] = None
from bridge.errors import MissingExtra
try:
    import {module}
except MissingExtra as error:
    assert error.extra == "learning", error
    sys.exit(7)
"""


@pytest.mark.parametrize(
    "module",
    ["analytics.learning.alignment", "analytics.learning.model", "analytics.reduction.networks"],
)
def test_models_without_torch_name_the_extra(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(module=module)], timeout=60)
    assert done.returncode == 7


def test_linear_reduction_does_without_torch() -> None:
    code = 'import sys; sys.modules["torch"] = None; import analytics.reduction'
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
