"""A durable stager that is killed at any moment goes on with what it had acknowledged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bridge.staging import Stager, StagerClient, StreamOptions
from bridge.staging.catalogue import COMPACT_AFTER
from tests.bridge.staging.common import frame, producer, read_all

SERVE = """
import sys
sys.path.insert(0, {cwd!r})
from pathlib import Path
from bridge.staging import Stager
s = Stager({address!r}, directory=Path({folder!r}), durable=True)
print(s.address, flush=True)
s.serve()
"""


def serve(folder: Path, address: str = "tcp://127.0.0.1:0") -> tuple[subprocess.Popen[str], str]:
    code = SERVE.format(cwd=os.getcwd(), address=address, folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, "The stager did not start."
    return process, line


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert process.stdout is not None
    process.stdout.close()


def test_a_stager_killed_in_the_middle_loses_and_repeats_nothing(tmp_path: Path):
    process, address = serve(tmp_path)
    try:
        from bridge.staging import Producer
        from tests.bridge.staging.common import SCHEMA

        with Producer(
            "w0", SCHEMA, address=address, timeout=60.0, options=StreamOptions(keep=1 << 30)
        ) as p:
            for i in range(20_000):
                p.put(i, float(i), frame(i))
                if i in (7_000, 13_000):
                    kill(process)
                    process, _ = serve(tmp_path, address)
            p.flush(60.0)
            assert p.statistics().reconnects >= 1
        with StagerClient(address) as client:
            assert read_all(client, "w0", group="g") == list(range(20_000))
    finally:
        kill(process)


def test_a_reader_outlives_its_stager(tmp_path: Path):
    process, address = serve(tmp_path)
    try:
        with StagerClient(address, timeout=30.0) as client:
            client.append("events", [b"one"], writer="w", first=0, stop=1)
            kill(process)
            process, _ = serve(tmp_path, address)
            again = client.append("events", [b"one"], writer="w", first=0, stop=1)
            assert not again.accepted
            client.append("events", [b"two"], writer="w", first=1, stop=2)
            with client.fetch({"events": 0}) as got:
                assert [bytes(r.data) for r in got.records] == [b"one", b"two"]
    finally:
        kill(process)


def reopened(folder: Path, number: int) -> Stager:
    return Stager(
        f"memory://durable-{folder.name}-{number}", directory=folder, durable=True
    ).start()


def test_everything_is_there_after_a_restart(tmp_path: Path):
    with reopened(tmp_path, 1) as stager, StagerClient(stager.address) as client:
        with producer(stager) as p:
            for i in range(3000):
                p.put(i, float(i), frame(i))
            p.close(finished=False)
        client.commit("g", {"frames/w0": 1500})
        client.append("results/a/w0", [b"r1"], writer="a", first=0, stop=7)
        before = client.topics()
    with reopened(tmp_path, 2) as stager, StagerClient(stager.address) as client:
        after = {t.name: t for t in client.topics()}
        for old in before:
            new = after[old.name]
            for field in ("kind", "low", "end", "groups", "writers", "last_step", "schema"):
                assert getattr(new, field) == getattr(old, field), (old.name, field)
        assert read_all(client, "w0", limit=3000) == list(range(3000))
        with producer(stager) as p:
            assert p.resumed.incarnation == 2
            assert p.resumed.last_step == 2999
            p.put(3000, 1.0, frame(3000))
        assert read_all(client, "w0") == list(range(3001))


def test_a_journal_is_compacted_and_still_tells_all(tmp_path: Path):
    n = 3 * COMPACT_AFTER
    with reopened(tmp_path, 1) as stager, StagerClient(stager.address) as client:
        small = StreamOptions(when_full="drop_oldest", capacity=1 << 18)
        for i in range(n):
            client.append("results/a/w0", [b"%07d" % i * 10], writer="a", first=i, stop=i + 1,
                          options=small)  # fmt: skip
        low = client.status("results/a/w0").low
    journal = next((tmp_path / "topics").glob("results*.journal"))
    assert journal.stat().st_size < 100 * n
    with reopened(tmp_path, 2) as stager, StagerClient(stager.address) as client:
        status = client.status("results/a/w0")
        assert (status.low, status.end, status.writers) == (low, n, {"a": n})
        with client.fetch({"results/a/w0": n - 1}) as got:
            assert bytes(got.records[0].data) == b"%07d" % (n - 1) * 10


def test_a_torn_tail_is_cut_off(tmp_path: Path):
    with reopened(tmp_path, 1) as stager, producer(stager) as p:
        for i in range(2000):
            p.put(i, float(i), frame(i))
            if i % 100 == 0:
                p.flush()
    journal = tmp_path / "topics" / "frames+w0.journal"
    whole = journal.read_bytes()
    rng = np.random.default_rng(3)
    for number, cut in enumerate(sorted(rng.integers(len(whole) // 2, len(whole), 8))[::-1]):
        journal.write_bytes(whole[:cut])
        with reopened(tmp_path, 2 + number) as stager, StagerClient(stager.address) as client:
            end = client.status("frames/w0").end
            assert read_all(client, "w0", limit=end) == list(range(end))


@pytest.mark.parametrize("durable", [False, True])
def test_nothing_is_left_behind(tmp_path: Path, durable: bool):
    with Stager("memory://gone", directory=tmp_path, durable=durable) as stager:
        stager.start()
        with producer(stager) as p:
            p.put(0, 0.0, frame(0))
    left = list(tmp_path.rglob("*.segment"))
    assert bool(left) == durable
