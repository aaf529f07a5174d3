"""Work in a thread beside Flink's calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from bridge.engines.flink import beside
from bridge.engines.flink.beside import Beside


class Work:
    """Counts its calls, and tells of those that come when it has to rest."""

    def __init__(self) -> None:
        self.calls = 0
        self.failing = self.resting = False
        self.did_wrong = threading.Event()
        self._nothing = threading.Event()

    def __call__(self) -> None:
        if self.failing:
            raise ValueError("no more")
        self._look()
        self._nothing.wait(0.001)
        self._look()
        self.calls += 1

    def _look(self) -> None:
        if self.resting:
            self.did_wrong.set()


class Clock:
    """Stands still until it is set, and knows how often it was looked at."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.now


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def is_running() -> bool:
    return any(thread.name == "test" for thread in threading.enumerate())


def test_work_rests_while_the_other_has_a_word() -> None:
    work = Work()
    one = Beside(work, "test")
    assert work.calls == 0
    for _ in range(50):
        with one.paused():
            work.resting = True
            before = work.calls
            assert not work.did_wrong.wait(0.002)
            work.resting = False
        wait_until(lambda: work.calls > before)  # noqa: B023
    assert not work.did_wrong.is_set()
    assert one.end()
    assert one.is_over()
    assert not is_running()


def test_what_ended_the_work_is_raised() -> None:
    work = Work()
    one = Beside(work, "test")
    with one.paused():
        work.failing = True
    wait_until(lambda: not is_running())
    with pytest.raises(ValueError, match="no more"), one.paused():
        pass
    assert one.end()


def test_nobody_works_for_a_worker_that_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(beside, "time", clock)
    work = Work()
    one = Beside(work, "test")
    with one.paused():
        pass
    wait_until(lambda: work.calls > 0)
    clock.now += 2 * beside._UNATTENDED
    # Each round of the thread looks at the clock; what was begun before is done with by then.
    looks = clock.looks
    wait_until(lambda: clock.looks > looks + 1)
    last, looks = work.calls, clock.looks
    wait_until(lambda: clock.looks > looks + 2)
    assert work.calls == last
    with one.paused():
        pass
    wait_until(lambda: work.calls > last)
    assert one.end()


def test_work_that_does_not_end_is_told() -> None:
    going, over = threading.Event(), threading.Event()

    def work() -> None:
        going.set()
        over.wait(60.0)

    one = Beside(work, "test")
    with one.paused():
        pass
    assert going.wait(60.0)
    assert not one.end(timeout=0.01)
    over.set()
    assert one.end()
