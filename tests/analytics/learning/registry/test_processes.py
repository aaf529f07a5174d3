"""Several processes at one registry, some of which are killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from analytics.learning.registry import Registry
from bridge.errors import Overtaken
from tests.analytics.learning.registry.tiny import store_some, trained

# A fork of a process that has torch's threads may hang; one started anew costs seconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.analytics.learning.registry.tiny"])


def start(folder: Path, n: int) -> BaseProcess:
    process = CONTEXT.Process(target=store_some, args=(str(folder), n), daemon=True)
    process.start()
    return process


def check(folder: Path) -> int:
    """Return how many entries the history has, once everything in the registry is sound."""
    registry = Registry(folder)
    history = registry.history("tiny")
    assert [one.number for one in history] == list(range(1, len(history) + 1))
    for card in registry.cards("tiny"):
        assert registry.load(card.version).card == card
    assert {one.version for one in history} <= {card.version for card in registry.cards("tiny")}
    return len(history)


def test_a_writer_that_is_killed_leaves_it_sound(tmp_path: Path) -> None:
    folder, dice = tmp_path / "models", random.Random(5)
    entries = 0
    for _ in range(12):
        # It dies where it happens to be: in the midst of a file, a line, or a lock.
        process = start(folder, 10_000)
        process.join(dice.uniform(0.02, 0.25))
        assert process.pid is not None
        assert process.is_alive()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        now = check(folder)
        assert now >= entries
        entries = now
    # Locks of the dead are free, and what they left of files does not stay for ever.
    store_some(str(folder), 2)
    assert check(folder) >= 1
    parts = list(folder.rglob(".*.part"))
    for part in parts:
        os.utime(part, (0, 0))
    Registry(folder).prune("tiny")
    assert not any(part.exists() for part in parts)


def test_two_that_write_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    both = [start(folder, 20) for _ in range(2)]
    for process in both:
        process.join(100)
        assert process.exitcode == 0
    # Each promoted ten; both store the same ones, and what is served already is not promoted anew.
    assert 10 <= check(folder) <= 20


def promote_after(folder: str, version: str, number: int) -> None:
    """Promote if nobody has yet; exits with 0 only if it was this process."""
    try:
        Registry(folder).promote("tiny", version, reason=f"By {os.getpid()}.", after=number)
    except Overtaken:
        os._exit(3)


@pytest.mark.parametrize("number", [0, 1])
def test_of_two_that_promote_at_once_one_wins(tmp_path: Path, number: int) -> None:
    registry = Registry(tmp_path)
    versions = [registry.add("tiny", trained((1.0, i))).version for i in range(3)]
    if number:
        registry.promote("tiny", versions[2], reason="First.")
    both = [
        CONTEXT.Process(target=promote_after, args=(str(tmp_path), version, number), daemon=True)
        for version in versions[:2]
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(100)
    assert sorted(process.exitcode or 0 for process in both) == [0, 3]
    winner = versions[[process.exitcode for process in both].index(0)]
    assert [one.version for one in registry.history("tiny")][number:] == [winner]
