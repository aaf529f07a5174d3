"""Threads of the numerical libraries; in processes of their own, whose libraries are untouched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("threadpoolctl")

_ASK = """
import json, os, sys
import numpy as np
from bridge.engines.threads import limit_threads
if sys.argv[2] == "without":
    sys.modules["threadpoolctl"] = None  # As if it were not installed.
limit_threads(int(sys.argv[1]))
sys.modules.pop("threadpoolctl", None)
import threadpoolctl
print(json.dumps({
    "blas": [p["num_threads"] for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"],
    "told": os.environ.get("OMP_NUM_THREADS"),
}))
"""


def ask(threads: int, how: str = "with") -> tuple[dict[str, Any], str]:
    """Limit the threads in a new process that has begun with three, and return what it sees."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(threads), how],
        env={**environment, "OPENBLAS_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return json.loads(done.stdout), done.stderr


def test_libraries_that_are_loaded_take_so_many() -> None:
    seen, said = ask(1)
    assert set(seen["blas"]) == {1}
    assert seen["told"] == "1"
    assert said == ""


def test_zero_leaves_them_alone() -> None:
    before, _ = ask(0)
    assert before["told"] is None
    assert set(before["blas"]) != {1} or os.cpu_count() == 1


def test_without_the_means_it_is_said_and_what_comes_later_is_limited() -> None:
    seen, said = ask(1, "without")
    assert seen["told"] == "1"
    assert "install threadpoolctl in the worker's environment, or set OMP_NUM_THREADS=1" in said
