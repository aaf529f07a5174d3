"""``link-imd`` and ``serve-imd`` as programs: one reads an engine, the other is read."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from bridge.staging import Stager, StagerClient
from bridge.transports.imd import EngineConnection
from tests.bridge.transports.imd.engine import DISCONNECT, Engine, frame_v3

ATOMS = 6
CLI = [sys.executable, "-m", "bridge.cli"]


@pytest.fixture
def stager() -> Iterator[Stager]:
    with Stager() as service:
        yield service.start()


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*CLI, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments], capture_output=True, text=True, timeout=100, check=False
    )


def test_an_engine_goes_in_and_comes_out_again(stager: Stager):
    x = np.random.default_rng(1).normal(size=(20, ATOMS, 3))
    engine = Engine(lambda e: e.send(b"".join(frame_v3(i, x[i]) for i in range(20))))
    done = run(
        "link-imd", f"imd://127.0.0.1:{engine.port}", "--stager", stager.address, "--simulation",
        "md", "--engine", "protocol", "--pull", "tip=0,2-4:-10:10", "--json",
    )  # fmt: skip
    engine.close()
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["frames"], facts["step"], facts["finished"]) == (20, 19, True)
    with StagerClient(stager.address) as client:
        offered = client.status("frames/md").capabilities
    assert {c.parameter for c in offered if c.kind == "set"} == {"tip.fx", "tip.fy", "tip.fz"}
    with running(
        "serve-imd", "md", "--stager", stager.address, "--every-frame", "--json"
    ) as server:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        assert (told["atoms"], told["version"]) == (ATOMS, 3)
        found = []
        with EngineConnection("127.0.0.1", told["port"]) as reader:
            while (frames := reader.read(60.0)) is not None:
                found.append(frames.vectors["positions"].copy())
        np.testing.assert_allclose(np.concatenate(found), x, rtol=1e-6, atol=1e-6)
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "1 readers took 20 frames and missed 0." in said


def test_an_engine_is_left_decently_on_a_signal(stager: Stager):
    def serve(engine: Engine) -> None:
        engine.send(frame_v3(0, np.zeros((ATOMS, 3))))
        engine.left.wait(60.0)

    engine = Engine(serve)
    with (
        running(
            "link-imd", f"127.0.0.1:{engine.port}", "--stager", stager.address, "--engine", "namd"
        ) as process,
        StagerClient(stager.address) as client,
    ):
        with client.fetch({"frames/imd": 0}, wait=60.0) as got:
            assert got.batches
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 130
        assert not client.status("frames/imd").finished
    engine.close()
    assert engine.received[-1][0] == DISCONNECT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("link-imd", "nowhere", "--engine", "namd"), "write HOST:PORT"),
        (("link-imd", "127.0.0.1:9"), "give --engine gromacs"),
        (("link-imd", "127.0.0.1:9", "--engine", "namd", "--box", "1,x"), "commas between"),
        (("link-imd", "127.0.0.1:9", "--engine", "namd", "--pull", "tip"), "NAME=ATOMS:MIN:MAX"),
        (("serve-imd", "md", "--unit", "nm"), "write it as positions=NAME"),
    ],
)
def test_wrong_usage(stager: Stager, arguments: tuple[str, ...], message: str):
    done = run(*arguments, "--stager", stager.address)
    assert done.returncode == 2
    assert message in done.stderr


def test_an_engine_that_is_not_there(stager: Stager):
    done = run(
        "link-imd", "127.0.0.1:9", "--engine", "namd", "--patience", "0.2", "--stager",
        stager.address,
    )  # fmt: skip
    assert done.returncode == 1
    assert "none listens there" in done.stderr
    done = run("serve-imd", "md", "--stager", stager.address, "--patience", "0.2")
    assert done.returncode == 1
    assert "it has not begun" in done.stderr
