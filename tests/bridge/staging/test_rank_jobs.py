"""Ranks of a job know each other, and join nothing that another job left half opened."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from bridge.errors import HeadraceError, SchemaError
from bridge.schema import StreamSchema, Variable
from bridge.staging import Producer, Stager
from bridge.staging.messages import StreamOptions

PAIR = StreamSchema((Variable("x", "<f8", (4,), decomposed=True),), n_ranks=2)
OPTIONS = StreamOptions(segment=32 << 10, capacity=1 << 20)


def begin(address: str, rank: int, job: str) -> Producer:
    return Producer("mpi", PAIR, address=address, rank=rank, options=OPTIONS, job=job)


@pytest.mark.parametrize("first", [0, 1])
def test_the_ranks_of_a_job_come_together(stager: Stager, first: int) -> None:
    # One rank alone of the job before opened the stream.
    with begin(stager.address, 0, "before") as old:
        assert old.resumed.incarnation == 1
        ranks = [begin(stager.address, rank, "after") for rank in (first, 1 - first)]
        assert [r.resumed.incarnation for r in ranks] == [2, 2]
        for rank in ranks:
            rank.close(finished=False)
        with contextlib.suppress(HeadraceError):
            old.close(finished=False)


def test_without_a_word_a_rank_joins_what_is_open(stager: Stager) -> None:
    with begin(stager.address, 0, "") as one, begin(stager.address, 1, "") as other:
        assert one.resumed.incarnation == other.resumed.incarnation == 1


def test_a_stager_that_is_started_anew_knows_the_job(tmp_path: Path) -> None:
    with Stager("tcp://127.0.0.1:0", directory=tmp_path, durable=True).start() as stager:
        address = stager.address
        old = begin(address, 0, "before")
    with Stager(address, directory=tmp_path, durable=True).start():
        with begin(address, 1, "after") as new:
            assert new.resumed.incarnation == 2
        with contextlib.suppress(HeadraceError):
            old.close(finished=False)


def test_a_word_that_cannot_be(stager: Stager) -> None:
    with pytest.raises(SchemaError, match="job"):
        begin(stager.address, 0, "a:b")
