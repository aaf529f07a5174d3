"""A trainer that is killed goes on, to the bit, in a process of its own under the local engine."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analytics.learning.registry import Registry
from bridge.engines import LocalEngine, LocalOptions
from bridge.engines.checkpoint import CheckpointStore
from bridge.engines.results import read_results
from bridge.pipeline import Pipeline
from bridge.staging import Stager, StagerClient
from bridge.testing.sources import END, PAUSE, ScriptedSource, make_frames
from tests.analytics.learning.tiny import TinyAutoencoder

FRAMES = 600
OPTIONS = LocalOptions(max_frames=16, checkpoint_every=0.02, status_every=0.05)


def make_pipeline(folder: Path) -> Pipeline:
    from analytics.learning.train import Train

    train = Train(
        kind=TinyAutoencoder.kind,
        input="x",
        registry=str(folder / "models"),
        buffer={"max_samples": 100},
        batch_size=8,
        updates_per_frame=0.3,
        start_after=40,
        held_out=0.25,
        held_out_block=12,
        candidate_every=10,
        gate={"min_frames": 4, "blocks": 2, "window": 20},
        watch_every=50,
        device="cpu",
        threads=1,
    )
    return Pipeline("training", [("train", train)])


def run_it(address: str, folder: Path) -> None:
    """Train until the stream has ended."""
    with StagerClient(address) as client:
        LocalEngine(
            make_pipeline(folder), client, checkpoint=folder / "checkpoint", options=OPTIONS
        ).run()


def start(address: str, folder: Path) -> subprocess.Popen[bytes]:
    code = (
        "import sys, pathlib; from tests.analytics.learning.test_continuation import run_it; "
        "run_it(sys.argv[1], pathlib.Path(sys.argv[2]))"
    )
    root = Path(__file__).parents[3]
    return subprocess.Popen([sys.executable, "-c", code, address, str(folder)], cwd=root)


def columns(client: StagerClient, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    out = {}
    for name in names:
        rows = read_results(client, "training", name)
        for key in ("loss", "score", "updates", "version"):
            out[f"{name} {key}"] = np.array(rows[key])
    return out


@pytest.mark.timeout(300)
def test_a_killed_trainer_goes_on_to_the_bit(tmp_path: Path) -> None:
    frames = make_frames("a", FRAMES, {"x": (6,)})
    found = []
    for kills in (0, 2):
        folder = tmp_path / str(kills)
        folder.mkdir()
        with Stager("tcp://127.0.0.1:0") as service:
            stager = service.start()
            cuts = [0, 200, 400, FRAMES]
            parts = [frames.take(slice(a, b)) for a, b in itertools.pairwise(cuts)]
            script = [parts[0], PAUSE, parts[1], PAUSE, parts[2], END]
            source = ScriptedSource("a", script, address=stager.address)
            source.start()
            with StagerClient(stager.address) as client:
                # The one that nobody kills runs here: another process starts with torch anew.
                process = start(stager.address, folder) if kills else None
                for stop in cuts[1:3]:
                    source.wait_until_paused()
                    if process is not None:
                        # Until it has told of a frame in this part, so that it is at work in it.
                        wait_for_results(client, stop - 150)
                        process.send_signal(signal.SIGKILL)
                        process.wait(100)
                        process = start(stager.address, folder)
                    source.resume()
                source.join()
                if process is None:
                    run_it(stager.address, folder)
                else:
                    assert process.wait(200) == 0
                found.append(columns(client, ("a",)))
        registry = Registry(folder / "models")
        history = registry.history("model")
        newest, _ = CheckpointStore(folder / "checkpoint", "training").load()
        assert newest is not None
        found.append({"served": np.array([entry.version for entry in history])})
        found.append({"state": np.frombuffer(newest.operators, np.uint8)})
    for whole, killed in zip(found[:3], found[3:], strict=True):
        assert whole.keys() == killed.keys()
        for key, value in whole.items():
            np.testing.assert_array_equal(value, killed[key], err_msg=key)
    assert found[0]["a updates"][-1] == int((FRAMES - 40) * 0.3)


def wait_for_results(client: StagerClient, wanted: int) -> None:
    position = 0
    while True:
        with client.fetch({"results/training/a": position}, wait=1.0) as fetched:
            position = fetched.positions.get("results/training/a", position)
        if client.watermark("results/training/a", "training/a") >= wanted:
            return
