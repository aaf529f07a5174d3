"""Several seeds of the steered run, its two controls, and all of them against each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUTPUT = Path("runs/alanine-comparison")
STEERED_SEEDS = range(1, 6)
CONTROLS = ("random", "none")
CONTROL_LIMIT = "4 ns"


def headrace(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "bridge.cli", *map(str, arguments)], check=True)


def main() -> None:
    runs = []
    for seed in STEERED_SEEDS:
        runs.append(OUTPUT / f"steered-{seed}")
        headrace("run", HERE / "run.toml", "--seed", str(seed), "--output", runs[-1], "--overwrite")
    for control in CONTROLS:
        runs.append(OUTPUT / control)
        headrace(
            "run", HERE / "run.toml", "--control", control, "--max-time", CONTROL_LIMIT,
            "--output", runs[-1], "--overwrite",
        )  # fmt: skip
    headrace("report", *runs)


if __name__ == "__main__":
    main()
