"""A standalone cluster, its command line, and jobs whose processes are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bridge.commands import ApprovalWord, Decision
from bridge.engines.job import Job
from bridge.engines.results import read_results
from bridge.errors import ConfigError
from bridge.jobs.clusters import LocalCluster
from bridge.staging import Stager, StagerClient
from bridge.steering import GuardMaker, read_ledger
from tests.bridge.engines.archived import make_archive
from tests.bridge.engines.common import (
    check_commands,
    check_results,
    check_words,
    make_streams,
    play,
    read,
    read_events,
    say,
)
from tests.bridge.engines.mortal import TUNABLE, check_answers
from tests.bridge.engines.pipelines import EachTenth, make_pipeline
from tests.bridge.engines.trickle import Trickle
from tests.flink.test_engine import QUICK, Watched

PIPELINE = """
[pipeline]
name = "means"
[[pipeline.operators]]
use = "moments"
input = "x"
[[pipeline.operators]]
name = "place"
use = "tests.bridge.engines.pipelines:Place"
[[pipeline.operators]]
name = "tenth"
use = "tests.bridge.engines.pipelines:EachTenth"
[steering]
approval = ["set"]
[engine]
save_every = 0.3
checkpoint_every = 0.5
status_every = 0.3
"""


def headrace(state: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "bridge.cli", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "HEADRACE_STATE": str(state), "PYTHONPATH": "."},
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_a_port_in_use_is_told(cluster: LocalCluster, tmp_path: Path) -> None:
    port = int(cluster.address.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"Port {port} .* cannot be had"):
        LocalCluster("flink", workers=1, slots=1, directory=tmp_path, port=port)


def left_of(group: int) -> list[psutil.Process]:
    """Return the processes of a group that have not ended."""
    out = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                out.append(process)
    return out


def test_killed_task_managers(
    cluster: LocalCluster, stager: Stager, reader: StagerClient, tmp_path: Path
) -> None:
    streams = make_streams(3000)
    job = Job(
        make_pipeline(("tenth", EachTenth())),
        stager.address,
        options=QUICK,
        guard=GuardMaker(),
        expected=tuple(streams),
    )
    watched = Watched(job, cluster=cluster.address, checkpoint=tmp_path)
    watched.wait_for(lambda s: True)
    trickle = Trickle(stager.address, streams, capabilities=TUNABLE, time_limit=250.0)
    watched.wait_for(lambda s: s.frames >= 100 and s.checkpoints >= 1)
    killed = cluster.pid("worker-0")
    os.kill(killed, signal.SIGKILL)
    watched.wait_for(lambda s: bool(read_events(reader, "resumed")))
    # Nor does anything of it last.
    assert not left_of(killed)
    trickle.finish()
    assert watched.join().frames == 9000
    assert check_results(reader, streams) == 9000
    check_commands(reader, streams, every=10, frames=9000)
    assert check_answers(reader, streams) > 5
    assert read_events(reader, "resumed")[0].data["downtime"] > 0


def test_submit_look_cancel_and_go_on(
    cluster: LocalCluster, stager: Stager, reader: StagerClient, tmp_path: Path
) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(PIPELINE)
    streams = make_streams(2000, names=("a", "b"))
    submit = ("submit", str(path), "--engine", "flink", "--cluster", cluster.address)
    where = ("--stager", stager.address, "--checkpoint", str(tmp_path / "checkpoints"))
    record = headrace(tmp_path, *submit, *where)
    deadline = time.monotonic() + 120
    trickle = None
    words: dict[str, ApprovalWord] = {}
    while True:
        [view] = headrace(tmp_path, "jobs", record["id"])
        told = view.get("statistics")
        if told and trickle is None:
            trickle = Trickle(stager.address, streams, capabilities=TUNABLE)
        if told and told.get("frames", 0) >= 50 and told.get("checkpoints", 0) >= 1:
            break
        assert time.monotonic() < deadline, view
    assert view["state"] == "running"
    assert set(told["simulations"]) == set(streams)
    # People are asked, and heard by the job itself, in whichever of its lives; nobody else looks.
    asked = [d.command.id for d in read(reader, "decisions", Decision)]
    words |= {asked[0]: "approve", asked[1]: "deny", asked[2]: "approve"}
    for name, word in words.items():
        say(reader, name, word)
    ended = headrace(tmp_path, "cancel", record["id"], "--savepoint")
    assert ended["savepoint"]
    assert any("job manager" in name for name in headrace(tmp_path, "logs", record["id"]))
    assert trickle is not None
    again = headrace(tmp_path, *submit, *where, "--savepoint", ended["savepoint"])
    while not all(line.outcome for line in read_ledger(reader) if words.get(line.id) == "approve"):
        assert time.monotonic() < deadline + 100
        time.sleep(0.1)
    trickle.finish()
    while headrace(tmp_path, "jobs", again["id"])[0]["state"] != "finished":
        assert time.monotonic() < deadline + 100
    check_words(reader, words)
    topics = {t.name: t for t in reader.topics("results/means/")}
    assert {t.writers[f"means/{t.name[-1]}"] for t in topics.values()} == {2000}


def test_workers_run_in_an_archived_environment(
    cluster: LocalCluster, stager: Stager, reader: StagerClient, tmp_path: Path
) -> None:
    play(stager.address, make_streams(50, names=("a",)))
    pipeline = "tests.bridge.engines.archived:make_pipeline"
    where = ("--cluster", cluster.address, "--stager", stager.address, "--attach")
    archive = ("--python-archive", str(make_archive(tmp_path)))
    headrace(tmp_path, "submit", pipeline, "--engine", "flink", *where, *archive)
    results = read_results(reader, "archived", "a")
    assert results is not None
    assert results["archived"].tolist() == [True] * 50
