"""Whatever a C program does wrong gives a code and a sentence, and never a crash."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bridge import Command
from bridge.staging import Stager, StagerClient

FINE = {
    "new", "declare", "bad-address", "odd-address", "open", "every-late", "put", "applied", "close",
    "close-twice", "array",
}  # fmt: skip
SAID = [
    ("bad-name", -1, "'a b' is not a valid name"),
    ("bad-dtype", -1, "'>f8' cannot be sent"),
    ("huge", -3, "larger than the limit"),
    ("open-nobody", -7, "nobody answered"),
    ("open-no-file", -7, "stager.json"),
    ("open-nowhere", -6, "HEADRACE_STAGER"),
    ("open-bad-address", -6, "tcp://host:port"),
    ("open-no-keys", -6, "client.key"),
    ("missing", -3, "lacks the variable 'x', of 48 bytes"),
    ("short", -3, "has 47 bytes; the stream declares 48"),
    ("stale-value", -3, "lacks the variable 'x'"),
    ("same-step", -4, "Step 0 of 'w' came twice"),
    ("block-ids", -3, "has the id 7"),
    ("applied-twice", -14, "answered already"),
    ("put-closed", -2, "is closed"),
]


@pytest.fixture
def told(
    stager: Stager, client: StagerClient, compile_c: Callable[[str], Path]
) -> dict[str, tuple[int, str]]:
    command = Command(
        "set", "w", "one", parameter="F", value=0.5, reason="A long reason.",
        evidence={"list": [1, 2.5, 3]},
    )  # fmt: skip
    client.append("commands/w", [msgspec.msgpack.encode(command)])
    done = subprocess.run(
        [compile_c("misuse"), stager.address], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
    return {name: (int(code), text) for name, code, text in lines}


def test_bad_use_is_told_in_sentences(told: dict[str, tuple[int, str]]) -> None:
    for name, (code, text) in told.items():
        if name.startswith("code") or name == "cut":
            assert text.endswith("."), (name, text)
        elif name in FINE:
            assert code == 0, (name, text)
        elif name in ("cut-text", "array-count"):
            assert code == {"cut-text": 14, "array-count": 3}[name]
        else:
            assert code < 0, name
            assert text.endswith("."), (name, text)
            assert text[0].isupper() or text.startswith(("'", "hr_")), text
    assert told["cut"][1] == "A long ."
    for name, wanted, words in SAID:
        assert told[name][0] == wanted, told[name]
        assert words in told[name][1]


def test_a_stager_with_keys(tmp_path: Path, compile_c: Callable[[str], Path]) -> None:
    from bridge.transports.curve import KeyPair, write_keys

    keys = tmp_path / "keys"
    write_keys(keys, "client")
    write_keys(keys, "stager")
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "client.pub").write_bytes((keys / "client.pub").read_bytes())
    with Stager(keys=KeyPair.load(keys / "stager.key"), allowed=allowed) as stager:
        stager.start()
        words = [str(compile_c("sim")), "w", f"stager={stager.address}", "timeout=30"]

        def run(*more: str, **environment: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*words, *more], capture_output=True, text=True, timeout=60,
                env={**os.environ, **environment},
            )  # fmt: skip

        for good in (run(f"keys={keys}"), run(HEADRACE_KEYS=str(keys))):
            assert (good.returncode, good.stderr) == (0, "")
            assert "acknowledged=10" in good.stdout
        # Whoever is refused is told so, at once: it is not as if nobody were there.
        assert run().stderr.startswith("open: -16 The stager at tcp://")
        assert "wants keys" in run().stderr
        stranger = tmp_path / "stranger"
        write_keys(stranger, "client")
        shutil.copy(keys / "stager.pub", stranger)
        told = run(f"keys={stranger}").stderr
        assert told.startswith("open: -16 ")
        assert "does not let in the public key" in told
        shutil.copy(stranger / "client.pub", stranger / "stager.pub")
        assert "its public key is probably not" in run(f"keys={stranger}").stderr
        (keys / "client.key").chmod(0o644)
        assert "can be read by others" in run(f"keys={keys}").stderr
    with Stager() as stager:
        stager.start()
        words[2] = f"stager={stager.address}"
        (keys / "client.key").chmod(0o600)
        told = run(f"keys={keys}").stderr
        assert told.startswith("open: -16 ")
        assert "has no keys" in told
