"""Copies of what an analysis holds: its numbers are copied, universes and files are shared."""

from __future__ import annotations

import copy
import functools
import io
import logging
import types
import weakref
from collections import UserDict
from typing import Any

import numpy as np

from bridge.errors import MissingExtra

try:
    from MDAnalysis.coordinates.base import ProtoReader, WriterBase
    from MDAnalysis.core.groups import ComponentBase, GroupBase
    from MDAnalysis.core.topologyobjects import TopologyGroup, TopologyObject
    from MDAnalysis.core.universe import Universe
except ImportError as error:
    raise MissingExtra("MDAnalysis", "mdanalysis", "analysing streams with MDAnalysis") from error

__all__ = ["duplicate", "is_shared", "writes_files"]

_SHARED: tuple[type, ...] = (
    Universe, GroupBase, ComponentBase, TopologyGroup, TopologyObject, ProtoReader, WriterBase,
    io.IOBase, logging.Logger, weakref.ref, type, types.ModuleType, types.FunctionType,
    types.BuiltinFunctionType, bool, int, float, complex, str, bytes, np.generic, np.dtype,
    np.ufunc, type(None),
)  # fmt: skip


def is_shared(value: Any) -> bool:
    """Return whether a value is handed on instead of being copied."""
    return isinstance(value, _SHARED)


def writes_files(analysis: Any) -> bool:
    """Return whether an analysis holds something that writes."""
    return any(
        isinstance(v, WriterBase) or (isinstance(v, io.IOBase) and not v.closed and v.writable())
        for v in vars(analysis).values()
    )


def duplicate(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """Copy a value with all that it holds, except for what is shared.

    What occurs twice occurs twice in the copy, too; methods are bound to the copy.
    """
    memo = {} if memo is None else memo
    if is_shared(value):
        return value
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, types.MethodType):
        return types.MethodType(value.__func__, duplicate(value.__self__, memo))
    if isinstance(value, functools.partial):
        parts = duplicate([value.func, value.args, value.keywords], memo)
        return functools.partial(parts[0], *parts[1], **parts[2])
    if isinstance(value, np.ndarray):
        new: Any = value.copy(order="K")
    elif isinstance(value, list):
        new = memo[id(value)] = copy.copy(value)
        new[:] = [duplicate(v, memo) for v in value]
    elif isinstance(value, tuple):
        items = [duplicate(v, memo) for v in value]
        new = type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    elif isinstance(value, dict):
        new = memo[id(value)] = copy.copy(value)
        new.update({k: duplicate(v, memo) for k, v in value.items()})
    elif isinstance(value, UserDict):
        # MDAnalysis's results; their names were checked when they were set.
        new = memo[id(value)] = type(value)()
        new.__dict__["data"] = {k: duplicate(v, memo) for k, v in value.data.items()}
    elif isinstance(value, set):
        new = copy.copy(value)
    else:
        return _duplicate_object(value, memo)
    memo[id(value)] = new
    return new


def _duplicate_object(value: Any, memo: dict[int, Any]) -> Any:
    if not hasattr(value, "__dict__"):
        return value
    try:
        new = copy.copy(value)
    except TypeError:
        # Locks and the like.
        return value
    memo[id(value)] = new
    for name, inside in vars(value).items():
        new.__dict__[name] = duplicate(inside, memo)
    return new
