"""Rests are for the thread that asked for them."""

from __future__ import annotations

import threading

import pytest

from analytics.learning.resting import rest, resting


def test_only_who_is_to_rest_does(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[tuple[str, float]] = []

    def sleep(seconds: float) -> None:
        slept.append((threading.current_thread().name, seconds))

    monkeypatch.setattr("analytics.learning.resting.time.sleep", sleep)
    rest()
    me = threading.current_thread().name
    with resting(0.25):
        rest()
        with resting(0.5):
            rest()
        other = threading.Thread(target=rest, name="other")
        other.start()
        other.join(60)
        rest()
    rest()
    assert slept == [(me, 0.25), (me, 0.5), (me, 0.25)]
