"""A stager that is killed and started again in its folder loses nothing of a C program's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from bridge import Acknowledgement, Command
from bridge.commands import Event
from bridge.staging import Stager, StagerClient
from tests.sim_adapters.c.common import Start, finish
from tests.sim_adapters.common import read_stream, wait_until

SERVE = """
import sys
sys.path.insert(0, {cwd!r})
from pathlib import Path
from bridge.staging import Stager
s = Stager({address!r}, directory=Path({folder!r}), durable={durable})
print(s.address, flush=True)
s.serve()
"""


class Mortal:
    """A stager in a process of its own, which can be killed and started again."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder, self.durable = folder, durable
        self.address = "tcp://127.0.0.1:0"
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        code = SERVE.format(
            cwd=os.getcwd(), address=self.address, folder=str(self.folder), durable=self.durable
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address, "The stager did not start."

    def kill(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mortal]:
    stager = Mortal(tmp_path / "stager")
    yield stager
    stager.kill()


def newest(address: str) -> int:
    with StagerClient(address) as client:
        found = client.topics("frames/w")
        return found[0].last_step if found else -1


@pytest.mark.parametrize("mapped", ["yes", "no"])
def test_nothing_is_lost_or_repeated(mortal: Mortal, start: Start, mapped: str) -> None:
    process = start(
        "w", stager=mortal.address, mapped=mapped, until_stopped=1, delay=0.0005, rows=50,
        timeout=60, keep=1 << 30,
    )  # fmt: skip
    wait_until(lambda: newest(mortal.address) > 50, "frames")
    with StagerClient(mortal.address) as client:
        one = Command("set", "w", "one", parameter="F", value=2.0)
        client.append("commands/w", [msgspec.msgpack.encode(one)])
        wait_until(lambda: bool(client.topics("acks/w")), "the answer")
    for _ in range(2):
        before = newest(mortal.address)
        mortal.kill()
        mortal.start()
        wait_until(lambda seen=before: newest(mortal.address) > seen + 50, "more frames")
    with StagerClient(mortal.address) as client:
        again = [one, Command("set", "w", "two", parameter="F", value=3.0)]
        client.append("commands/w", [msgspec.msgpack.encode(c) for c in again])
        client.append("commands/w", [msgspec.msgpack.encode(Command("stop", "w", "end"))])
        out = finish(process)
        found = read_stream(client, "w")
        assert found.steps.tolist() == list(range(len(found)))
        assert set(found.epochs.tolist()) == {0}
        assert found["x"][:, 0, 0].tolist() == found.steps.tolist()
        with client.fetch({"acks/w": 0}) as got:
            read = [msgspec.msgpack.decode(r.data, type=Acknowledgement) for r in got.records]
        assert sorted(a.command for a in read) == ["end", "one", "two"]
    assert "reconnects=0" not in out
    # The stop may come while the put waits for room at the new stager: that frame is not put.
    kept = f"frames={len(found)} acknowledged={len(found)} dropped="
    assert f"{kept}0/0" in out or f"{kept}1/1" in out, out
    assert out.count("set one") == out.count("set two") == 1


@pytest.mark.parametrize("mapped", ["yes", "no"])
def test_a_rank_that_is_killed_is_told_of(start: Start, mapped: str, tmp_path: Path) -> None:
    with Stager("tcp://127.0.0.1:0") as stager, StagerClient(stager.start().address) as client:
        options = {"stager": stager.address, "ranks": 2, "until_stopped": 1, "delay": 0.01}
        go = tmp_path / "go"
        go.touch()
        ranks = [start("w", rank=r, go=go, mapped=mapped, **options) for r in range(2)]
        wait_until(lambda: newest(stager.address) > 5, "frames")
        ranks[1].kill()

        def told() -> list[Event]:
            with client.fetch({"events": 0}, wait=0.5) as got:
                found = [msgspec.msgpack.decode(r.data, type=Event) for r in got.records]
            return [event for event in found if event.kind == "silent"]

        wait_until(lambda: bool(told()), "the event")
        assert told()[0].data == {"rank": 1, "gone": True}
        ranks[0].kill()


def test_all_ranks_find_the_stager_again(mortal: Mortal, start: Start, tmp_path: Path) -> None:
    go = tmp_path / "go"
    options = {"stager": mortal.address, "ranks": 2, "steps": 200, "delay": 0.001, "timeout": 60}
    ranks = [start("w", rank=r, go=go, **options) for r in range(2)]
    wait_until(lambda: newest(mortal.address) == 4, "frames")
    mortal.kill()
    mortal.start()
    go.touch()
    for process in ranks:
        finish(process)
    with StagerClient(mortal.address) as client:
        found = read_stream(client, "w")
    assert found.steps.tolist() == list(range(200))
    assert found["x"][:, 3, 0].tolist() == pytest.approx([s + 0.003 for s in range(200)])


def test_without_a_folder_the_stream_goes_on_at_the_next_stager(
    tmp_path: Path, start: Start
) -> None:
    """What the lost stager held is gone with it; nothing after that is."""
    stager = Mortal(tmp_path / "one", durable=False)
    go = tmp_path / "go"
    try:
        process = start("w", stager=stager.address, steps=50, timeout=60, go=go)
        wait_until(lambda: newest(stager.address) == 4, "frames")
        stager.kill()
        stager.folder = tmp_path / "two"
        stager.start()
        go.touch()
        finish(process)
        with StagerClient(stager.address) as client:
            found = read_stream(client, "w")
    finally:
        stager.kill()
    assert found.steps.tolist() == list(range(5, 50))


def test_a_stager_that_stays_away_is_told_of(mortal: Mortal, start: Start, tmp_path: Path) -> None:
    process = start("w", stager=mortal.address, steps=50, timeout=1, go=tmp_path / "go")
    wait_until(lambda: newest(mortal.address) == 4, "frames")
    mortal.kill()
    (tmp_path / "go").touch()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 4, (out, err)
    assert err.startswith("close: -8 ")
    assert "acknowledged=5 " in out


def test_a_newer_life_takes_over(
    mortal: Mortal, start: Start, simulate: Callable[..., str], tmp_path: Path
) -> None:
    old = start("w", stager=mortal.address, steps=50, go=tmp_path / "go")
    wait_until(lambda: newest(mortal.address) == 4, "frames")
    assert simulate("w", stager=mortal.address, steps=5).startswith("opened 2 5 4 1\n")
    (tmp_path / "go").touch()
    _, err = old.communicate(timeout=60)
    assert old.returncode in (3, 4)
    assert ": -9 Incarnation 1 of frames/w is stale" in err
