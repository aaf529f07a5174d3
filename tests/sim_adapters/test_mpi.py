"""Ranks under mpiexec: blocks become frames, commands are applied by all ranks or by none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bridge import Command, Event
from bridge.codec import encode_state
from bridge.errors import MemberFailed
from bridge.staging import Stager, StagerClient
from bridge.steering import Desk, read_ledger
from tests.sim_adapters.common import read_stream, wait_until, wait_until_full

pytest.importorskip("mpi4py", exc_type=ImportError)

from sim_adapters.mpi_launch import find_mpiexec, launch
from tests.sim_adapters.mpi_ranks import N, where

ROOT = Path(__file__).parents[2]
RANKS = Path(__file__).with_name("mpi_ranks.py")
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def run(stager: Stager) -> Callable[..., list[dict[str, Any]]]:
    def start(scenario: str, ranks: int) -> list[dict[str, Any]]:
        command = [sys.executable, str(RANKS), scenario, stager.address]
        lines = launch(ranks, command, what=scenario, environment=ENVIRONMENT, limit=90.0)
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return sorted(told, key=lambda t: t["rank"])

    return start


def events(client: StagerClient) -> list[Event]:
    found = client.fetch({"events": 0}, wait=5.0).records
    return [msgspec.msgpack.decode(r.data, type=Event) for r in found]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_blocks_of_migrating_particles_become_frames_in_the_order_of_ids(
    client: StagerClient, run: Callable[..., Any], ranks: int
):
    told = run("migrate", ranks)
    assert [t["frames"] for t in told] == [30] * ranks
    found = read_stream(client, "w")
    assert found.steps.tolist() == list(range(1, 61, 2))
    assert found.times.tolist() == [s * 0.5 for s in found.steps]
    for step, x, box, energy in zip(
        found.steps, found["x"], found["box"], found["energy"], strict=True
    ):
        assert np.array_equal(x, where(step))
        assert (box == step).all()
        assert energy == step
    schema = client.schema("w")
    assert (schema.n_ranks, schema.time_unit, schema.variable("x").unit) == (ranks, "ps", "nm")
    assert [v.name for v in schema.variables if v.decomposed] == ["x"]


def test_contiguous_blocks_need_no_ids(client: StagerClient, run: Callable[..., Any]):
    assert [t["rows"] for t in run("field", 3)] == [18] * 3
    found = read_stream(client, "w")
    owner = np.repeat([0.0, 1.0, 2.0], [5, 6, 7])
    for step, u in zip(found.steps, found["u"], strict=True):
        assert np.array_equal(u, np.broadcast_to((owner + step)[:, None], (18, 4)))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_commands_are_applied_by_all_ranks_at_one_step_or_by_none(
    client: StagerClient, send, answers, run: Callable[..., Any], ranks: int
):
    state = np.arange(3.0 * N).reshape(N, 3)
    for command in (
        Command("set", "w", "push", parameter="force", value=2.0),
        Command("set", "w", "hard", parameter="force", value=20.0),
        Command("set", "w", "odd", parameter="pressure", value=1.0),
        Command("set", "w", "weak", parameter="field", value=3.0, at_step=7),
        Command("set", "w", "strong", parameter="field", value=7.0),
        Command("restart", "w", "again", state=encode_state({"x": state}), at_step=12),
        Command("restart", "w", "bad", state=encode_state({"x": state[:5]})),
        Command("interval", "w", "slow", value=4.0, at_step=20),
        Command("pause", "w", "halt", at_step=30),
        Command("resume", "w", "go", at_step=30),
        Command("stop", "w", "end", at_step=41),
    ):
        send(command)
    told = run("steer", ranks)
    assert told[0] == {
        "rank": 0, "force": [[2.0, 1], [3.0, 7]], "placed": [["again", state.sum(), 12]],
        "last": 41, "every": 4, "epoch": 1,
    }  # fmt: skip
    assert all({**t, "rank": 0} == told[0] for t in told)
    said = answers("w")
    assert {k: (a.outcome, a.step) for k, a in said.items()} == {
        "push": ("applied", 1), "hard": ("refused", 1), "odd": ("refused", 1),
        "weak": ("applied", 7), "strong": ("refused", 1), "again": ("applied", 12),
        "bad": ("refused", 1), "slow": ("applied", 20), "halt": ("applied", 30),
        "go": ("applied", 30), "end": ("applied", 41),
    }  # fmt: skip
    assert "too much for this rank" in said["strong"].reason
    assert said["strong"].reason.startswith(f"Rank {ranks - 1} refuses" if ranks > 1 else "A field")
    found = read_stream(client, "w")
    assert found.steps.tolist() == [*range(1, 21), *range(24, 41, 4)]
    assert found.epochs.tolist() == [0] * 12 + [1] * (len(found) - 12)


def test_a_function_that_fails_on_one_rank_ends_all(
    client: StagerClient, send, answers, run: Callable[..., Any]
):
    send(Command("set", "w", "oops", parameter="broken", value=1.0))
    with pytest.raises(MemberFailed) as failure:
        run("steer", 2)
    assert "ValueError: Nobody expected this" in str(failure.value)
    assert "Rank 1 of 'w' failed to apply 'oops' at step 1" in str(failure.value)
    assert answers("w")["oops"].outcome == "refused"
    assert "failed" in {e.kind for e in events(client)}


def test_a_rank_that_does_not_come_is_named(client: StagerClient, run: Callable[..., Any]):
    with pytest.raises(MemberFailed, match=r"waited 0.5 s at step 5 .* rank 0 is still at step 5"):
        run("missing", 2)
    (event,) = [e for e in events(client) if e.kind == "rank_missing"]
    assert event.level == "error"
    assert not client.status("frames/w").finished


@pytest.mark.parametrize(("scenario", "rank"), [("raising", 2), ("raising_alone", 0)])
def test_a_rank_that_raises_ends_the_run_with_a_sentence_on_all(
    client: StagerClient, run: Callable[..., Any], scenario: str, rank: int
):
    with pytest.raises(MemberFailed) as failure:
        run(scenario, 3)
    sentence = f"Rank {rank} of 'w' failed after step 5: ValueError: The pressure is negative."
    assert str(failure.value).count(sentence) == 2
    assert sentence in [e.message for e in events(client)]
    assert not client.status("frames/w").finished


def test_wrong_ids_are_told_where_they_are_put(run: Callable[..., Any]):
    with pytest.raises(MemberFailed, match="has rows from 1000 to 1499; the rows of a frame count"):
        run("wrong_ids", 2)


def test_a_killed_rank_ends_the_run_and_the_next_life_goes_on(
    client: StagerClient, run: Callable[..., Any]
):
    with pytest.raises(MemberFailed, match="A rank of killed was ended by SIGKILL"):
        run("killed", 3)
    before = client.status("frames/w")
    assert not before.finished
    assert before.last_step >= 19
    told = run("migrate", 3)
    assert {t["life"] for t in told} == {2}
    found = read_stream(client, "w")
    assert found.epochs[-1] == 1
    assert found.steps[-1] == 60
    assert all(np.array_equal(found["x"][i], where(s)) for i, s in enumerate(found.steps))


@pytest.fixture
def parent(stager: Stager) -> Iterator[subprocess.Popen[bytes]]:
    code = (
        "import sys; from sim_adapters.mpi_launch import launch; launch(2, sys.argv[1:], what='w')"
    )
    command = [sys.executable, "-c", code, sys.executable, str(RANKS), "orphaned", stager.address]
    process = subprocess.Popen(
        command, env={**os.environ, **ENVIRONMENT}, stdin=subprocess.DEVNULL, cwd=ROOT
    )
    yield process
    process.kill()
    process.wait()


def test_ranks_end_with_the_process_that_started_them(parent: subprocess.Popen[bytes]):
    psutil = pytest.importorskip("psutil")
    mine = psutil.Process(parent.pid)

    def ranks() -> list[Any]:
        return [p for p in mine.children(recursive=True) if "orphaned" in p.cmdline()[2:3]]

    wait_until(lambda: len(ranks()) == 2 and all(p.num_threads() > 1 for p in ranks()), "ranks")
    started = ranks()
    parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(p.is_running() for p in started), "the ranks' end")


def test_ranks_that_take_too_long_are_ended():
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(MemberFailed, match=r"longer than 0\.3 s"):
        launch(2, command, what="sleepers", limit=0.3)
    assert Path(find_mpiexec()).exists()


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_stop_ends_the_wait_of_all_ranks_for_room(
    stager: Stager, client: StagerClient, run: Callable[..., Any], ranks: int
):
    told: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: told.extend(run("full", ranks)), daemon=True)
    thread.start()
    # Nobody reads; the stream does not grow any more once it is full.
    wait_until_full(client, 10)
    with Desk(lambda: StagerClient(stager.address)) as desk:
        [stop] = desk.all("stop", author="Ada", key="all")
    assert stop["verdict"] == "sent"
    thread.join(100)
    assert [t["rank"] for t in told] == list(range(ranks))
    [line] = read_ledger(client)
    assert (line.outcome, {line.step}) == ("applied", {t["step"] for t in told})
    status = client.status("frames/w")
    assert status.finished
    assert status.dropped >= 1
    assert status.end + status.dropped == line.step
