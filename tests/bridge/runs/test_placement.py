"""Processors that trainers have for themselves."""

from __future__ import annotations

import os
import threading

import pytest

from bridge.errors import ConfigError
from bridge.runs.placement import Placement, kept_to, take_processors
from bridge.runs.processes import Process

ALL = sorted(os.sched_getaffinity(0))
several = pytest.mark.skipif(len(ALL) < 2, reason="This machine has one processor.")


def test_nothing_is_changed_where_nobody_asks():
    placement = Placement({"trainer-a": 0, "trainer-b": 0})
    assert (placement.own, placement.others) == ({}, None)
    with kept_to(placement.others), take_processors(0):
        assert sorted(os.sched_getaffinity(0)) == ALL


@several
def test_a_trainer_gets_the_last_ones_and_everybody_else_the_rest():
    placement = Placement({"trainer-a": 1, "trainer-b": 0})
    assert placement.own == {"trainer-a": {ALL[-1]}}
    assert placement.others == set(ALL[:-1])


def test_trainers_do_not_share_theirs(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 8, 9, 12})
    placement = Placement({"trainer-a": 1, "trainer-b": 3})
    assert placement.own == {"trainer-a": {12}, "trainer-b": {5, 8, 9}}
    assert placement.others == {3}


def test_one_is_left_for_everything_else():
    with pytest.raises(ConfigError, match=rf"asks for {len(ALL)} that .* may use {len(ALL)} "):
        Placement({"trainer-a": len(ALL)})


def test_where_a_system_cannot_choose_it_is_said(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert Placement({"trainer-a": 0}).others is None
    with pytest.raises(ConfigError, match="leave out 'processors'"):
        Placement({"trainer-a": 1})


def test_processors_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match=r"\[4095\] cannot be used"), kept_to({4095}):
        pass
    assert sorted(os.sched_getaffinity(0)) == ALL


@several
def test_what_is_started_meanwhile_keeps_to_them_and_nobody_else(tmp_path):
    placement = Placement({"trainer-a": 1})
    threads = []

    def note():
        threads.append(os.sched_getaffinity(0))

    with kept_to(placement.others):
        thread = threading.Thread(target=note)
        thread.start()
        thread.join()
        processes = [
            Process(
                "trainer-a", "http.server", ["--bind", "127.0.0.1", "0"],
                log=tmp_path / "log", directory=tmp_path, processors=processors,
            )
            for processors in (placement.own["trainer-a"], None)
        ]  # fmt: skip
        try:
            found = [os.sched_getaffinity(process.pid) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait(10.0)
        assert os.sched_getaffinity(0) == placement.others
    assert threads == [placement.others]
    assert found == [placement.own["trainer-a"], placement.others]
    assert sorted(os.sched_getaffinity(0)) == ALL
