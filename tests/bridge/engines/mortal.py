"""Processes that are killed, and come back: a stager that keeps its topics, and a simulation."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bridge.commands import Acknowledgement, Capability, Command, Decision
from bridge.engines.protocol import EngineStatistics
from bridge.staging import StagerClient
from bridge.testing.sources import END, PAUSE, ScriptedSource, make_frames
from tests.bridge.engines.common import read, read_status

ROOT = Path(__file__).parents[3]
SHAPES = {"x": (4, 3)}
TUNABLE = (Capability("set", "temperature", 0.0, 1e9),)
"""What the commands of `EachTenth` need, where a guard asks."""


class MortalStager:
    """A durable stager in a process of its own; killed, it can be started where it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = "tcp://127.0.0.1:0"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "bridge.cli", "stage", "--json", "--durable"]
        where = ["--directory", str(self._folder), "--address", self.address]
        self._process = subprocess.Popen([*command, *where], cwd=ROOT, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "The stager did not start."
        self.address = json.loads(line)["address"]

    def kill(self) -> None:
        """Kill it, with no time to say or store anything."""
        self._process.kill()
        self._process.communicate(timeout=30)


class MortalWalker:
    """A simulation in a process of its own, which puts fifty frames whenever it is told to.

    Its frames are those of `tests.bridge.engines.common.make_streams`.
    """

    def __init__(self, address: str, name: str, frames: int) -> None:
        self._arguments = [address, name, str(frames)]
        self.start()

    def start(self) -> None:
        """Begin a life; the simulation goes on where its stream ends."""
        command = [sys.executable, "-m", "tests.bridge.engines.mortal", *self._arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)

    def go_on(self) -> None:
        """Let it put the next piece."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """Kill it, in the middle of whatever it does."""
        self._process.kill()
        self._process.communicate(timeout=30)

    def finish(self) -> None:
        """Let it put the rest, and end its stream."""
        self._process.communicate(timeout=100)
        assert self._process.returncode == 0

    def end(self) -> None:
        """Leave nothing behind."""
        if self._process.poll() is None:
            self.kill()


def main(address: str, name: str, frames: str) -> None:
    """Put the frames of one simulation; standard input says when."""
    batch = make_frames(name, int(frames), SHAPES)
    pieces = [batch.take(slice(at, at + 50)) for at in range(0, len(batch), 50)]
    script = [item for piece in pieces for item in (piece, PAUSE)]
    with StagerClient(address) as client:
        answered = {a.command for a in read(client, f"acks/{name}", Acknowledgement)}
    source = ScriptedSource(
        name,
        [*script, END],
        address=address,
        capabilities=TUNABLE,
        answered=answered,
        time_limit=250.0,
    )
    told = iter(sys.stdin.buffer.readline, b"")

    def listen() -> None:
        for _ in told:
            source.resume()
        for _ in pieces:
            source.resume()

    threading.Thread(target=listen, daemon=True).start()
    source.play()


def wait_for(
    reader: StagerClient, what: Callable[[EngineStatistics], bool], *, limit: float = 200.0
) -> None:
    """Wait until the job ``test`` tells of something in its status."""
    end = time.monotonic() + limit
    position = 0
    told: list[EngineStatistics] = []
    while time.monotonic() < end:
        if any(topic.name == "status/test" for topic in reader.topics("status/", schemas=False)):
            fetched = reader.fetch({"status/test": position}, wait=0.5)
            position = fetched.positions.get("status/test", position)
            told = read_status(reader)
        if told and what(told[-1]):
            return
    raise AssertionError(f"The engine did not get so far; it told last: {told[-1:]}.")


def check_answers(reader: StagerClient, names: Iterable[str]) -> int:
    """Assert that no command was applied twice, nor one that was not sent; return how many were.

    What comes after a simulation's last look is refused in its name, by the stager.
    """
    sent = {d.command.id for d in read(reader, "decisions", Decision) if d.verdict == "sent"}
    total = 0
    for name in names:
        theirs = [c.id for c in read(reader, f"commands/{name}", Command)]
        answers: list[Acknowledgement] = read(reader, f"acks/{name}", Acknowledgement)
        answered = [a.command for a in answers]
        assert len(set(theirs)) == len(theirs)
        assert len(set(answered)) == len(answered), f"{name} answered a command twice."
        assert {*answered} <= {*theirs} <= sent
        late = [a for a in answers if a.outcome != "applied"]
        assert all(a.outcome == "refused" and "ended before it looked" in a.reason for a in late)
        total += len(answers) - len(late)
    return total


if __name__ == "__main__":
    main(*sys.argv[1:])
