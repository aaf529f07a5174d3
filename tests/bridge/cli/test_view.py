"""What is shown while a run lasts."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from bridge.cli.view import LiveView, PlainView, format_time
from bridge.commands import Acknowledgement, Command, Decision, Event
from bridge.engines.protocol import EngineStatistics
from bridge.runs.supervision import Supervisor
from bridge.runs.watch import SimulationState, Snapshot


def make_snapshot(count: int = 2) -> Snapshot:
    command = Command(
        "restart", "walker-0", id="p/restarts/walker-0@9#0", reason="It [bold]is rare."
    )
    other = Command("set", "walker-1", id="p/heat/walker-1@9#0", reason="Colder.")
    return Snapshot(
        tuple(
            SimulationState(
                f"walker-{i}", frames=100, step=2500, time=10.0, time_unit="ps", rate=50.0, lag=3,
                dropped=1, connected=i % 2 == 0,
            )
            for i in range(count)
        ),
        EngineStatistics("p", state="running", frames=194, quarantined=2, uptime=4.0),
        (Decision(command, "sent"), Decision(other, "refused", reason="Not allowed.")),
        {command.id: Acknowledgement(command.id, "walker-0", "applied", step=2475)},
        {"decided: sent": 1, "decided: refused": 1, "applied": 1},
        Event("target_reached", "phi was 60°."),
    )  # fmt: skip


def draw(snapshot: Snapshot, phase: str = "running") -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, height=60, color_system=None)
    supervisor = Supervisor(("walker-0", "walker-1"))
    supervisor.begin(0.0)
    supervisor.phase = phase  # type: ignore[assignment]
    with LiveView(console, "test [run]") as view:
        view.tell("Something went well.", "info")
        view.tell("Something went wrong.", "error")
        view.update(snapshot, supervisor, 12.3)
    return out.getvalue()


def test_the_live_view_shows_simulations_engine_decisions_and_target() -> None:
    text = draw(make_snapshot())
    for words in (
        "test [run]", "walker-0", "10 ps", "running  12.3 s", "away", "applied at 2475", "refused",
        "It [bold]is rare.", "quarantined 2", "phi was 60°.", "Something went well.",
        "Something went wrong.", "1 sent, 1 refused, 1 applied",
    ):  # fmt: skip
        assert words in text, words


def test_before_anything_is_known_it_says_so() -> None:
    text = draw(Snapshot(), "starting")
    assert "not heard of yet" in text
    assert "waiting up to 60 s for the stager to begin" in text


def test_many_simulations_are_summed_up() -> None:
    text = draw(make_snapshot(100))
    assert "84 more" in text
    assert "walker-16 " not in text


def test_without_a_terminal_there_are_plain_lines() -> None:
    out = io.StringIO()
    supervisor = Supervisor(("walker-0",), trainers=("trainer-net",))
    supervisor.begin(0.0)
    with PlainView(Console(file=out, width=80), every=5.0) as view:
        view.update(make_snapshot(), supervisor, 0.0)
        supervisor.ready("stager", 1.0)
        supervisor.ready("engine", 2.0)
        view.update(make_snapshot(), supervisor, 6.0)
        supervisor.phase = "running"
        view.update(make_snapshot(), supervisor, 7.0)
        view.update(make_snapshot(), supervisor, 12.0)
        view.tell("It broke.", "error")
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["0.0", "s", "starting"]
    assert lines[1].endswith("starting: waiting up to 60 s for trainer-net to begin")
    assert lines[2].split() == ["7.0", "s", "running"]
    assert "200 frames, 100/s, lag 6, 20 ps simulated, 1 command applied" in lines[3]
    assert lines[4:] == ["error: It broke."]


def test_events_that_matter_are_told_once() -> None:
    events = [
        Event("candidate", "A copy.", stamp=1.0),
        Event("promoted", "It scores -7.", simulation="walker-0", stamp=2.0),
        Event("engine_failed", "Told elsewhere.", level="error", stamp=3.0),
        Event("dropped", "One.", simulation="walker-0", level="warning", stamp=4.0),
        Event("dropped", "Two.", simulation="walker-0", level="warning", stamp=5.0),
        Event("dropped", "Three.", simulation="walker-1", level="warning", stamp=6.0),
    ]
    snapshot = replace(make_snapshot(), events=tuple(events))
    later = replace(snapshot, events=(*events[3:], Event("promoted", "Better.", stamp=7.0)))
    out = io.StringIO()
    supervisor = Supervisor(("walker-0",))
    supervisor.begin(0.0)
    with PlainView(Console(file=out, width=80), every=99.0) as view:
        for shown in (snapshot, snapshot, later):
            view.update(shown, supervisor, 1.0)
    assert [line for line in out.getvalue().splitlines() if ":" in line] == [
        "promoted: It scores -7.",
        "warning: dropped, walker-0: One.",
        "warning: dropped, walker-1: Three.",
        "promoted: Better.",
    ]
    text = draw(later)
    assert "events" in text
    assert "promoted: Better." in text


def test_times_are_shown_in_a_readable_unit() -> None:
    assert format_time(5800.0, "ps") == "5.8 ns"
    assert format_time(2.5, "") == "2.5"
