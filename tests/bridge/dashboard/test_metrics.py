"""Figures in the format of Prometheus."""

from __future__ import annotations

import re
from typing import Any

from bridge.dashboard.hub import HubStatistics
from bridge.dashboard.metrics import write_metrics
from tests.bridge.dashboard.feeding import wait_for
from tests.bridge.dashboard.serving import Served

LINE = re.compile(
    r'[a-z_][a-z0-9_]*(\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)+\})? -?[0-9.]+(e[-+]?[0-9]+)?'
)


class Hostile:
    """A feed with names that would break the format."""

    def overview(self) -> dict[str, Any]:
        row = {"name": 'a"\\\n} 1', "rate": float("inf"), "lag": 3, "dropped_by": {"full": 2}}
        return {"simulations": [row, {"name": "b", "rate": None}], "alarms": []}

    def pipeline(self) -> dict[str, Any]:
        return {"engine": None}


def check(text: str) -> dict[str, str]:
    """Check every line; return the samples."""
    samples: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            assert LINE.fullmatch(line), line
            name, value = line.rsplit(" ", 1)
            assert name not in samples
            samples[name] = value
    return samples


def test_a_run_in_figures(served: Served) -> None:
    def figures() -> dict[str, str]:
        with served.client() as client:
            answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return check(answer.text)

    found = wait_for(
        lambda: ((f := figures()).get('headrace_lag{simulation="b"}') == "25" and f) or None
    )
    assert int(found['headrace_frames_total{simulation="a"}']) >= 30
    engine = '{pipeline="test",engine="local"}'
    assert found[f"headrace_engine_latency_seconds{engine}"] == "0.02"
    operator = '{pipeline="test",engine="local",operator="tica"}'
    assert found[f"headrace_operator_seconds_total{operator}"] == "2"
    assert found[f"headrace_operator_state_bytes{operator}"] == "1200"
    assert "headrace_dashboard_clients" in found
    assert "headrace_dashboard_skipped_total" in found
    assert found['headrace_alarms{rule="lag_above",level="warning"}'] >= "1"


def test_names_are_escaped_and_what_is_not_finite_is_left_out() -> None:
    found = check(write_metrics(Hostile(), HubStatistics()))
    assert found['headrace_lag{simulation="a\\"\\\\\\n} 1"}'] == "3"
    assert not [name for name in found if name.startswith("headrace_rate")]
