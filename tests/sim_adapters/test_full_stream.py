"""A simulation that waits for room in a full stream hears that it is to stop."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.staging import Stager, StagerClient
from bridge.steering import Desk, read_ledger
from tests.sim_adapters.common import wait_until_full

ROOT = Path(__file__).parents[2]
WALKER = Path(__file__).with_name("full_walker.py")


@pytest.fixture(params=["one", "many"])
def walker(stager: Stager, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(WALKER), stager.address, request.param],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_a_stop_ends_the_wait_for_room(
    stager: Stager, client: StagerClient, walker: subprocess.Popen[str]
) -> None:
    wait_until_full(client, 20)
    with Desk(lambda: StagerClient(stager.address)) as desk:
        # The pause is taken in its turn, before the stop, though it cannot be answered earlier.
        desk.send("pause", "w", author="Ada", key="p")
        desk.all("stop", author="Ada", reason="Enough.", key="all")
    output, _ = walker.communicate(timeout=60)
    assert walker.returncode == 0
    told = json.loads(output)
    lines = {line.id: line for line in read_ledger(client)}
    stop = lines["manual/all/w"]
    assert (stop.outcome, stop.step) == ("applied", told["step"])
    assert lines["manual/p"].outcome == "applied"
    status = client.status("frames/w")
    assert status.finished
    assert status.dropped == told["dropped"] > 0
    assert status.end == told["frames"]
