"""Sums over workers that share memory; here, workers are threads with real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from analytics.learning.distributed.memory import SharedSums, meet_in_memory

N = 1000


def together(size: int, work: Callable[[int, Callable[[bytes], list[bytes]]], Any]) -> list[Any]:
    """Let so many work at once, who can gather bytes, and return what they come to."""
    given: dict[int, bytes] = {}
    barrier = threading.Barrier(size)
    found: dict[int, Any] = {}

    def be(index: int) -> None:
        def gather(data: bytes) -> list[bytes]:
            given[index] = data
            barrier.wait(60)
            out = [given[i] for i in range(size)]
            barrier.wait(60)
            return out

        found[index] = work(index, gather)

    threads = [threading.Thread(target=be, args=(i,)) for i in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    return [found[i] for i in range(size)]


def meet(size: int, numel: int = N) -> list[SharedSums | None]:
    return together(
        size, lambda i, gather: meet_in_memory(i, size, numel, gather=gather, timeout=60.0)
    )


@pytest.mark.parametrize("size", [2, 3])
def test_all_get_the_same_sums_again_and_again(size: int) -> None:
    sums = meet(size)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(20, size, N, generator=generator)
    weights = [0.0, *[1.0] * (size - 1)]

    def work(index: int, gather: Callable[[bytes], list[bytes]]) -> list[tuple[Any, ...]]:
        mine = sums[index]
        assert mine is not None
        out = []
        for step in range(20):
            vector, summed = vectors[step, index], torch.empty(N)
            numbers = (float(step), weights[index])
            told = mine.total([vector[:300], vector[300:]], weights[index], numbers, summed)
            out.append((told, summed))
        return out

    found = together(size, work)
    for step in range(20):
        wanted = sum(w * v for w, v in zip(weights, vectors[step], strict=True))
        for each in found:
            told, summed = each[step]
            assert told == (size * step, size - 1)
            assert torch.equal(summed, found[0][step][1])
            torch.testing.assert_close(summed, wanted)
    for one in sums:
        assert one is not None
        one.close()


def test_who_has_ended_is_not_waited_for() -> None:
    first, second = meet(2)
    assert first is not None
    assert second is not None
    second.close()
    with pytest.raises(RuntimeError, match=r"closed|pipe|reset"):
        first.total([torch.ones(N)], 1.0, (0.0, 1.0), torch.empty(N))
    first.close()


def test_too_much_is_left_to_others() -> None:
    assert meet(2, 1 << 27) == [None, None]


def test_where_somebody_cannot_come_nobody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert meet(3) == [None, None, None]
