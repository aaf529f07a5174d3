"""Processes that train together: gradients inside a group, parameters between groups.

Inside a group, gradients are averaged at each update (synchronous, data-parallel). Groups average
their parameters now and then without waiting for each other, after Coquelin et al., DASO: J. Big
Data 9, 14 (2022), doi 10.1186/s40537-021-00556-1: a group sends its parameters, trains on, and
blends what has come with what it has by then.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bridge.errors import ConfigError, EngineError
from bridge.extras import needs

with needs("learning", "training in several processes"):
    import torch
    import torch.distributed as dist
    from torch import Tensor

    from analytics.learning.distributed.memory import SharedSums, meet_in_memory

__all__ = ["Place", "Team"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A worker's place in its team.

    Attributes
    ----------
    rank, size
        Number of the worker, from 0, and of all workers.
    groups
        Groups that average asynchronously; 1 for one that is synchronous as a whole.
    host, port
        Where worker 0 listens, to bring all together.
    timeout
        Seconds that a worker is waited for.
    shares_memory
        Whether workers of one machine bring their gradients together in memory that they share.
    """

    rank: int
    size: int
    groups: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    timeout: float = 120.0
    shares_memory: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size or not 1 <= self.groups <= self.size:
            raise ConfigError(
                f"Worker {self.rank} of {self.size} in {self.groups} groups is no place in a team."
            )

    @property
    def group(self) -> int:
        """Number of the worker's group."""
        return self.rank * self.groups // self.size

    def members(self, group: int) -> list[int]:
        """Return the ranks of a group."""
        return [r for r in range(self.size) if r * self.groups // self.size == group]


class Team:
    """What workers do together; all make the same calls in the same order.

    Every call waits at most `Place.timeout` seconds for the others, and then says for whom. One
    thread uses it.

    Attributes
    ----------
    weight
        That all batches of the last `reduce` had together.

    Parameters
    ----------
    place
        Of this worker.
    device
        Where tensors lie: gloo brings those on the CPU together, NCCL those on GPUs.

    Raises
    ------
    EngineError
        If workers do not come, or cannot be reached.
    """

    def __init__(self, place: Place, device: torch.device | str = "cpu") -> None:
        self.place = place
        self.device = torch.device(device)
        self.weight = 0.0
        self._sums: SharedSums | None = None
        self._sum: Tensor | None = None
        self._counts: dict[str, int] = {}
        limit = timedelta(seconds=place.timeout)
        if place.host in ("127.0.0.1", "localhost", "::1"):
            # gloo listens at the address of the machine's name otherwise.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        self._store = _meet(place, limit)
        with self._together():
            dist.init_process_group(
                "nccl" if self.device.type == "cuda" else "gloo",
                store=dist.PrefixStore("team", self._store),  # type: ignore[attr-defined]
                rank=place.rank, world_size=place.size, timeout=limit,
            )  # fmt: skip
            # Everybody makes every group, in the same order.
            groups = [dist.new_group(place.members(g)) for g in range(place.groups)]
            self._heads = [place.members(g)[0] for g in range(place.groups)]
            self._leaders = dist.new_group(self._heads)
        self._group = groups[place.group]
        self.members = place.members(place.group)
        self.is_leader = place.rank == self.members[0]

    @contextlib.contextmanager
    def _together(self, what: str = "all", ranks: Sequence[int] = ()) -> Iterator[None]:
        """Say who is waited for where something that needs several workers fails.

        Each worker counts what it has come to in the store that all share; who has come less far is
        who is waited for.
        """
        place, count = self.place, self._counts.get(what, 0) + 1
        self._counts[what] = count
        try:
            self._store.set(f"{what} {place.rank}", str(count))
            yield
        except RuntimeError as error:
            late = self._who_is_late(what, ranks or range(place.size), count)
            whom = f"worker {', '.join(map(str, late))}" if late else "another worker"
            raise EngineError(
                f"Worker {place.rank} of {place.size} waited up to {place.timeout:g} s for {whom} "
                f"in vain, which has ended or is too slow: {str(error).splitlines()[0]}. Look at "
                "its log; the training goes on from its checkpoint when it is started again."
            ) from error

    def _who_is_late(self, what: str, ranks: Sequence[int], count: int) -> list[int]:
        late = []
        for rank in ranks:
            try:
                key = f"{what} {rank}"
                here = self._store.check([key]) and int(self._store.get(key)) >= count
            except (RuntimeError, ValueError):
                return [0]  # with worker 0, the place to ask is gone
            if not here:
                late.append(rank)
        return late

    # ------------------------------------------------------------------ group

    def total(self, values: Sequence[float], *, everybody: bool = False) -> list[float]:
        """Return the sums of some numbers over the group, or over everybody."""
        numbers = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        with self._together() if everybody else self._together("group", self.members):
            dist.all_reduce(numbers, group=None if everybody else self._group)
        return [float(n) for n in numbers.cpu()]

    def most(self, values: Sequence[float]) -> list[float]:
        """Return the maxima of some numbers over everybody."""
        numbers = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        with self._together():
            dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return [float(n) for n in numbers.cpu()]

    def reduce(self, parameters: Sequence[torch.nn.Parameter], loss: float, weight: float) -> float:
        """Average gradients over the group, in place, and return the average loss.

        Parameters
        ----------
        parameters
            Their gradients are replaced; None counts as zeros.
        loss
            Of this worker's batch.
        weight
            Of this worker; 0 if it has no batch. Where nobody has one, the loss is not a number.
        """
        if len(self.members) == 1:
            self.weight = weight
            return loss if weight else float("nan")
        parts = [
            (p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1) for p in parameters
        ]
        numel = sum(len(part) for part in parts)
        flat = self._sum
        if flat is None or len(flat) != numel:
            flat = self._sum = torch.empty(numel, dtype=parts[0].dtype, device=self.device)
            self._meet_in_memory(parts, numel)
        # No word to the store: it would cost as much as the reduction itself.
        try:
            if self._sums is not None:
                loss, total = self._sums.total(parts, weight, (loss * weight, weight), flat)
            else:
                loss, total = self._total(parts, weight, loss, flat)
        except RuntimeError:
            with self._together("group", self.members):
                raise
        self.weight = total
        if total:
            flat /= total
        at = 0
        for parameter in parameters:
            n = parameter.numel()
            parameter.grad = flat[at : at + n].view_as(parameter)
            at += n
        return loss / total if total else float("nan")

    def _total(
        self, parts: Sequence[Tensor], weight: float, loss: float, out: Tensor
    ) -> tuple[float, float]:
        """Sum gradients over the group; return the sums of losses and of weights."""
        numbers = torch.tensor([loss * weight, weight], dtype=out.dtype, device=self.device)
        both = torch.cat([*parts, numbers])
        if weight != 1.0:
            both[:-2] *= weight
        dist.all_reduce(both, group=self._group)
        out.copy_(both[:-2])
        summed, total = (float(n) for n in both[-2:])
        return summed, total

    def _meet_in_memory(self, parts: Sequence[Tensor], numel: int) -> None:
        """Share memory with the rest of the group, if all are on one machine."""
        if self._sums is not None:
            self._sums.close()
            self._sums = None
        place = self.place
        plain = all(part.dtype == torch.float32 and part.device.type == "cpu" for part in parts)
        if plain and place.shares_memory:
            index, size = self.members.index(place.rank), len(self.members)
            self._sums = meet_in_memory(
                index, size, numel, gather=self.gather, timeout=place.timeout
            )

    def share(self, tensors: Sequence[Tensor], source: int) -> None:
        """Give everybody the tensors of one worker, in place."""
        with self._together():
            for tensor in tensors:
                dist.broadcast(tensor, source)

    def share_in_group(self, tensor: Tensor) -> None:
        """Give the group a tensor of its leader, in place."""
        with self._together("group", self.members):
            dist.broadcast(tensor, self.members[0], group=self._group)

    def gather(self, data: bytes) -> list[bytes]:
        """Return what each worker of the group gives."""
        mine = self.place.rank
        sizes = self.total([len(data) if rank == mine else 0 for rank in self.members])
        found = []
        for rank, size in zip(self.members, sizes, strict=True):
            tensor = torch.zeros(int(size), dtype=torch.uint8, device=self.device)
            if rank == mine and data:
                tensor.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
            with self._together("group", self.members):
                dist.broadcast(tensor, rank, group=self._group)
            found.append(tensor.cpu().numpy().tobytes())
        return found

    # ---------------------------------------------------------------- between

    def send(self, vector: Tensor) -> Any:
        """Begin to sum a vector over the leaders, in place; see `wait_for`."""
        return dist.all_reduce(vector, group=self._leaders, async_op=True)

    def wait_for(self, work: Any) -> None:
        """Wait for a sum that was begun; ``work.is_completed()`` tells if one need not."""
        with self._together("exchange", self._heads):
            work.wait()

    def close(self) -> None:
        """Leave the team."""
        if self._sums is not None:
            self._sums.close()
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


def _meet(place: Place, limit: timedelta) -> Any:
    """Return the store that all share; worker 0 keeps it, and listens at its address alone."""
    descriptor = None
    try:
        if place.rank == 0:
            # Torch itself would listen at all addresses of the machine.
            family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
            with socket.socket(family) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((place.host, place.port))
                listener.listen(max(128, place.size))
                descriptor = listener.detach()
        return dist.TCPStore(  # type: ignore[attr-defined]
            place.host, place.port, None, is_master=place.rank == 0, timeout=limit,
            wait_for_workers=False, master_listen_fd=descriptor,
        )  # fmt: skip
    except (RuntimeError, ValueError, OSError) as error:
        what = "cannot listen" if place.rank == 0 else "cannot reach worker 0"
        raise EngineError(
            f"Worker {place.rank} {what} at {place.host}:{place.port}: "
            f"{str(error).splitlines()[0].rstrip('.')}. Name a free port of worker 0's machine "
            "with --rendezvous, and start worker 0."
        ) from error
