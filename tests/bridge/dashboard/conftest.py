"""One stager with two simulations, and one server of it, for all tests of the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.commands import Command
from bridge.dashboard.feed import Feed
from bridge.staging import Stager
from tests.bridge.dashboard.feeding import Script, decide, report, tell, wait_for
from tests.bridge.dashboard.serving import Served, results
from tests.open_ends import lasting

HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture(scope="session")
def live() -> Iterator[tuple[Stager, Script]]:
    """A stager, and the first of two simulations."""
    with Stager() as stager:
        stager.start()
        lasting.add(stager.address)
        a, b = Script(stager.address, "a"), Script(stager.address, "b")
        for script in (a, b):
            script.put(30)
            script.publish(results(30))
        tell(a.client, "gap", HOSTILE, level="error", simulation="a")
        decide(a.client, Command("pause", "a", id="p/1", reason=HOSTILE), "sent", 1.0)
        report(a.client, {"a": 30, "b": 5}, lag=25)
        yield stager, a
        for script in (a, b):
            script.close()


@pytest.fixture(scope="session")
def served(live: tuple[Stager, Script]) -> Iterator[Served]:
    """A dashboard of it, that has read everything."""
    with Served(live[0].address) as server:
        assert server.feed.wait_until_read(60.0)
        wait_for(lambda: _has_read(server.feed))
        yield server


def _has_read(feed: Feed) -> bool:
    rows = feed.overview()["simulations"]
    lines = feed.ledger()["lines"]
    return len(rows) == 2 and len(lines) == 1 and feed.events()["last"] >= 1
