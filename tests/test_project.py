"""The distribution as declared: a light core, exact pins, entry points and names that exist."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("analytics", "bridge", "sim_adapters")
CORE = {"msgspec", "numpy", "pyzmq", "rich", "xxhash"}
ENGINES = {"apache-flink", "pyspark"}
# Nobody who only streams frames has to wait for these.
HEAVY = {
    "MDAnalysis",
    "adios2",
    "deeptime",
    "matplotlib",
    "mdtraj",
    "openmm",
    "pandas",
    "pyarrow",
    "river",
    "safetensors",
    "scipy",
    "sklearn",
    "torch",
}
# Each of these is imported in a process of its own.
LIGHT = (
    "bridge",
    "bridge.cli",
    "bridge.engines",
    "bridge.staging",
    "bridge.steering",
    "sim_adapters",
)


def load_project() -> dict[str, Any]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def declared_names(path: Path) -> list[str] | None:
    """Return what a file assigns to `__all__`, None where it assigns nothing."""
    for node in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, ast.Assign)
            return list(ast.literal_eval(node.value))
    return None


FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
WITH_ALL = [path for path in FILES if declared_names(path) is not None]


def test_the_core_stays_light() -> None:
    assert {name_of(line) for line in load_project()["dependencies"]} == CORE


def test_all_brings_every_extra_but_the_engines() -> None:
    extras = load_project()["optional-dependencies"]
    everything = " ".join(extras["all"])
    match = re.fullmatch(r"headrace\[([a-z0-9,_-]+)\]", everything)
    assert match is not None, (
        "The extra 'all' is made of the other extras, so that none is listed twice."
    )
    expected = {
        name
        for name, lines in extras.items()
        if name not in {"all", "java", "test", "test-engines"}
        and not {name_of(line) for line in lines} & ENGINES
    }
    assert set(match[1].split(",")) == expected


def test_constraints_are_exact_sorted_and_complete() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.!]+", line)] == []
    names = [name_of(line) for line in pins]
    assert len(set(names)) == len(names)
    project = load_project()
    extras = project["optional-dependencies"]
    # What the engines bring has constraints of its own.
    apart = {"flink", "java", "spark"}
    groups = [lines for name, lines in extras.items() if name not in apart]
    wanted = {name_of(line) for group in groups for line in group} | CORE
    assert wanted - set(names) - {"headrace"} == set()


@pytest.mark.parametrize("engine", ["flink", "spark"])
def test_constraints_of_engines_are_exact_and_complete(engine: str) -> None:
    lines = (ROOT / f"constraints-{engine}.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.!]+", line)] == []
    names = [name_of(line) for line in pins]
    assert len(set(names)) == len(names)
    extras = load_project()["optional-dependencies"]
    wanted = {name_of(line) for line in (*extras[engine], *extras["test-engines"])} | CORE
    # pip does not list setuptools among what it froze.
    assert wanted - set(names) - {"setuptools"} == set()


@pytest.mark.parametrize("group", [*load_project()["entry-points"], "scripts"])
def test_every_entry_point_can_be_loaded(group: str) -> None:
    project = load_project()
    entries = project["scripts"] if group == "scripts" else project["entry-points"][group]
    for name, target in entries.items():
        module, _, attribute = target.partition(":")
        loaded = importlib.import_module(module)
        assert not attribute or hasattr(loaded, attribute), f"{name} = {target}"


@pytest.mark.parametrize("path", WITH_ALL, ids=module_name)
def test_public_names_exist_once(path: Path) -> None:
    names = declared_names(path)
    assert names is not None
    # Their order is ruff's affair (RUF022).
    assert len(set(names)) == len(names)
    for engine, package in (("flink", "pyflink"), ("spark", "pyspark")):
        if f"engines/{engine}/" in path.as_posix():
            pytest.importorskip(package, reason=f"The environment of {engine} has it.")
    module = importlib.import_module(module_name(path))
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize(
    "module",
    [name for name in LIGHT if (ROOT / name.replace(".", "/") / "__init__.py").is_file()],
)
def test_importing_the_core_loads_nothing_heavy(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert HEAVY & {name.partition(".")[0] for name in json.loads(done.stdout)} == set()
