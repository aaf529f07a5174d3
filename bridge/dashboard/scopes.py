"""What kind of operator a name stands for, read from its source: nothing of it is imported.

An operator may bring PyTorch along, which a dashboard has no use for.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import lru_cache
from importlib import metadata
from pathlib import Path

__all__ = ["find_scope", "find_target"]

GROUP = "headrace.operators"
_SCOPES = {
    "FrameOperator": "frame",
    "BlockOperator": "frame",
    "KeyedOperator": "keyed",
    "GlobalOperator": "global",
}
DEEP = 6
"""Classes that are followed to their bases at most."""


@lru_cache(maxsize=1024)
def find_target(use: str) -> str:
    """Return ``module:Class`` of an operator; empty if nobody registered it."""
    if ":" in use:
        return use
    found = [p.value for p in metadata.entry_points(group=GROUP) if p.name == use]
    return found[0] if found else ""


@lru_cache(maxsize=1024)
def find_scope(use: str, folder: str = "") -> str:
    """Return ``frame``, ``keyed`` or ``global``; empty if the source cannot be found or read.

    Parameters
    ----------
    use
        Short name, or ``module:Class``.
    folder
        Where modules of the run's own lie.
    """
    module, _, name = find_target(use).partition(":")
    return _scope_of(module, name.partition(".")[0], folder, DEEP) if module and name else ""


def _scope_of(module: str, name: str, folder: str, deep: int) -> str:
    if name in _SCOPES:
        return _SCOPES[name]
    tree = _parse(module, folder) if deep else None
    if tree is None:
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for base in node.bases:
                text = ast.unparse(base).partition("[")[0]
                found = _scope_of(module, text.rpartition(".")[2], folder, deep - 1)
                if found:
                    return found
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _scope_of(node.module, alias.name, folder, deep - 1)
        elif isinstance(node, ast.FunctionDef) and node.name == name and node.returns is not None:
            # Something that makes an operator says so by what it returns.
            return _scope_of(module, ast.unparse(node.returns), folder, deep - 1)
    return ""


def _parse(module: str, folder: str) -> ast.Module | None:
    path = _locate(module, folder)
    try:
        return None if path is None else ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None


def _locate(module: str, folder: str) -> Path | None:
    """Return the file of a module, without importing the packages that it lies in."""
    head, *rest = module.split(".")
    if not all(part.isidentifier() for part in (head, *rest)):
        return None
    roots = [Path(folder) / head] if folder else []
    try:
        spec = importlib.util.find_spec(head)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.origin is not None:
        origin = Path(spec.origin)
        roots.append(origin.parent if origin.name == "__init__.py" else origin.with_suffix(""))
    for root in roots:
        base = root.joinpath(*rest)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None
