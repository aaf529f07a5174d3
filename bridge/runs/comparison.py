"""Runs against each other: the simulated time to the event, with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from bridge.errors import ConfigError
from bridge.runs.configuration import ReferenceTable
from bridge.runs.quantities import convert_time

__all__ = ["Arm", "compare_runs", "exponential_interval", "reference_arm"]


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of one kind: steered, or of one control.

    Attributes
    ----------
    name
        ``steered``, or the control.
    unit
        Unit of all times.
    times
        Simulated time of each run, over all its members, to the event or to its end.
    reached
        Whether the event came, for each run.
    mean
        Total time of all runs by the number of events; None without an event.
    low, high
        95 % confidence interval of the mean (`exponential_interval`); None where unbounded.
    source
        Where a figure that was measured elsewhere is from.
    """

    name: str
    unit: str = ""
    times: tuple[float, ...] = ()
    reached: tuple[bool, ...] = ()
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    source: str = ""

    @property
    def events(self) -> int:
        """How often the event came."""
        return sum(self.reached)


def _poisson_tail(events: int, mean: float) -> float:
    """Return the probability of fewer than `events` where `mean` are expected."""
    logs = (i * math.log(mean) - math.lgamma(i + 1) - mean for i in range(events))
    return math.fsum(math.exp(value) for value in logs)


def _expected(events: int, probability: float) -> float:
    """Return for which mean fewer than `events` come with that probability; by bisection."""
    low, high = 1e-9, 10.0 * events + 50.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        if _poisson_tail(events, middle) > probability:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def exponential_interval(total: float, events: int) -> tuple[float, float | None]:
    """Return the 95 % confidence interval of a mean waiting time.

    Waiting times are taken as exponential; runs that ended before the event count with their
    time. Then the number of events in the `total` time is Poisson distributed, and the interval
    is Garwood's, Biometrika 28, 437 (1936), doi:10.1093/biomet/28.3-4.437.

    Returns
    -------
    low, high
        `high` is None without an event: then there is no upper bound.
    """
    low = total / _expected(events + 1, 0.025)
    return low, total / _expected(events, 0.975) if events else None


def compare_runs(reports: Sequence[dict[str, Any]], unit: str = "") -> list[Arm]:
    """Gather reports into arms, the steered runs first.

    Parameters
    ----------
    reports
        What ``report.json`` holds, one each.
    unit
        Unit of the times; that of the first run by default.

    Raises
    ------
    ConfigError
        If their times have units that have nothing to do with each other.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for report in reports:
        groups.setdefault(report["control"] or "steered", []).append(report)
    unit = unit or next((r["simulated_time"]["unit"] for r in reports), "")
    names = sorted(groups, key=lambda name: (name != "steered", name))
    return [_arm(name, groups[name], unit) for name in names]


def _arm(name: str, reports: Sequence[dict[str, Any]], unit: str) -> Arm:
    times, reached = [], []
    for report in reports:
        time = report["simulated_time"]
        came = time["to_event"] is not None
        try:
            times.append(
                convert_time(time["to_event"] if came else time["total"], time["unit"], unit)
            )
        except ConfigError as error:
            raise ConfigError(f"The run {report['name']!r} cannot be compared: {error}") from error
        reached.append(came)
    events = sum(reached)
    low, high = exponential_interval(sum(times), events)
    return Arm(
        name=name,
        unit=unit,
        times=tuple(times),
        reached=tuple(reached),
        mean=sum(times) / events if events else None,
        low=low,
        high=high,
    )


def reference_arm(reference: ReferenceTable, unit: str) -> Arm:
    """Return a figure that was measured elsewhere, in the unit of the runs."""

    def convert(value: float | None) -> float | None:
        return None if value is None else convert_time(value, reference.unit, unit)

    return Arm(
        name=reference.name,
        unit=unit,
        mean=convert(reference.value),
        low=convert(reference.low),
        high=convert(reference.high),
        source=reference.source,
    )
