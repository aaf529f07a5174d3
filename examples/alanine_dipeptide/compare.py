"""Several seeds of the steered run, its two controls, and all of them against each other.

Takes three to five minutes on two cores: the controls cross seldom, or never within their limit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUTPUT = Path("runs/alanine-comparison")
CONTROLS = ("random", "none")


def headrace(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "bridge.cli", *map(str, arguments)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="steered runs (%(default)s)")
    parser.add_argument(
        "--limit", default="4 ns", help="of each control, simulated time (%(default)s)"
    )
    arguments = parser.parse_args()
    runs: list[Path] = []
    for seed in range(1, arguments.seeds + 1):
        runs.append(OUTPUT / f"steered-{seed}")
        headrace("run", HERE / "run.toml", "--seed", str(seed), "--output", runs[-1], "--overwrite")
    for control in CONTROLS:
        runs.append(OUTPUT / control)
        headrace(
            "run", HERE / "run.toml", "--control", control, "--max-time", arguments.limit,
            "--output", runs[-1], "--overwrite",
        )  # fmt: skip
    headrace("report", *runs)


if __name__ == "__main__":
    main()
