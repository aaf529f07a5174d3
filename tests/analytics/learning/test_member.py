"""A worker of a team: frames wait their turn, and drift is answered. A team of one is a team."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from analytics.learning.train import Train
from bridge.codec import decode_state, encode_state
from bridge.commands import Event
from bridge.frames import FrameBatch
from bridge.pipeline import Context
from tests.analytics.learning.test_train import make, stream


def cut(batches: Sequence[FrameBatch], size: int) -> Iterator[FrameBatch]:
    for batch in batches:
        for start in range(0, len(batch), size):
            yield batch.take(slice(start, start + size))


def trained(train: Train, batches: Iterator[FrameBatch]) -> list[Event]:
    """Do as a worker does, and return what was told."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    member = train.join(rank=0, size=1, groups=1, host="127.0.0.1", port=port, timeout=60.0)
    context = Context("team", "train")
    events: list[Event] = []
    over = ended = False
    while not over:
        if member.hungry:
            batch = next(batches, None)
            ended = batch is None
            if batch is not None:
                train.process(batch, context)
        turn = member.turn(ended=ended, stopped=False)
        events += turn.events
        over = turn.over
    return events


def test_drift_is_answered_whatever_comes_at_once(tmp_path: Path) -> None:
    frames = [*stream(900, scale=1.0), *stream(900, scale=5.0, seed=1, first=450)]
    states = []
    for size in (20, 7):
        train = make(tmp_path / str(size))
        events = trained(train, cut(frames, size))
        told = {event.kind: event for event in reversed(events)}
        assert told["drift"].data["frames"] > 900
        assert told["retraining"].data["why"]
        assert train.trainer is not None
        assert train.trainer.updates > train.due(1800)  # some came on top
        assert train.trainer.rate_from
        states.append(train.trainer.save())
    for key, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][key], err_msg=key)


@pytest.mark.parametrize("lag", [0, 3])
def test_frames_that_wait_are_saved(lag: int, tmp_path: Path) -> None:
    kind = "tests.analytics.learning.tiny:Tiny" + ("Lagged" if lag else "Autoencoder")
    one, other = (make(tmp_path, lag=lag, kind=kind, held_out_block=20) for _ in range(2))
    one.alone = other.alone = False
    context = Context("team", "train")
    batches = stream(200)
    for batch in batches[:7]:
        one.process(batch, context)
    one.take(50)
    other.restore(decode_state(encode_state(one.save())))
    assert (one.frames, other.waiting.frames) == (50, 90)
    for train in (one, other):
        for batch in batches[7:]:
            train.process(batch, context)
        train.take(1000)
        assert (train.frames, train.waiting.frames) == (200, 0)
    for mine, theirs in zip(
        one.intake.buffer.content(), other.intake.buffer.content(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    assert one.intake.trained_on == other.intake.trained_on
