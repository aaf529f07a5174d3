"""Times to the event: means, intervals, arms."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import chi2

from bridge.errors import ConfigError
from bridge.runs.comparison import compare_runs, exponential_interval, reference_arm
from bridge.runs.configuration import ReferenceTable


def report(total: float, event: float | None, control: str | None = None) -> dict[str, Any]:
    time = {"unit": "ps", "total": total, "to_event": event}
    return {"name": "test", "control": control, "simulated_time": time}


@pytest.mark.parametrize("events", [1, 2, 14, 400])
def test_the_interval_is_that_of_the_chi_square_distribution(events: int) -> None:
    low, high = exponential_interval(10.0, events)
    assert low == pytest.approx(20.0 / chi2.ppf(0.975, 2 * events + 2))
    assert high == pytest.approx(20.0 / chi2.ppf(0.025, 2 * events))


def test_without_an_event_there_is_no_upper_bound() -> None:
    low, high = exponential_interval(10.0, 0)
    assert low == pytest.approx(20.0 / chi2.ppf(0.975, 2))
    assert high is None


def test_the_figure_for_plain_md_comes_out_again() -> None:
    low, high = exponential_interval(81.8, 14)
    assert (low, high) == pytest.approx((3.5, 10.7), abs=0.03)


def test_runs_are_gathered_by_control_and_unfinished_ones_count_with_their_time() -> None:
    arms = compare_runs(
        [report(900, 800, "random"), report(300, 200), report(500, None), report(110, 100)], "ns"
    )
    assert [arm.name for arm in arms] == ["steered", "random"]
    steered = arms[0]
    assert steered.times == pytest.approx((0.2, 0.5, 0.1))
    assert steered.events == 2
    assert steered.mean == pytest.approx(0.4)


def test_units_that_cannot_be_compared_are_refused() -> None:
    other = report(1.0, 1.0)
    other["simulated_time"]["unit"] = "sweeps"
    with pytest.raises(ConfigError, match="The run 'test' cannot be compared"):
        compare_runs([report(1.0, 1.0), other])


def test_a_reference_is_turned_into_the_unit_of_the_runs() -> None:
    arm = reference_arm(ReferenceTable("plain", 5.8, low=3.5, unit="ns"), "ps")
    assert arm.mean == pytest.approx(5800)
    assert arm.low == pytest.approx(3500)
    assert arm.high is None
