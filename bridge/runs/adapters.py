"""Adapters found by entry point: what a run asks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from bridge.config import find_entry_point
from bridge.errors import ConfigError
from bridge.staging.connection import Connection

__all__ = ["ADAPTERS", "Adapter", "load_adapter"]

ADAPTERS = "headrace.adapters"
"""Entry-point group in which adapters are found."""


class Adapter(Protocol):
    """A kind of simulation; `sim_adapters.member.Adapter` describes it for those who write one."""

    def members(self) -> Sequence[str]:
        """Return the names of the members; each runs in a process of its own."""
        ...

    def simulations(self, member: str) -> Sequence[str]:
        """Return the names of the streams that a member writes."""
        ...

    def run(self, member: str, connection: Connection, *, seed: int, resume: bool) -> None:
        """Run a member until it reached its end or was stopped."""
        ...


def _find_file(value: Any, key: str, place: str) -> Any:
    """Turn ``package:NAME/path`` into the path of a file that an installed package brings."""
    if not isinstance(value, str) or not value.startswith("package:"):
        return value
    name, _, rest = value.removeprefix("package:").partition("/")
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"{place}: the key {key!r} names a file of the package {name!r}, which is not "
            f"installed; install it with: pip install {name}."
        )
    return str(Path(spec.submodule_search_locations[0]) / rest)


def load_adapter(table: Mapping[str, Any], base: Path, where: str) -> Adapter:
    """Make the adapter of a ``[simulation]`` table.

    Parameters
    ----------
    table
        With the key ``adapter``: a short name, or ``module:class``. A value such as
        ``package:MDAnalysisTests/data/adk.psf`` stands for a file that a package brings.
    base
        Folder that relative paths begin at.
    where
        The file, for messages.

    Raises
    ------
    ConfigError
        If there is no such adapter, or it refuses the table.
    MissingExtra
        If the simulation code is not installed.
    """
    place = f"{where}, [simulation]"
    factory = find_entry_point(ADAPTERS, table["adapter"], place)
    given = {k: _find_file(v, k, place) for k, v in table.items() if k != "adapter"}
    try:
        adapter: Adapter = factory.from_table(given, base)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error
    if not adapter.members():
        raise ConfigError(f"{place}: there is nobody to simulate; give at least one member.")
    return adapter
