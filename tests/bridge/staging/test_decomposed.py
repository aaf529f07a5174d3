"""Decomposed frames handed out as blocks: each group reads its own, whatever became of others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridge.errors import CorruptSegment, ProtocolError
from bridge.schema import StreamSchema, Variable
from bridge.staging import Producer, Stager, StagerClient
from bridge.staging.block_share import share_of

RANKS, ROWS = 4, 12
SCHEMA = StreamSchema(
    (
        Variable("x", "<f8", (ROWS, 2), decomposed=True),
        Variable("energy", "<f8"),
        Variable("box", "<f8", (3,)),
    ),
    n_ranks=RANKS,
)


def put(address: str, *, steps: int = 3, migrating: bool = False, ranks: int = RANKS) -> np.ndarray:
    """Put frames in blocks of unlike size; returns ``x`` of all frames."""
    rng = np.random.default_rng(3)
    schema = StreamSchema(SCHEMA.variables, n_ranks=ranks)
    producers = [Producer("w", schema, address=address, rank=rank) for rank in range(ranks)]
    frames = rng.random((steps, ROWS, 2))
    for step, x in enumerate(frames):
        order = rng.permutation(ROWS) if migrating else np.arange(ROWS)
        cuts = np.sort(rng.integers(0, ROWS + 1, ranks - 1))
        for rank, ids in enumerate(np.split(order, cuts)):
            values = {"x": x[ids]}
            if rank == 0:
                values |= {"energy": np.float64(step + 0.5), "box": np.full(3, 2.0 + step)}
            start = 0 if migrating else int([0, *cuts][rank])
            producers[rank].put_block(
                step, step / 2, start, values, ids=ids if migrating else None, epoch=7
            )
    for producer in producers:
        producer.close()
    return frames


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("migrating", [True, False])
def test_groups_have_all_rows_together(stager: Stager, *, mapped: bool, migrating: bool) -> None:
    frames = put(stager.address, migrating=migrating)
    got = np.full_like(frames, np.nan)
    with StagerClient(stager.address, mapped=mapped) as client:
        for group in range(3):
            with client.fetch_blocks("frames/w", 0, share=(group, 3)) as fetched:
                assert not fetched.batches
                assert fetched.positions == {"frames/w": 3}
                for step, frame in enumerate(fetched.decomposed):
                    head = frame.head
                    assert (frame.offset, head.steps[0], head.epochs[0]) == (step, step, 7)
                    assert head.times[0] == step / 2
                    assert sorted(head.columns) == ["box", "energy"]
                    assert head["energy"].tolist() == [step + 0.5]
                    assert head["box"].tolist() == [[2.0 + step] * 3]
                    assert frame.in_order is not migrating
                    assert list(frame.blocks) == [[0], [1], [2, 3]][group]
                    for block in frame.blocks.values():
                        rows = slice(block.start, block.start + block.count)
                        got[step][rows if block.ids is None else block.ids] = block.values["x"]
    assert np.array_equal(got, frames)


@pytest.mark.parametrize("migrating", [True, False])
def test_all_blocks_make_the_frame(
    stager: Stager, client: StagerClient, *, migrating: bool
) -> None:
    frames = put(stager.address, migrating=migrating)
    with (
        client.fetch_blocks("frames/w", 0, share=(0, 1)) as blocks,
        client.fetch({"frames/w": 0}) as whole,
    ):
        for frame in blocks.decomposed:
            ours, theirs = frame.assembled(), whole.batches[0].take(slice(frame.offset, None))
            assert np.array_equal(ours["x"][0], frames[frame.offset])
            assert list(ours.columns) == list(theirs.columns)
            for name in ours.columns:
                assert np.array_equal(ours[name][0], theirs[name][0])


@pytest.mark.parametrize("mapped", [True, False])
def test_bytes_of_other_ranks_do_not_matter(tmp_path: Path, *, mapped: bool) -> None:
    with Stager("tcp://127.0.0.1:0", directory=tmp_path).start() as stager:
        frames = put(stager.address, steps=1)
        with StagerClient(stager.address, mapped=mapped) as client:
            with client.fetch_blocks("frames/w", 0, share=(0, 1)) as fetched:
                starts = {rank: b.start for rank, b in fetched.decomposed[0].blocks.items()}
                (last,) = [rank for rank, b in fetched.decomposed[0].blocks.items() if b.count][-1:]
            mark = frames[0][starts[last]].tobytes()
            assert damage(tmp_path, mark) == 1
            bad = next(g for g in range(2) if last in share_of(g, 2, RANKS))
            with pytest.raises(CorruptSegment, match="are damaged"):
                client.fetch_blocks("frames/w", 0, share=(bad, 2))
            with client.fetch_blocks("frames/w", 0, share=(1 - bad, 2)) as fetched:
                (frame,) = fetched.decomposed
                assert frame.nbytes < frames.nbytes
                assert last not in frame.blocks
            with pytest.raises(CorruptSegment, match="are damaged"):
                client.fetch({"frames/w": 0})


def damage(folder: Path, mark: bytes) -> int:
    """Change the first byte of what is marked, where it lies; returns how often it was found."""
    found = 0
    for segment in folder.rglob("*.segment"):
        at = segment.read_bytes().find(mark)
        if at >= 0:
            found += 1
            with segment.open("r+b") as file:
                file.seek(at)
                file.write(bytes([mark[0] ^ 1]))
    return found


def test_a_stream_of_one_rank_comes_in_batches(stager: Stager, client: StagerClient) -> None:
    frames = put(stager.address, ranks=1)
    with client.fetch_blocks("frames/w", 1, share=(1, 2)) as fetched:
        assert not fetched.decomposed
        assert np.array_equal(fetched.batches[0]["x"], frames[1:])


def test_bytes_are_counted_by_share(stager: Stager, client: StagerClient) -> None:
    put(stager.address, steps=8)
    counts = []
    for groups in (1, 4):
        with client.fetch_blocks("frames/w", 0, share=(0, groups), max_bytes=500) as fetched:
            counts.append(len(fetched.decomposed))
    assert counts[0] < counts[1]


def test_groups_that_are_none_are_refused(stager: Stager, client: StagerClient) -> None:
    put(stager.address)
    with pytest.raises(ProtocolError, match="Group 2 of 2"):
        client.fetch_blocks("frames/w", 0, share=(2, 2))


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("groups", [1, 2, 3, 5, 8])
def test_shares_hold_everything_once(ranks: int, groups: int) -> None:
    seen: dict[int, list[float]] = {rank: [] for rank in range(ranks)}
    for group in range(groups):
        share = share_of(group, groups, ranks)
        assert share.stop > share.first
        assert share.parts == 1 or share.stop == share.first + 1
        for rank in range(share.first, share.stop):
            seen[rank].append(share.part)
            assert rank in share
    for rank, parts in seen.items():
        share = next(s for g in range(groups) if rank in (s := share_of(g, groups, ranks)))
        assert parts == list(range(share.parts))
