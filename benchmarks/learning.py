"""All benchmarks of networks on the stream, but the steered runs: see `benchmarks.learned`."""

from __future__ import annotations

from typing import Any

from benchmarks import inference, online, training
from benchmarks.report import result


def run(quick: bool) -> dict[str, Any]:
    """Measure; see the modules' texts."""
    figures = []
    for module in (inference, training, online):
        found = module.run(quick)
        figures += [{**f, "name": f"{found['benchmark']}: {f['name']}"} for f in found["figures"]]
    return result("learning", figures)
