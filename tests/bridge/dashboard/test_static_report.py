"""The report as one page: complete, harmless whatever a run is called, and asking nobody."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bridge.cli.main import main
from bridge.commands import Command
from bridge.dashboard.feed import open_feed
from bridge.dashboard.report.scales import decades, label, ticks
from bridge.dashboard.static_report import make_static_report
from bridge.staging import Stager
from tests.bridge.dashboard.feeding import Script, answer, decide, report, tell

HOSTILE = "</script><script>alert(1)</script>\u2028<img src=x onerror=alert(2)>"


class Reader(HTMLParser):
    """Gathers the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """The report of a run with hostile names."""
    with Stager() as stager:
        stager.start()
        script = Script(stager.address, "walker")
        script.put(50)
        angles = np.linspace(-3, 3, 100).reshape(50, 2)
        script.publish({"angles": angles, "rmsd": np.sin(np.arange(50.0)), "a<b": np.ones(50)})
        tell(script.client, "dropped", HOSTILE, level="warning")
        command = Command("restart", "walker", id="c/1", reason=HOSTILE, author=HOSTILE)
        decide(script.client, command, "sent", 1.0)
        answer(script.client, command, "applied", 2.0)
        report(script.client, {"walker": 50}, seconds={"angles": 0.5})
        with open_feed(address=stager.address) as feed:
            assert feed.wait_until_read(60.0)
            feed.about.resolved = {
                "configuration": {
                    "run": {"name": HOSTILE},
                    "pipeline": {"name": "test"},
                    "simulation": {"adapter": "openmm", "temperature": 300.0},
                    "report": {
                        "maps": [
                            {"name": "rama", "x": "angles[0]", "y": "angles[1]", "degrees": True,
                             "target_x": [0, 90], "title": HOSTILE, "labels": ["φ", "ψ"]},
                            {"name": "none", "x": "gone[0]", "y": "gone[1]"},
                        ]
                    },
                }
            }  # fmt: skip
            yield make_static_report(feed).decode()
        script.close()


def test_plots_and_tables_are_there(page: str) -> None:
    elements = Reader(page).found
    ids = {attributes.get("data-testid") for _, attributes in elements}
    assert {"plot-rmsd", "plot-angles[0]", "plot-a<b", "plot-rama"} <= ids
    assert {"report-ledger", "report-events", "report-simulations", "report-operators"} <= ids
    assert sum(tag == "polyline" for tag, _ in elements) == 4
    assert "free energy / kJ/mol" in page
    assert "Time / ps" in page
    assert "applied" in page


def test_names_stay_names(page: str) -> None:
    elements = Reader(page).found
    scripts = [a for tag, a in elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    assert not [tag for tag, _ in elements if tag in ("img", "link", "iframe", "object", "base")]
    assert not [a for _, a in elements if any(n.startswith("on") or n == "style" for n in a)]
    assert not [a for _, a in elements if {"src", "href"} & a.keys()]
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert data is not None
    numbers = json.loads(data[1])
    assert numbers["run"]["name"] == HOSTILE
    assert {s["column"] for s in numbers["series"]} >= {"rmsd", "a<b"}
    # Angles are stored in radians, and read in degrees.
    angle = next(s for s in numbers["series"] if s["column"] == "angles[0]")
    assert angle["unit"] == "°"
    assert np.allclose((min(angle["y"]), max(angle["y"])), np.degrees((-3, 3 - 6 / 99)))
    assert "angles[0] / °" in page


def test_the_policy_lets_its_own_script_run_and_nothing_else(page: str) -> None:
    policy = next(
        str(a["content"])
        for tag, a in Reader(page).found
        if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        text = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert len(text) == 1
        digest = base64.b64encode(hashlib.sha256(text[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_the_command_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "resolved.json").write_text(json.dumps({"configuration": {"run": {"name": "old"}}}))
    (run / "report.json").write_text(json.dumps({"outcome": "finished", "started": 1.0}))
    file = tmp_path / "page.html"
    assert main(["report", str(run), "--html", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == file.stat().st_size
    assert "There are no results." in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 10.0, [0, 2, 4, 6, 8, 10]), (-0.3, 0.3, [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]),
     (5.0, 5.0, [5.0])],
)  # fmt: skip
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert np.allclose(ticks(low, high), expected)


def test_other_numbers_of_axes() -> None:
    assert decades(1, 5000) == [1, 10, 100, 1000]
    assert decades(1, 20) == [1, 2, 5, 10, 20]
    assert [label(v) for v in (0.0, -1.5, 2e7, 1e-5)] == ["0", "−1.5", "2.0e7", "1.0e−5"]
