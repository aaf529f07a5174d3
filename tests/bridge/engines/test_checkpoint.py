"""Checkpoints are replaced in one go, and damage is never taken for a state."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.engines.checkpoint import Checkpoint, CheckpointStore, CheckpointWriter
from bridge.engines.saving import Saver
from bridge.engines.turns import Turn, TurnLog
from bridge.errors import CorruptData, PipelineError, StagingError


def make_checkpoint(number: int, pipeline: str = "p") -> Checkpoint:
    return Checkpoint(
        pipeline=pipeline,
        number=number,
        positions={"frames/a": 10 * number},
        finished=["b"],
        known=["a"],
        counts={"frames": 10 * number},
        decisions=3,
        stops=None,
        operators=b"state" * number,
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "deep" / "engine.checkpoint", "p")
    assert store.load() == (None, "")
    for number in (1, 2, 3):
        store.write(make_checkpoint(number).encode())
    assert CheckpointStore(store.path, "p").load() == (make_checkpoint(3), "")
    assert Checkpoint.decode(store.previous.read_bytes()) == make_checkpoint(2)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    store = CheckpointStore(tmp_path / "c", "p")
    store.write(make_checkpoint(1).encode())
    store.write(make_checkpoint(2).encode())
    data = bytearray(store.path.read_bytes())
    if damage == "gone":
        store.path.unlink()
    else:
        data[len(data) // 2] ^= 1
        cut = {"cut": data[:-5], "flip": data, "empty": b""}[damage]
        store.path.write_bytes(cut)
    again = CheckpointStore(tmp_path / "c", "p")
    checkpoint, complaint = again.load()
    assert checkpoint == make_checkpoint(1)
    assert ("cannot be used" in complaint) == (damage != "gone")
    again.write(make_checkpoint(3).encode())
    assert Checkpoint.decode(again.previous.read_bytes()) == make_checkpoint(1)


def test_two_damaged_ones_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c", "p")
    store.path.write_bytes(b"nonsense")
    store.previous.write_bytes(b"")
    with pytest.raises(CorruptData, match=r"c cannot be used.*Remove the file"):
        store.load()


def test_another_pipelines_checkpoint_is_refused(tmp_path: Path) -> None:
    CheckpointStore(tmp_path / "c", "p").write(make_checkpoint(1).encode())
    with pytest.raises(PipelineError, match="belongs to the pipeline 'p', not to 'q'"):
        CheckpointStore(tmp_path / "c", "q").load()


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c", "p")
    (tmp_path / "c.new").mkdir()
    writer = CheckpointWriter(store)
    writer.submit(make_checkpoint(1))
    with pytest.raises(StagingError, match="Cannot write the checkpoint"):
        writer.take(wait=True)
    assert writer.take(wait=True) is None


def note(log: TurnLog, turns: list[Turn]) -> None:
    for turn in turns:
        log.note(turn)


def test_turns_are_read_back_in_order_over_several_journals(tmp_path: Path) -> None:
    log = TurnLog(tmp_path / "c")
    turns = [Turn("a", i, i + 2, ("a",) if i == 0 else None) for i in range(6)]
    log.begin(0, anew=True)
    note(log, turns[:2])
    log.begin(1, anew=True)
    note(log, turns[2:5])
    note(log, turns[5:])
    log.close()
    again = TurnLog(tmp_path / "c")
    assert again.newest() == 1
    assert again.since(0) == (turns, "")
    assert again.since(1) == (turns[2:], "")
    assert again.since(2) == ([], "")
    again.forget(lambda n: n < 1)
    assert again.since(0) == ([], "")
    assert Turn("a", 3, 3).is_end
    assert not turns[0].is_end


def test_a_torn_turn_is_left_out_and_a_damaged_one_told_of(tmp_path: Path) -> None:
    log = TurnLog(tmp_path / "c")
    log.begin(0, anew=True)
    log.note(Turn("a", 0, 5))
    log.note(Turn("a", 5, 9))
    log.close()
    path = tmp_path / "c.turns-0"
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    assert TurnLog(tmp_path / "c").since(0) == ([Turn("a", 0, 5)], "")
    damaged = bytearray(whole)
    damaged[30] ^= 255
    path.write_bytes(damaged)
    turns, complaint = TurnLog(tmp_path / "c").since(0)
    assert turns == []
    assert "The order of the turns after checkpoint 0 is lost" in complaint


def make_saver(path: Path) -> Saver:
    return Saver(path, "p", every=1e-9, every_bytes=1 << 30)


def test_frames_are_committed_up_to_the_checkpoint_before_the_newest(tmp_path: Path) -> None:
    saver = make_saver(tmp_path / "c")
    assert saver.load() == (None, [], [])
    saver.begin(None)
    committed = []
    for number in (1, 2, 3):
        saver.note(Turn("a", 10 * number - 10, 10 * number), 100)
        saver.save(make_checkpoint)
        committed.append(saver.poll(wait=True))
    assert committed == [{}, {"frames/a": 10}, {"frames/a": 20}]
    saver.note(Turn("a", 30, 31), 100)
    saver.close()
    (tmp_path / "c").write_bytes(b"damaged")
    again = make_saver(tmp_path / "c")
    checkpoint, turns, complaints = again.load()
    assert checkpoint == make_checkpoint(2)
    assert turns == [Turn("a", 20, 30), Turn("a", 30, 31)]
    assert len(complaints) == 1


def test_a_kill_while_a_checkpoint_is_on_its_way_loses_no_turn(tmp_path: Path) -> None:
    saver = make_saver(tmp_path / "c")
    saver.load()
    saver.begin(None)
    saver.note(Turn("a", 0, 10), 1)
    saver.save(make_checkpoint)
    saver.poll(wait=True)
    saver.note(Turn("a", 10, 20), 1)
    # The next one's journal has begun, and the checkpoint itself never came to the disk.
    log = TurnLog(tmp_path / "c")
    log.begin(2, anew=True)
    log.note(Turn("a", 20, 30))
    log.close()
    saver.close()
    again = make_saver(tmp_path / "c")
    checkpoint, turns, _ = again.load()
    assert checkpoint == make_checkpoint(1)
    assert turns == [Turn("a", 10, 20), Turn("a", 20, 30)]
    again.begin(make_checkpoint)
    again.close()
    third = make_saver(tmp_path / "c")
    assert third.load() == (make_checkpoint(3), [], [])
