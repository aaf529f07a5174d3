"""How much slower a dashboard goes beside a run that needs every processor."""

from __future__ import annotations

import os

import pytest

from bridge.dashboard.channels import CHANNELS, Options
from bridge.dashboard.hub import Hub
from bridge.dashboard.options import ServerOptions
from bridge.dashboard.pace import SLOWEST, Pace, read_machine
from bridge.dashboard.sockets import Subscription
from bridge.errors import ConfigError

CORES = 2


class Machine:
    """One whose time passes when told to; the dashboard takes as much as it shows."""

    def __init__(self, share: float = 0.01) -> None:
        self.idle = self.total = 0
        self.used = self.now = 0.0
        self.pace = Pace(
            share,
            machine=lambda: (self.idle, self.total),
            used=lambda: self.used,
            clock=lambda: self.now,
            processors=CORES,
        )

    def pass_second(self, *, idle: float, asked: float) -> float:
        """Let a second pass; `asked` is what the dashboard would take if it were not slowed."""
        taken = asked / self.pace.factor
        self.total += 100 * CORES
        self.idle += round(100 * CORES * idle)
        self.used += taken
        self.now += 1.0
        self.pace.look()
        return taken


def test_nothing_is_slowed_while_there_is_room():
    machine = Machine()
    for _ in range(20):
        assert machine.pass_second(idle=0.3, asked=0.9) == 0.9
    assert machine.pace.factor == 1.0


@pytest.mark.parametrize("asked", [0.021, 0.04, 0.1, 0.19])
def test_it_takes_its_share_of_a_machine_that_is_full_and_no_more(asked):
    machine = Machine()
    for _ in range(20):
        taken = machine.pass_second(idle=0.0, asked=asked)
    assert 0.016 <= taken <= 0.024  # 0.01 of two processors, in steps
    before = machine.pace.factor
    for _ in range(20):
        machine.pass_second(idle=0.0, asked=asked)
    assert machine.pace.factor == before


def test_little_is_never_slowed():
    machine = Machine()
    for _ in range(20):
        machine.pass_second(idle=0.0, asked=0.019)
    assert machine.pace.factor == 1.0


def test_a_page_still_gets_something_at_worst():
    machine = Machine(share=1e-6)
    for _ in range(50):
        machine.pass_second(idle=0.0, asked=0.5)
    assert machine.pace.factor == SLOWEST


def test_as_soon_as_there_is_room_it_is_as_quick_as_ever():
    machine = Machine()
    for _ in range(20):
        machine.pass_second(idle=0.0, asked=0.2)
    assert machine.pace.factor > 5
    for _ in range(3):
        machine.pass_second(idle=0.045, asked=0.2)
    assert machine.pace.factor > 5, "neither full nor free"
    seconds = 0
    while machine.pace.factor > 1:
        machine.pass_second(idle=0.2, asked=0.2)
        seconds += 1
    assert seconds <= 8


def test_no_limit_is_one():
    machine = Machine(share=1.0)
    for _ in range(20):
        machine.pass_second(idle=0.0, asked=1.9)
    assert machine.pace.factor == 1.0


def test_where_the_system_does_not_tell_nothing_is_slowed():
    pace = Pace(0.01, machine=lambda: None, used=lambda: 1e9, processors=CORES)
    assert not pace.look()
    assert pace.factor == 1.0


def test_the_machine_tells_of_the_processors_that_may_be_used():
    idle, total = read_machine()
    assert 0 <= idle <= total
    import psutil

    times = psutil.cpu_times(percpu=True)
    mine = [times[number] for number in os.sched_getaffinity(0)]
    # Guests are counted among users, and in psutil's by themselves, too.
    expected = sum(sum(t) - t.guest - t.guest_nice for t in mine) * os.sysconf("SC_CLK_TCK")
    assert total == pytest.approx(expected, rel=0.01, abs=5)
    assert idle == pytest.approx(
        sum(t.idle + t.iowait for t in mine) * os.sysconf("SC_CLK_TCK"), rel=0.01, abs=5
    )


def test_all_that_is_shown_goes_slower_on_one_beat():
    quick = Subscription(1, CHANNELS["points"], Options(), 0.1)
    rare = Subscription(2, CHANNELS["overview"], Options(), 0.5)
    for one in (quick, rare):
        one.sent_at = 10.03
    assert quick.due(10.03) == pytest.approx(10.1)
    assert quick.due(10.03, 2.5) == pytest.approx(10.25)
    assert rare.due(10.03, 2.5) == pytest.approx(11.25)


def test_the_hub_tells_the_reader_and_whoever_asks():
    class Feed:
        def __init__(self):
            self.told = []

        def listen(self, told):
            pass

        def watch(self, paces, slower=1.0):
            self.told.append((dict(paces), slower))

    machine = Machine()
    feed = Feed()
    hub = Hub(feed)
    hub._pace = machine.pace
    hub.watch("page", "points", 0.1)
    machine.total, machine.used, machine.now = 200, 0.9, 1.0
    hub.look()
    assert hub.slower == hub.statistics.slower == 1.5
    assert feed.told[-1] == ({"points": 0.1}, 1.5)
    hub.close()


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match="'share', is"):
        ServerOptions(token="0123456789abcdef", share=share)
