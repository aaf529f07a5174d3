"""Blocks whose rows are in any order, and blocks that do not have each row once."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.errors import CorruptSegment, SchemaError
from bridge.schema import StreamSchema, Variable
from bridge.staging import Producer, Stager, StagerClient

VARIABLES = (
    Variable("x", "<f4", (6, 3), decomposed=True),
    Variable("kind", "|u1", (6,), decomposed=True),
    Variable("nothing", "<f8", (6, 0), decomposed=True),
    Variable("energy", "<f8"),
)


def values(ids: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "x": np.repeat(ids, 3).reshape(-1, 3).astype(np.float32),
        "kind": ids.astype(np.uint8),
        "nothing": np.empty((len(ids), 0)),
    }


def put(stager: Stager, blocks: list[np.ndarray]) -> None:
    schema = StreamSchema(VARIABLES, n_ranks=len(blocks))
    for rank, ids in enumerate(blocks):
        with Producer("w", schema, address=stager.address, rank=rank) as producer:
            more = {"energy": np.float64(7)} if rank == 0 else {}
            producer.put_block(3, 1.5, 0, {**values(ids), **more}, ids=ids)


@pytest.mark.parametrize(
    "blocks", [[[5, 0, 3, 1, 2, 4]], [[5, 0], [3, 1, 2, 4]], [[], [5, 4, 3, 2, 1, 0]]]
)
def test_rows_come_out_in_order(
    stager: Stager, client: StagerClient, blocks: list[list[int]]
) -> None:
    put(stager, [np.array(b, np.int64) for b in blocks])
    with client.fetch({"frames/w": 0}) as got:
        (batch,) = got.batches
        for name, expected in values(np.arange(6)).items():
            assert np.array_equal(batch[name][0], expected), name
        assert (batch["energy"][0], batch.steps[0], batch.times[0]) == (7.0, 3, 1.5)


def test_a_row_that_comes_twice_is_told(stager: Stager, client: StagerClient) -> None:
    said = r"step 3 of frames/w .*: row 2 is in that of ranks 0 and 1, row 3 in none\. .* dropped"
    with pytest.raises(SchemaError, match=said):
        put(stager, [np.array([0, 1, 2], np.int64), np.array([2, 4, 5], np.int64)])
    status = client.status("frames/w")
    assert (status.end, status.dropped) == (0, 1)


def test_later_a_row_that_comes_twice_is_told_to_readers(
    stager: Stager, client: StagerClient
) -> None:
    schema = StreamSchema(VARIABLES, n_ranks=2)
    for rank, then in enumerate(([0, 1, 2], [2, 4, 5])):
        with Producer("w", schema, address=stager.address, rank=rank) as producer:
            more = {"energy": np.float64(7)} if rank == 0 else {}
            for step, ids in (3, np.arange(3 * rank, 3 * rank + 3)), (4, np.array(then)):
                producer.put_block(step, 1.5, 0, {**values(ids), **more}, ids=ids)
    with client.fetch({"frames/w": 0}, max_frames=1) as got:
        assert got.batches[0].steps.tolist() == [3]
    with pytest.raises(CorruptSegment, match=r"step 4 of frames/w, offset 1, .* row 3 is in none"):
        client.fetch({"frames/w": 1})


def test_blocks_that_overlap_are_told(stager: Stager, client: StagerClient) -> None:
    schema = StreamSchema(VARIABLES, n_ranks=2)
    with Producer("w", schema, address=stager.address) as producer:
        producer.put_block(3, 1.5, 0, {**values(np.arange(3)), "energy": np.float64(7)})
    with (
        pytest.raises(SchemaError, match="row 0 is in that of ranks 0 and 1, row 3 in none"),
        Producer("w", schema, address=stager.address, rank=1) as producer,
    ):
        # As if it counted its own.
        producer.put_block(3, 1.5, 0, values(np.arange(3)))


@pytest.mark.parametrize(
    ("ids", "told"), [([0, 6], "rows from 0 to 6"), ([-1, 3], "rows from -1 to 3")]
)
def test_rows_that_no_frame_has_are_refused(stager: Stager, ids: list[int], told: str) -> None:
    schema = StreamSchema(VARIABLES, n_ranks=2)
    with Producer("w", schema, address=stager.address, rank=1) as producer:
        with pytest.raises(SchemaError, match=told):
            producer.put_block(1, 0.0, 0, values(np.array(ids) % 6), ids=np.array(ids))
        with pytest.raises(SchemaError, match="does not declare"):
            producer.put_block(1, 0.0, 0, {**values(np.arange(2)), "y": np.zeros(2)})


def test_the_only_blocks_ids_name_each_row(stager: Stager) -> None:
    schema = StreamSchema(VARIABLES)
    with Producer("w", schema, address=stager.address) as producer:
        ids = np.array([0, 1, 2, 3, 4, 4])
        with pytest.raises(SchemaError, match="do not name each of its 6 rows once"):
            producer.put_block(1, 0.0, 0, {**values(ids), "energy": np.float64(0)}, ids=ids)
