"""What every benchmark returns: figures with their targets, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

__all__ = ["figure", "machine", "result"]

Better = Literal["higher", "lower"]


def machine() -> dict[str, Any]:
    """Describe the machine: enough to tell whether two results may be compared."""
    model = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "cpu": model or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def figure(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    target: float | None = None,
    better: Better = "higher",
    **more: Any,
) -> dict[str, Any]:
    """Return one figure: the median of repeated runs, and their spread (largest less smallest)."""
    value = statistics.median(values)
    met = None
    if target is not None:
        met = bool(value >= target if better == "higher" else value <= target)
    return {
        "name": name,
        "value": float(f"{value:.5g}"),
        "unit": unit,
        "target": target,
        "better": better,
        "met": met,
        "runs": len(values),
        "spread": float(f"{max(values) - min(values):.3g}"),
        **more,
    }


def result(name: str, figures: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a benchmark's result."""
    return {"benchmark": name, "machine": machine(), "figures": figures}
