"""Addresses of the engines' own pages, where they are known."""

from __future__ import annotations

import time

from bridge.dashboard.about import About
from bridge.errors import HeadraceError
from bridge.jobs.records import JobRecord, JobStore
from bridge.staging.ownership import split_addresses

__all__ = ["Links"]

EVERY = 15.0
"""Seconds after which the records of jobs are read again."""


class Links:
    """Finds the pages of Flink and Spark: in the run's configuration, and among submitted jobs.

    Parameters
    ----------
    about
        Of the run.
    store
        Records of jobs.
    """

    def __init__(self, about: About, store: JobStore | None = None) -> None:
        self._about = about
        self._store = store or JobStore()
        self._found: list[dict[str, str]] = []
        self._due = 0.0

    def find(
        self, pipeline: str, stagers: str, *, engine: str = "", page: str = ""
    ) -> list[dict[str, str]]:
        """Return name and address of each page.

        Parameters
        ----------
        pipeline
            Its name.
        stagers
            Addresses of the stagers, with commas between; empty if unknown.
        engine, page
            Kind of the engine, and the address that it tells itself (`EngineStatistics.page`): that
            of Spark's driver is known to nobody else, as its master has another.
        """
        now = time.monotonic()
        if now >= self._due:
            self._due = now + EVERY
            self._found = self._look(pipeline, stagers)
        page = _page("", page)
        if not page or any(one["url"] == page for one in self._found):
            return self._found
        name = f"{engine.capitalize() or 'Engine'}: this job"
        return [{"name": name, "url": page}, *self._found]

    def _look(self, pipeline: str, stagers: str) -> list[dict[str, str]]:
        found: dict[str, str] = {}
        table = self._about.table("engine")
        kind, cluster = str(table.get("kind", "")), str(table.get("cluster", ""))
        if kind in ("flink", "spark") and (page := _page(kind, cluster)):
            found[page] = f"{kind.capitalize()}'s page"
        for record in self._store.all():
            if record.pipeline == pipeline and _same(record, stagers):
                for page in _pages(record):
                    found.setdefault(page, f"{record.engine.capitalize()}: job {record.id}")
        return [{"name": name, "url": page} for page, name in found.items()]


def _same(record: JobRecord, stagers: str) -> bool:
    try:
        return bool(set(split_addresses(record.stagers)) & set(split_addresses(stagers)))
    except HeadraceError:
        return False


def _pages(record: JobRecord) -> list[str]:
    if record.flink and record.rest:
        base = _page("flink", record.rest)
        return [f"{base}/#/job/running/{record.flink}/overview"] if base else []
    page = _page(record.engine, record.cluster)
    return [page] if page else []


def _page(kind: str, address: str) -> str:
    """Return the address of a cluster's page; Spark's is elsewhere than its master."""
    if address.startswith(("http://", "https://")):
        return address.rstrip("/")
    return f"http://{address}" if kind == "flink" and address and "://" not in address else ""
