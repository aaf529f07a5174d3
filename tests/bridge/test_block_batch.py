"""A batch in blocks is any other batch, and joins them when somebody looks, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bridge.block_batch import BlockBatch
from bridge.errors import SchemaError
from bridge.frames import Block, FrameBatch

FRAMES, ROWS = 4, 6
WHOLE = FrameBatch.from_arrays(
    "w",
    {
        "x": np.arange(FRAMES * ROWS * 2.0).reshape(FRAMES, ROWS, 2),
        "energy": np.arange(FRAMES) / 2.0,
        "charge": np.arange(FRAMES * ROWS).reshape(FRAMES, ROWS),
    },
    steps=np.arange(FRAMES) * 10,
)


class Joiner:
    """Joins, and counts how often."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, offsets: Sequence[int], blocks: Any) -> dict[str, Any]:
        self.calls.append(list(offsets))
        out = {n: np.empty_like(WHOLE[n][: len(blocks)]) for n in ("x", "charge")}
        for i, frame in enumerate(blocks):
            for block in frame:
                for name, column in out.items():
                    column[i][block.ids] = block.values[name]
        return out


@pytest.fixture
def joiner() -> Joiner:
    return Joiner()


@pytest.fixture
def batch(joiner: Joiner) -> BlockBatch:
    rng = np.random.default_rng(2)
    frames = []
    for i in range(FRAMES):
        order = rng.permutation(ROWS)
        frames.append(
            [
                Block(
                    rank, 0, count=len(ids), step=10 * i, time=float(i), ids=ids,
                    values={name: WHOLE[name][i][ids] for name in ("x", "charge")},
                )
                for rank, ids in enumerate((order[:2], order[2:]))
            ]
        )  # fmt: skip
    return BlockBatch(
        "w", WHOLE.offsets, steps=WHOLE.steps, times=WHOLE.times, epochs=WHOLE.epochs,
        names=list(WHOLE.columns), whole={"energy": WHOLE["energy"]}, blocks=frames,
        in_order=False, join=joiner,
    )  # fmt: skip


def assert_same(one: FrameBatch, other: FrameBatch) -> None:
    assert list(one.columns) == list(other.columns)
    for name in ("offsets", "steps", "times", "epochs"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    for name, column in one.columns.items():
        assert np.array_equal(column, other[name])


def test_it_joins_once_and_for_all_that_come_of_it(batch: BlockBatch, joiner: Joiner) -> None:
    more = batch.with_columns({"norm": WHOLE["energy"] + 1.0})
    some = batch.select(["charge", "x"])
    assert "x" in more
    assert repr(batch) == "<BlockBatch w 0..3 n=4 of x, energy, charge>"
    assert batch.nbytes == WHOLE.nbytes
    assert joiner.calls == []
    assert_same(batch, WHOLE)
    assert_same(more, WHOLE.with_columns({"norm": WHOLE["energy"] + 1.0}))
    assert_same(some, WHOLE.select(["charge", "x"]))
    assert np.array_equal(batch.frame(1)["x"], WHOLE["x"][1])
    assert joiner.calls == [[0, 1, 2, 3]]


@pytest.mark.parametrize("rows", [slice(1, 3), np.array([0, 3]), WHOLE.offsets != 2])
@pytest.mark.parametrize("first", [False, True], ids=["then joined", "joined before"])
def test_frames_are_taken(batch: BlockBatch, joiner: Joiner, rows: Any, *, first: bool) -> None:
    if first:
        assert len(batch["x"]) == FRAMES
    assert_same(batch.take(rows), WHOLE.take(rows))
    assert joiner.calls == [WHOLE.offsets.tolist() if first else WHOLE.offsets[rows].tolist()]


def test_pieces_that_follow_each_other_are_one(batch: BlockBatch, joiner: Joiner) -> None:
    pieces = [batch.take(slice(0, 1)), batch.take(slice(1, 4)).copy()]
    together = FrameBatch.concatenate(pieces)
    assert isinstance(together, BlockBatch)
    assert joiner.calls == []
    assert_same(together, WHOLE)
    assert_same(FrameBatch.concatenate([pieces[0], WHOLE.take(slice(1, 4))]), WHOLE)


def test_a_copy_has_bytes_of_its_own(batch: BlockBatch) -> None:
    kept = batch.copy()
    for block in batch.blocks(0):
        block.values["x"][:] = 0.0
    assert_same(kept, WHOLE)


def test_what_is_replaced_is_no_block_any_more(batch: BlockBatch, joiner: Joiner) -> None:
    changed = batch.with_columns({"x": -WHOLE["x"]})
    assert isinstance(changed, BlockBatch)
    assert (changed.in_blocks, changed.replaced) == (("charge",), ("x",))
    assert all(list(block.values) == ["charge"] for block in changed.blocks(2))
    assert sorted(changed.rest(2).columns) == ["energy", "x"]
    assert changed.is_same(batch, "charge")
    assert not changed.is_same(batch, "x") or joiner.calls
    assert_same(changed, WHOLE.with_columns({"x": -WHOLE["x"]}))


def test_what_is_not_there(batch: BlockBatch, joiner: Joiner) -> None:
    with pytest.raises(SchemaError, match="has no column 'y'"):
        batch.select(["y"])
    with pytest.raises(SchemaError, match="has 4 frames"):
        batch.with_columns({"y": np.zeros(3)})
    assert "x" not in batch.select(["energy"])
    assert joiner.calls == []
