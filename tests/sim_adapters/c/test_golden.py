"""The C library writes and reads the bytes that `tests/golden/wire.json` pins."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bridge import Command
from bridge.codec import encode_state
from bridge.staging import messages as m

VECTORS: dict[str, str] = json.loads(
    (Path(__file__).parents[2] / "golden" / "wire.json").read_text(encoding="utf-8")
)
# What a simulation sends; encoded batches are made by engines alone.
SENT = sorted(
    name
    for name in VECTORS
    if name.startswith("chunk/")
    or name.partition("/")[2]
    in ("append", "bye", "commit", "commit_offsets", "fetch", "hello", "lease", "open_stream")
    or name in ("message/ping", "message/query_topics")
)


@pytest.fixture(scope="module")
def written(compile_c: Callable[[str], Path]) -> dict[str, str]:
    done = subprocess.run([compile_c("golden")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def read(compile_c: Callable[[str], Path]) -> Callable[[dict[str, bytes]], dict[str, str]]:
    def ask(data: dict[str, bytes]) -> dict[str, str]:
        lines = "".join(f"{name} {value.hex()}\n" for name, value in data.items())
        done = subprocess.run(
            [compile_c("golden"), "decode"], input=lines, capture_output=True, text=True,
            errors="replace", timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
        # Damaged text may hold line breaks.
        answers = [line.partition(" ") for line in done.stdout.split("\n")]
        return {name: said for name, _, said in answers if name in data}

    return ask


def test_nothing_more_and_nothing_less_is_written(written: dict[str, str]) -> None:
    assert sorted(written) == SENT


@pytest.mark.parametrize("name", SENT)
def test_what_is_written_is_what_was_pinned(name: str, written: dict[str, str]) -> None:
    assert written[name] == VECTORS[name]


def test_what_was_pinned_is_read(read: Callable[[dict[str, bytes]], dict[str, str]]) -> None:
    names = ("welcome", "opened", "leased", "ack", "appended", "fetched", "topics", "done")
    data = {n: bytes.fromhex(VECTORS[f"message/{n}"]) for n in (*names, "refused")}
    found = read({**data, "state": bytes.fromhex(VECTORS["state"])})
    assert found == {
        "welcome": "kind=1 request=1 time=0 instance 0.1.0 /dev/shm/probe nonce 0 0 0 0 0 0",
        "opened": "kind=2 request=2 time=12.5     3 17 99 500 2 0",
        "leased": "kind=3 request=3 time=0 /dev/shm/x/0000000007.segment    7 1048576 0 0 0 0",
        "ack": "kind=4 request=4 time=0     105 104 0 0 0 0",
        "appended": "kind=5 request=6 time=0     3 1 10 0 0 0",
        "fetched": "kind=6 request=5 time=0     12 0 0 0 0 0 [frames/w 9 0 9 0 35 1 positions <f8] "
        "[events 1 0 1 1 1 12]",
        "topics": "kind=7 request=8 time=0     0 0 0 0 0 0 [frames/w 0 9 g=4]",
        "done": "kind=8 request=7 time=0     0 0 0 0 0 0",
        "refused": "kind=9 request=4 time=0 StaleIncarnation A newer life took over.   0 0 0 0 0 0",
        "state": "mean <f8 0 1 2 plain=16",
    }


def test_states_and_commands_of_python_are_read(
    read: Callable[[dict[str, bytes]], dict[str, str]],
) -> None:
    state = {
        "x": np.array([[1.5, -2.0]], np.float32),
        "i": np.array([-1, 2], np.int16),
        "u": np.array([200], np.uint8),
        "z": np.array([1j]),
        "bad": np.array([np.nan]),
        "none": np.zeros((0, 3)),
    }
    command = Command("set", "w", "c-1", parameter="T", value=2.5, evidence={"rank": 3})
    whole = Command("set", "w", "c-2", parameter="T", value=7)
    found = read(
        {
            "state": encode_state(state),
            "command-a": msgspec.msgpack.encode(command),
            "command-b": msgspec.msgpack.encode(whole),
        }
    )
    assert found["state"] == (
        "x <f4 0 1.5 -2 i <i2 0 -1 2 u |u1 0 200 z <c16 -14 bad <f8 -14 none <f8 0 plain=0"
    )
    assert found["command-a"] == "c-1 set 2.5 0"
    assert found["command-b"] == "c-2 set 7 -14"


def test_damaged_bytes_are_refused_and_never_read_beyond(
    read: Callable[[dict[str, bytes]], dict[str, str]],
) -> None:
    """The program is built with the address sanitizer, and holds each message in exact memory."""
    chance = random.Random(7)
    whole = {n.replace("message/", ""): bytes.fromhex(v) for n, v in VECTORS.items() if "/" in n}
    whole["state"] = bytes.fromhex(VECTORS["state"])
    whole["command"] = msgspec.msgpack.encode(
        Command("set", "w", "c-1", parameter="T", value=2.5, evidence={"rank": [1, {"a": None}]})
    )
    damaged = {}
    for name, data in whole.items():
        if name.startswith(("frames", "block")):
            continue
        for i in range(len(data)):
            damaged[f"{name}-cut{i}"] = data[:i]
        for i in range(60):
            bad = bytearray(data)
            for _ in range(1 + i % 3):
                bad[chance.randrange(len(bad))] = chance.randrange(256)
            damaged[f"{name}-bad{i}"] = bytes(bad)
    found = read(damaged)
    assert len(found) == len(damaged)
    answered = ("ack", "appended", "fetched", "leased", "opened", "refused", "state", "welcome")
    for name, said in found.items():
        if name.startswith(tuple(f"{known}-cut" for known in answered)):
            assert said.startswith("error "), (name, said)
            assert said.endswith(".")


def test_another_version_is_told(read: Callable[[dict[str, bytes]], dict[str, str]]) -> None:
    data = bytearray(m.encode(m.Done(1)))
    data[2] = 9
    said = read({"done": bytes(data), "other": b"GET / HTTP/1.1"})
    assert "version 9" in said["done"]
    assert "not Headrace's protocol" in said["other"]
