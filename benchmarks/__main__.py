"""``python -m benchmarks NAME [--quick] [--json]``: run one benchmark, or all of them.

The last line printed is one JSON object; the exit status is 0 whether targets are met or not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from typing import Any

NAMES = (
    "staging",
    "put",
    "overhead",
    "latency",
    "memory",
    "steering",
    "storage_lmdb",
)
ALONE = (
    "inference",
    "training",
    "online",
    "learning",
    "learned",
    "engines",
    "adapters",
    "adios",
    "dashboard",
    "imd",
    "mpi",
)
"""Benchmarks that take long, or need more than the core: not among all of them."""


def _show(result: dict[str, Any]) -> None:
    for f in result["figures"]:
        mark = {True: "met", False: "NOT MET", None: ""}[f["met"]]
        sign = "at least" if f["better"] == "higher" else "at most"
        target = "" if f["target"] is None else f"({sign} {f['target']:g}) {mark}"
        print(f"  {f['name']:<56} {f['value']:>12g} {f['unit']:<12} ±{f['spread']:<9g} {target}")


def main() -> int:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, *ALONE, "all"])
    parser.add_argument("--engine", choices=("flink", "spark"), default="flink")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="less exact; idle, at most 45 s each, but 70 s for adapters and 3 min for engines",
    )
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON object")
    options = parser.parse_args()
    names = NAMES if options.name == "all" else (options.name,)
    results = []
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        more = {"engine": options.engine} if name == "engines" else {}
        result = module.run(options.quick, **more)
        results.append(result)
        if not options.json:
            print(f"{name}:")
            _show(result)
        if options.name == "all" and options.json:
            print(json.dumps(result), flush=True)
    if options.name == "all":
        together = [
            {**f, "name": f"{r['benchmark']}: {f['name']}"} for r in results for f in r["figures"]
        ]
        print(
            json.dumps({"benchmark": "all", "machine": results[0]["machine"], "figures": together})
        )
    else:
        print(json.dumps(results[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
