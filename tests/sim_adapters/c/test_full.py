"""What a C program's put does when the stream is full is what its policy says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge import Command
from bridge.staging import Stager, StagerClient
from bridge.steering import Desk, read_ledger
from tests.sim_adapters.c.common import Start
from tests.sim_adapters.common import wait_until, wait_until_full

SMALL = {"capacity": 2 << 20, "keep": 0, "rows": 5, "steps": 60_000}


def counts(out: str) -> dict[str, int]:
    words = out.splitlines()[-1].split()[2:]
    pairs = [w.partition("=") for w in words]
    return {k: int(v.partition("/")[0]) for k, _, v in pairs}


@pytest.mark.parametrize("mapped", ["yes", "no"])
@pytest.mark.parametrize("policy", ["drop_oldest", "latest"])
def test_old_frames_give_way(
    stager: Stager, client: StagerClient, simulate: Callable[..., str], policy: str, mapped: str
) -> None:
    out = simulate("w", stager=stager.address, when_full=policy, mapped=mapped, **SMALL)
    assert counts(out)["frames"] == counts(out)["acknowledged"] == 60_000
    status = client.status("frames/w")
    assert status.end == 60_000
    assert status.dropped == status.low > 0
    with client.fetch({"frames/w": status.low}) as got:
        assert got.batches[0].steps[0] == status.low
        assert got.batches[0]["x"][0, 0, 0] == status.low


@pytest.mark.parametrize("mapped", ["yes", "no"])
def test_new_frames_are_given_up_and_counted(
    stager: Stager, client: StagerClient, simulate: Callable[..., str], mapped: str
) -> None:
    out = simulate("w", stager=stager.address, when_full="drop_newest", mapped=mapped, **SMALL)
    told = counts(out)
    status = client.status("frames/w")
    assert status.low == 0
    assert status.end + status.dropped == 60_000
    assert status.dropped > 0
    if mapped == "yes":
        assert told["frames"] + told["dropped"] == 60_000
        assert (status.end, status.dropped) == (told["frames"], told["dropped"])


@pytest.mark.parametrize("mapped", ["yes", "no"])
def test_block_waits_and_then_says_for_what(
    stager: Stager, client: StagerClient, start: Start, mapped: str
) -> None:
    process = start("w", stager=stager.address, mapped=mapped, patience=0.5, timeout=30, **SMALL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err.startswith("put: -5 Waited 0.5 s for room in the stream of 'w'"), err
    assert "Start or speed up a consumer" in err


@pytest.mark.parametrize("mapped", ["yes", "no"])
def test_block_goes_on_when_a_consumer_reads(
    stager: Stager, client: StagerClient, start: Start, mapped: str
) -> None:
    process = start("w", stager=stager.address, mapped=mapped, patience=60, **SMALL)
    wait_until(lambda: bool(client.topics("frames/w")), "the stream")
    topic, position, seen = "frames/w", 0, 0
    while True:
        with client.fetch({topic: position}, group="g", commit={topic: position}, wait=60.0) as got:
            for batch in got.batches:
                assert batch.steps[0] == seen
                seen += len(batch)
            position = got.positions.get(topic, position)
            if topic in got.finished:
                break
            assert got
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert seen == counts(out)["frames"] == counts(out)["acknowledged"] == 60_000


@pytest.mark.parametrize("mapped", ["yes", "no"])
def test_a_stop_ends_the_wait_for_room(
    stager: Stager, client: StagerClient, start: Start, mapped: str
) -> None:
    options = SMALL | {"rows": 1000, "timeout": 2}
    process = start("w", stager=stager.address, mapped=mapped, until_stopped=1, **options)
    wait_until_full(client, 20)
    with Desk(lambda: StagerClient(stager.address)) as desk:
        desk.send("pause", "w", author="Ada", key="p")
        [told] = desk.all("stop", author="Ada", key="all")
    assert told["verdict"] == "sent"
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    lines = {line.id: line for line in read_ledger(client)}
    assert {line.outcome for line in lines.values()} == {"applied"}
    status = client.status("frames/w")
    assert status.finished
    assert status.dropped == counts(out)["dropped"] > 0
    assert lines["manual/all/w"].step == status.end + status.dropped - 1


def test_a_command_taken_in_by_a_put_that_waits_is_told_by_hr_wait(
    stager: Stager, client: StagerClient, start: Start, send: Callable[[Command], None]
) -> None:
    options = SMALL | {"rows": 1000, "wait": 1, "until_stopped": 1}
    process = start("w", stager=stager.address, **options)
    wait_until_full(client, 20)
    send(Command("set", "w", "f", parameter="F", value=0.5))
    send(Command("interval", "w", "every", value=1))
    # The waiting put answers the later of the two: it has taken the earlier one in.
    wait_until(lambda: "every" in {line.id for line in read_ledger(client)}, "the ledger")
    wait_until(lambda: outcomes(client)["every"] == "applied", "the put's answer")
    full = client.status("frames/w").end
    with Desk(lambda: StagerClient(stager.address)) as desk:
        [told] = desk.all("stop", author="Ada", key="all")
        assert told["verdict"] == "sent"
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    waits = [int(line.split()[1]) for line in out.splitlines() if line.startswith("wait ")]
    assert full <= waits[0]
    assert outcomes(client)["f"] == "applied"


def outcomes(client: StagerClient) -> dict[str, str | None]:
    return {line.id: line.outcome for line in read_ledger(client)}
