"""What the folder of a run tells of it: names, columns, maps, rules, and how it ended."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from bridge.dashboard.stores.plain import plain
from bridge.errors import HeadraceError
from bridge.runs.directory import RunDirectory

__all__ = ["About"]


class About:
    """The files of a run that say what it is; without a folder, there is nothing to tell.

    Parameters
    ----------
    directory
        Of the run.
    """

    def __init__(self, directory: RunDirectory | None = None) -> None:
        self.directory = directory
        self.resolved: dict[str, Any] = {}
        self._report: tuple[float, dict[str, Any]] = (0.0, {})
        self._resolved_at = 0.0
        self.refresh()

    def refresh(self) -> None:
        """Read what changed since the last time."""
        if self.directory is None:
            return
        changed = _modified(self.directory.resolved)
        if changed != self._resolved_at:
            self.resolved = _read(self.directory.resolved)
            self._resolved_at = changed
        changed = _modified(self.directory.report)
        if changed != self._report[0]:
            self._report = (changed, _read(self.directory.report))

    @property
    def report(self) -> dict[str, Any]:
        """``report.json``; empty while the run lasts."""
        return self._report[1]

    @property
    def over(self) -> bool:
        """Whether the run wrote its report; one of an earlier part of it does not count."""
        return bool(self.report) and self._report[0] >= self._resolved_at

    @property
    def configuration(self) -> dict[str, Any]:
        """The run's configuration as plain data."""
        found = self.resolved.get("configuration")
        return found if isinstance(found, dict) else {}

    def table(self, name: str) -> dict[str, Any]:
        """Return a table of the configuration; empty if there is none."""
        found = self.configuration.get(name)
        return found if isinstance(found, dict) else {}

    @property
    def pipeline(self) -> str:
        """Name of the pipeline; empty if unknown."""
        return str(self.table("pipeline").get("name") or "")

    @property
    def name(self) -> str:
        """Name of the run."""
        found = self.table("run").get("name")
        return str(found or (self.directory.path.name if self.directory is not None else ""))

    @property
    def adapter(self) -> str:
        """What simulates."""
        return str(self.table("simulation").get("adapter") or "")

    @property
    def temperature(self) -> float | None:
        """Temperature of the simulations in kelvin, if they are told it as a number."""
        found = self.table("simulation").get("temperature")
        return float(found) if isinstance(found, int | float) and found > 0 else None

    @property
    def maps(self) -> list[dict[str, Any]]:
        """The report's maps."""
        found = self.table("report").get("maps")
        maps = found if isinstance(found, list) else []
        return [plain(m) for m in maps if isinstance(m, dict) and "x" in m and "y" in m]

    @property
    def rules(self) -> dict[str, Any]:
        """Rules of the guard, as they were given."""
        return dict(plain(self.table("steering")))

    @property
    def keys(self) -> str:
        """Folder of the key files; empty without."""
        keys = self.table("staging").get("keys")
        return str(Path(str(self.resolved.get("base", "."))) / str(keys)) if keys else ""

    @property
    def title(self) -> str:
        """What the run is, for people."""
        adapter, control = self.adapter, self.resolved.get("control")
        title = f"{self.name} ({adapter})" if adapter else self.name
        return f"{title}, control {control}" if control else title

    def members(self) -> list[str]:
        """Return the simulations that a report names."""
        found = self.report.get("simulations")
        return [str(s["name"]) for s in found if "name" in s] if isinstance(found, list) else []


def _modified(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, HeadraceError):
        value = json.loads(path.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else {}
    return {}
