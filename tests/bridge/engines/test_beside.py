"""Work in a thread beside Flink's calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from bridge.engines.flink import beside
from bridge.engines.flink.beside import Beside


class Work:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.failing = False

    def __call__(self) -> None:
        if self.failing:
            raise ValueError("no more")
        self.calls += 1
        time.sleep(0.001)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_work_rests_while_the_other_has_a_word() -> None:
    work = Work()
    one = Beside(work, "test")
    assert work.calls == 0
    for _ in range(50):
        with one.paused():
            before = work.calls
            time.sleep(0.002)
            assert work.calls == before
    wait_until(lambda: work.calls > before + 2)
    assert one.end()
    assert one.is_over()
    after = work.calls
    time.sleep(0.01)
    assert work.calls == after


def test_what_ended_the_work_is_raised() -> None:
    work = Work()
    one = Beside(work, "test")
    with one.paused():
        work.failing = True
    wait_until(lambda: not any(t.name == "test" for t in threading.enumerate()))
    with pytest.raises(ValueError, match="no more"), one.paused():
        pass
    assert one.end()


def test_nobody_works_for_a_worker_that_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_UNATTENDED", 0.05)
    work = Work()
    one = Beside(work, "test")
    with one.paused():
        pass
    last = -1
    deadline = time.monotonic() + 10.0
    while work.calls != last:
        assert time.monotonic() < deadline
        last = work.calls
        time.sleep(0.2)
    with one.paused():
        pass
    wait_until(lambda: work.calls > last)
    one.end()


def test_work_that_does_not_end_is_told() -> None:
    going, over = threading.Event(), threading.Event()

    def work() -> None:
        going.set()
        over.wait(10.0)

    one = Beside(work, "test")
    with one.paused():
        pass
    assert going.wait(10.0)
    assert not one.end(timeout=0.01)
    over.set()
    assert one.end()
