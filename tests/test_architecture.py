"""Who may import whom: the rooms of the house, read from the syntax tree of every file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("analytics", "bridge", "sim_adapters")
TOP = "bridge"

# What a room may import besides itself and third parties. "bridge" stands for its top modules.
ARROWS: dict[str, set[str]] = {
    TOP: set(),
    "bridge.transports": {TOP},
    "bridge.staging": {TOP, "bridge.transports"},
    "bridge.engines": {TOP, "bridge.staging"},
    "bridge.steering": {TOP, "bridge.staging"},
    "bridge.dashboard": {
        TOP,
        "bridge.staging",
        "bridge.engines",
        "bridge.steering",
        "bridge.runs",
        "bridge.jobs",
    },
    "bridge.notebook": {TOP, "bridge.dashboard", "bridge.runs"},
    "bridge.testing": {
        TOP,
        "bridge.transports",
        "bridge.staging",
        "bridge.engines",
        "bridge.steering",
    },
    "bridge.runs": {
        TOP,
        "bridge.transports",
        "bridge.staging",
        "bridge.engines",
        "bridge.steering",
    },
    "bridge.jobs": {
        TOP,
        "bridge.staging",
        "bridge.engines",
        "bridge.steering",
        "bridge.runs",
    },
    "bridge.cli": {
        TOP,
        "bridge.jobs",
        "bridge.runs",
        "bridge.transports",
        "bridge.staging",
        "bridge.engines",
        "bridge.steering",
        "bridge.dashboard",
        "bridge.testing",
    },
    "analytics": {TOP},
    "sim_adapters": {TOP, "bridge.staging", "bridge.steering"},
}
# Arrows to a part of a room, and what is to be read about each.
NARROW_ARROWS: dict[str, dict[str, str]] = {
    "sim_adapters": {"bridge.transports.imd": "0008-adapters-and-the-wire-of-imd.md"},
}
TOP_MODULES_MAY_USE = {"msgspec", "numpy", "xxhash"}


def find_modules(root: Path) -> dict[str, Path]:
    """Return the file of every module of the three packages, by dotted name."""
    modules = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            modules[name] = path
    return modules


def find_imports(name: str, path: Path, modules: dict[str, Path]) -> Iterator[tuple[str, bool]]:
    """Yield each module that a file imports, and whether importing the file runs that import."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def walk(node: ast.AST, runs: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, runs
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*above, *filter(None, [source])])
            for alias in node.names:
                # `from bridge.staging import log` means the module where there is one.
                inner = f"{source}.{alias.name}"
                yield (inner if inner in modules or inner in ARROWS else source), runs
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for guarded in node.body:
                yield from walk(guarded, False)
            for other in node.orelse:
                yield from walk(other, runs)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, runs and not inside)

    return walk(ast.parse(path.read_text(encoding="utf-8"), str(path)), True)


def room_of(module: str, modules: dict[str, Path]) -> str | None:
    """Return the room of one of our modules, None for anybody else's."""
    package, _, rest = module.partition(".")
    if package not in PACKAGES:
        return None
    if package != "bridge":
        return package
    room = f"bridge.{rest.partition('.')[0]}"
    is_folder = room in ARROWS or modules.get(room, Path()).name == "__init__.py"
    return room if is_folder else TOP


def is_narrow(room: str, target: str) -> bool:
    """Return whether a room may import this much of another one."""
    parts = NARROW_ARROWS.get(room, {})
    return any(target == part or target.startswith(f"{part}.") for part in parts)


def find_faults(root: Path) -> list[str]:
    """Return a sentence for every import that the table does not allow."""
    modules = find_modules(root)
    faults = []
    for name, path in modules.items():
        room = room_of(name, modules)
        assert room is not None
        if room not in ARROWS:
            faults.append(f"{name} lies in {room}, a room that the table does not know.")
            continue
        for target, _ in find_imports(name, path, modules):
            other = room_of(target, modules)
            if other is None:
                owner = target.partition(".")[0]
                known = owner in sys.stdlib_module_names or owner in TOP_MODULES_MAY_USE
                if room == TOP and not known:
                    faults.append(f"{name} imports {target}, too much for a top module.")
            elif other != room and other not in ARROWS[room] and not is_narrow(room, target):
                faults.append(f"{name} imports {target}, but {room} may not import {other}.")
    return faults


def find_cycle(root: Path) -> list[str]:
    """Return the modules of one import cycle, an empty list where there is none."""
    modules = find_modules(root)
    graph = {
        name: {
            target
            for target, runs in find_imports(name, path, modules)
            if runs and target in modules and target != name
        }
        for name, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_import_goes_along_an_arrow() -> None:
    assert find_faults(ROOT) == []


def test_narrow_arrows_are_explained() -> None:
    pages = {page for parts in NARROW_ARROWS.values() for page in parts.values()}
    assert all((ROOT / "docs" / "decisions" / page).is_file() for page in pages)


def test_no_import_goes_in_a_circle() -> None:
    assert find_cycle(ROOT) == []


def test_errors_stand_on_nothing_of_ours() -> None:
    modules = find_modules(ROOT)
    imported = [
        target for target, _ in find_imports("bridge.errors", modules["bridge.errors"], modules)
    ]
    assert [target for target in imported if room_of(target, modules)] == []


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in {"bridge/__init__.py": "", "bridge/errors.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("bridge/frames.py", "import analytics"),
        ("bridge/frames.py", "from sim_adapters import link"),
        ("bridge/frames.py", "import torch"),
        ("bridge/frames.py", "def late():\n    from . import staging"),
        ("bridge/staging/__init__.py", "from ..engines import local"),
        ("bridge/transports/memory.py", "from bridge.staging.log import Log"),
        ("bridge/engines/local.py", "import bridge.steering.guard"),
        ("bridge/attic/__init__.py", ""),
        ("analytics/novelty.py", "from bridge.staging import Consumer"),
        ("analytics/novelty.py", "import sim_adapters"),
        ("sim_adapters/replay.py", "import analytics.features"),
        ("sim_adapters/replay.py", "from bridge.cli import main"),
        ("sim_adapters/imd.py", "from bridge.transports import zeromq"),
        ("sim_adapters/imd.py", "from bridge.transports.imd_like import Kind"),
        ("analytics/imd.py", "from bridge.transports.imd import Kind"),
    ],
)
def test_an_arrow_that_the_table_lacks_is_found(tmp_path: Path, file: str, text: str) -> None:
    write(tmp_path, {file: text})
    assert len(find_faults(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("bridge/frames.py", "import numpy.typing\nfrom .errors import SchemaError"),
        ("bridge/staging/log.py", "from . import client\nfrom bridge import errors\nimport zmq"),
        ("bridge/cli/main.py", "import bridge.engines.local\nimport bridge.steering"),
        ("analytics/learning.py", "import torch\nfrom bridge import Pipeline"),
        ("sim_adapters/link.py", "from bridge.steering import channel"),
        ("sim_adapters/imd.py", "from bridge.transports.imd import Kind"),
        ("sim_adapters/imd.py", "from bridge.transports.imd.packets import Kind"),
    ],
)
def test_an_arrow_that_the_table_has_is_let_through(tmp_path: Path, file: str, text: str) -> None:
    write(tmp_path, {file: text})
    assert find_faults(tmp_path) == []


def test_a_circle_is_found_and_an_import_for_types_is_none(tmp_path: Path) -> None:
    write(tmp_path, {"bridge/a.py": "from bridge import b", "bridge/b.py": "import bridge.a"})
    assert set(find_cycle(tmp_path)) == {"bridge.a", "bridge.b"}
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import bridge.a"
    write(tmp_path, {"bridge/b.py": for_types})
    assert find_cycle(tmp_path) == []
