"""Gray-Scott's reaction on several ranks: the same field as on one, and steered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bridge import Acknowledgement, Command, FrameReference
from bridge.staging import Stager, StagerClient
from tests.sim_adapters.common import read_stream

pytest.importorskip("mpi4py", exc_type=ImportError)

from sim_adapters.mpi_launch import launch

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "gray_scott"
SIZE = 12


@pytest.fixture
def stager() -> Iterator[Stager]:
    with Stager("tcp://127.0.0.1:0") as service:
        yield service.start()


@pytest.fixture
def client(stager: Stager) -> Iterator[StagerClient]:
    with StagerClient(stager.address) as reader:
        yield reader


def simulate(stager: Stager, name: str, ranks: int, steps: int) -> None:
    command = [sys.executable, str(FOLDER / "gray_scott.py"), "--stager", stager.address]
    options = {"--name": name, "--size": SIZE, "--steps": steps, "--every": 10}
    command += [str(word) for pair in options.items() for word in pair]
    launch(ranks, command, what=name, environment={"PYTHONPATH": str(ROOT)}, limit=90.0)


def test_ranks_compute_what_one_alone_does(stager: Stager, client: StagerClient):
    for ranks in (1, 2, 3):
        simulate(stager, f"on-{ranks}", ranks, 101)
    alone = read_stream(client, "on-1")
    assert alone.steps.tolist() == list(range(1, 102, 10))
    assert np.ptp(alone["v"][0]) > 0.05
    for ranks in (2, 3):
        found = read_stream(client, f"on-{ranks}")
        assert np.array_equal(found.steps, alone.steps)
        for name in ("u", "v", "profile", "F"):
            assert np.array_equal(found[name], alone[name]), name
    halves = alone["v"][-1].reshape(SIZE, 2, SIZE // 2, 2, SIZE // 2).mean(axis=(2, 4))
    np.testing.assert_allclose(alone["profile"][-1], halves, rtol=1e-5)


def test_the_feed_rate_is_set_and_the_reaction_restarted(stager: Stager, client: StagerClient):
    simulate(stager, "before", 2, 20)
    for command in (
        Command("set", "gs", "feed", parameter="F", value=0.05, at_step=505),
        Command("set", "gs", "flood", parameter="F", value=5.0),
        Command("restart", "gs", "back", frame=FrameReference("before", 1), at_step=545),
        Command("stop", "gs", "end", at_step=566),
    ):
        client.append("commands/gs", [msgspec.msgpack.encode(command)])
    simulate(stager, "gs", 2, 3000)
    answers = [
        msgspec.msgpack.decode(r.data, type=Acknowledgement)
        for r in client.fetch({"acks/gs": 0}, wait=5.0).records
    ]
    reasons = {a.command: a.reason for a in answers}
    told = {a.command: (a.outcome, a.step) for a in answers}
    # At the first frame that is put after the commands have come.
    outcome, step = told.pop("flood")
    assert (outcome, step % 10) == ("refused", 1), reasons
    assert told == {
        "feed": ("applied", 505), "back": ("applied", 545), "end": ("applied", 566),
    }, reasons  # fmt: skip
    found = read_stream(client, "gs")
    assert found.steps.tolist() == list(range(1, 562, 10))
    assert found.epochs.tolist() == [0] * 55 + [1] * 2
    assert found["F"].tolist() == [0.03] * 51 + [0.05] * 6


def test_a_run_goes_through_feed_rates(tmp_path: Path):
    text = (FOLDER / "run.toml").read_text()
    for old, new in (
        ('"32"', '"8"'), ('"50"', '"10"'), ("tolerance = 0.01", "tolerance = 0.5"),
        ('"gray_scott.py"', json.dumps(str(FOLDER / "gray_scott.py"))),
        ("update_every = 50\nmin_frames = 50", "update_every = 10\nmin_frames = 10"),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "run.toml").write_text(text)
    (tmp_path / "policy.py").write_text((FOLDER / "policy.py").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "bridge.cli", "run", "run.toml", "--no-plots"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ledger = next((tmp_path / "runs").rglob("ledger.jsonl")).read_text().splitlines()
    lines = [json.loads(line) for line in ledger]
    assert [line["kind"] for line in lines] == ["set", "set", "set", "stop"]
    assert {line["outcome"] for line in lines} == {"applied"}
