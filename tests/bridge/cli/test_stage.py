"""``headrace stage`` as a process, and who comes to it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from bridge.schema import StreamSchema
from bridge.staging import Producer, StagerClient
from bridge.staging.rendezvous import resolve
from tests.bridge.runs.commands import finish, headrace, headrace_json, start


def test_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    process = start("stage", "--json", "--run-directory", tmp_path)
    assert process.stdout is not None
    facts = json.loads(process.stdout.readline())
    address = resolve(None, tmp_path, timeout=30.0, environment={})
    assert facts == {**facts, "address": address, "durable": False, "encrypted": False}
    schema = StreamSchema.from_arrays({"x": np.zeros(3)})
    with Producer("melt", schema, address=address) as producer:
        producer.put(0, 0.0, {"x": np.ones(3)})
        producer.flush(10.0)
        found = headrace_json("inspect", tmp_path)
        assert {t["name"]: t["end"] for t in found["topics"]}["frames/melt"] == 1
        assert headrace_json("inspect", address)["decisions"] == []
        assert "frames/melt" in headrace("inspect", address)[1]
    process.send_signal(signal.SIGINT)
    code, _, errors = finish(process)
    assert (code, "The stager has ended." in errors) == (0, True)
    assert not (tmp_path / "stager.json").exists()


def test_what_is_durable_is_there_again(tmp_path: Path) -> None:
    arguments = ("stage", "--json", "--durable", "--directory", tmp_path / "topics")
    for wanted in (0, 1):
        process = start(*arguments)
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        with StagerClient(address) as client:
            assert sum(t.end for t in client.topics("notes")) == wanted
            client.append("notes", [b"one"])
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 0


def test_a_trajectory_is_streamed_to_it(tmp_path: Path) -> None:
    pytest.importorskip("MDAnalysis")
    data = pytest.importorskip("MDAnalysisTests.datafiles")
    process = start("stage", "--json", "--run-directory", tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    said = headrace_json(
        "replay", data.PSF, data.DCD, "--run-directory", tmp_path, "--name", "adk",
        "--select", "name CA", "--every", "2",
    )  # fmt: skip
    assert (said["frames"], said["finished"], said["dropped"]) == (49, True, 0)
    # The same again is a mistake, unless it is meant.
    again = ("replay", data.PSF, data.DCD, "--run-directory", tmp_path, "--name", "adk",
             "--select", "name CA", "--every", "2")  # fmt: skip
    code, _, errors = headrace(*again)
    assert (code, "holds 49 frames of an earlier run" in errors) == (1, True)
    assert headrace(*again, "--again")[0] == 0
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 0


def test_nobody_listening_is_told(tmp_path: Path) -> None:
    pytest.importorskip("MDAnalysis")
    data = pytest.importorskip("MDAnalysisTests.datafiles")
    code, _, errors = headrace("replay", data.PSF, data.DCD, "--address", "tcp://127.0.0.1:9")
    assert code == 1
    assert "nobody answered" in errors
