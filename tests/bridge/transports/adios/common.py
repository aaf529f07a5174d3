"""Files that other programs could have written, and what a reader finds in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.transports.adios import Reader, Source, read_mapping

bindings: Any = pytest.importorskip("adios2.bindings")


def define(io: Any, name: str, array: np.ndarray[Any, Any], shape: Any = None) -> Any:
    """Define a variable: a global array by default, a single value if it has no shape."""
    count = list(array.shape)
    if not count:
        return io.DefineVariable(name, array.reshape(1), [], [], [])
    if shape is None:
        return io.DefineVariable(name, array, count, [0] * len(count), count)
    return io.DefineVariable(name, array, shape, [], count)


def write(path: Path, steps: int, fill: Callable[[Any, Any, int], None], **attributes: Any) -> None:
    """Write a BP5 file; `fill` is called with the IO, the engine and the step."""
    adios = bindings.ADIOS()
    io = adios.DeclareIO("w")
    io.SetEngine("BP5")
    for name, value in attributes.items():
        io.DefineAttribute(name.replace("__", "/"), value)
    engine = io.Open(str(path), bindings.Mode.Write)
    for step in range(steps):
        engine.BeginStep()
        fill(io, engine, step)
        engine.EndStep()
    engine.Close()


def put(io: Any, engine: Any, name: str, value: Any, shape: Any = None) -> None:
    """Put one variable into the present step."""
    array = np.ascontiguousarray(value)
    if np.ndim(value) == 0:
        array = array.reshape(())
    variable = io.InquireVariable(name)
    if not variable:
        variable = define(io, name, array, shape)
    elif array.shape and shape is None and list(variable.Shape()) != list(array.shape):
        variable.SetShape(list(array.shape))
        variable.SetSelection(([0] * array.ndim, list(array.shape)))
    elif shape is not None:
        variable.SetSelection(([], list(array.shape)))
    engine.Put(variable, array.reshape(1) if not array.shape else array, bindings.Mode.Sync)


def read(
    *paths: Path, mapping: Mapping[str, Any] | None = None
) -> tuple[Any, list[tuple[int, float, dict[str, np.ndarray[Any, Any]]]]]:
    """Return the schema, and step, time and arrays of all steps."""
    sources = [Source(str(path)) for path in paths]
    frames = []
    try:
        for source in sources:
            source.open(5.0)
            assert source.begin() == "step"
        reader = Reader(sources, read_mapping(mapping))
        more = True
        while more:
            for iteration in reader.iterations(sources[0]) or [None]:
                head = reader.head(0, iteration)
                row = {v.name: np.empty(v.shape, v.numpy_dtype) for v in reader.schema.variables}
                reader.read_into(row, iteration)
                frames.append((head.step, head.time, row))
            for source in sources:
                source.end_step()
            more = [source.begin() for source in sources] == ["step"] * len(sources)
    finally:
        for source in sources:
            source.close()
    return reader.schema, frames
