"""Tables and frames as files, and the words by which requests name what is in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from bridge.dashboard.answers import as_csv, as_data, packed_response
from bridge.dashboard.routes import BINARY, PDB
from bridge.errors import ConfigError

__all__ = [
    "as_file",
    "flat_columns",
    "points_columns",
    "read_atoms",
    "read_frame",
    "read_offset",
    "series_columns",
    "write_table",
]


def write_table(table: Any, format: str, columns: Callable[[Any], Any]) -> tuple[bytes, str]:
    """Return a table as JSON or CSV, and its content type; `columns` makes the columns of CSV."""
    if format == "json":
        return msgspec.json.encode(as_data(table)), "application/json"
    return as_csv(*columns(table)), "text/csv; charset=utf-8"


def points_columns(table: Any) -> tuple[list[str], list[list[Any]]]:
    """Return header and columns of points, simulations by name."""
    meta, arrays = table
    names = meta.get("simulations", [])
    columns = {
        name: array.tolist()
        for name, array in arrays.items()
        if array.ndim == 1 and not name.startswith("head_")
    }
    if "simulation" in columns and names:
        columns["simulation"] = [names[number] for number in columns["simulation"]]
    length = len(arrays["x"])
    kept = {name: values for name, values in columns.items() if len(values) == length}
    return list(kept), list(kept.values())


def series_columns(table: Any) -> tuple[list[str], list[list[Any]]]:
    """One line a value: a series need not share its times with another."""
    meta, arrays = table
    rows: list[list[Any]] = [[], [], [], []]
    for number, one in enumerate(meta["series"]):
        x = arrays[one.get("x", f"x{number}")].tolist()
        y = arrays[one.get("y", f"y{number}")].tolist()
        rows[0] += [one["simulation"]] * len(x)
        rows[1] += [one["column"]] * len(x)
        rows[2] += x
        rows[3] += y
    return ["simulation", "column", "x", "y"], rows


def flat_columns(table: Any) -> tuple[list[str], list[list[Any]]]:
    """Edges and counts, one bin a line."""
    _, arrays = table
    values = arrays.get("values", arrays.get("counts"))
    edges = [arrays[name] for name in ("x", "y", "x_edges", "y_edges") if name in arrays]
    middles = [
        (e[1:] + e[:-1]) / 2 if len(e) == n + 1 else e
        for e, n in zip(edges, values.shape, strict=False)
    ]
    grids = np.meshgrid(*middles, indexing="ij")
    names = ["x", "y"][: len(grids)]
    return [*names, "value"], [g.ravel().tolist() for g in grids] + [values.ravel().tolist()]


def as_file(request: Request, data: bytes, format: str, name: str) -> Response:
    """Answer with a file to be saved."""
    kinds = {"pdb": PDB, "xtc": BINARY, "csv": "text/csv; charset=utf-8"}
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return packed_response(request, data, kinds[format], headers=headers)


def read_atoms(text: str) -> Any:
    """Read which atoms are meant.

    Raises
    ------
    ConfigError
        If that is neither a selection nor indices.
    """
    if text in ("", "all", "ca", "solute"):
        return text or None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"The atoms are {text[:50]!r}; say 'all', 'ca', 'solute' or indices."
        ) from None


def read_frame(text: str) -> tuple[str, int]:
    """Read ``simulation:offset``.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    simulation, colon, offset = text.rpartition(":")
    if not colon or not simulation or not _is_offset(offset):
        raise ConfigError(f"The frame is {text[:50]!r}; write it as simulation:offset.")
    return simulation, int(offset)


def read_offset(text: str) -> int | Literal["latest"]:
    """Read the offset of a frame, or ``latest``.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    if text == "latest":
        return "latest"
    if not _is_offset(text):
        raise ConfigError(f"The offset is {text[:50]!r}; it is a number or 'latest'.")
    return int(text)


def _is_offset(text: str) -> bool:
    # No stream is longer; what has more digits does not fit the messages that ask for frames.
    return text.isascii() and text.isdigit() and len(text) <= 18
