"""Which blocks of a decomposed frame one of several workers reads."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.schema import StreamSchema

__all__ = ["BlockShare", "is_decomposed", "share_of"]


@dataclass(frozen=True, slots=True)
class BlockShare:
    """What one group of several is given of a frame.

    Attributes
    ----------
    first, stop
        Ranks whose blocks it reads.
    part, parts
        Which of how many parts of their rows are its own; more than one part only where there are
        fewer ranks than groups, and several groups share one block.
    """

    first: int
    stop: int
    part: int = 0
    parts: int = 1

    def __contains__(self, rank: int) -> bool:
        return self.first <= rank < self.stop


def share_of(group: int, groups: int, ranks: int) -> BlockShare:
    """Return the share of one group: whole blocks if there are enough, else part of one."""
    if ranks >= groups:
        return BlockShare(group * ranks // groups, (group + 1) * ranks // groups)
    rank = group * ranks // groups
    first, stop = -(-rank * groups // ranks), -(-(rank + 1) * groups // ranks)
    return BlockShare(rank, rank + 1, group - first, stop - first)


def is_decomposed(schema: StreamSchema) -> bool:
    """Return whether the frames of a stream are made of the blocks of several ranks."""
    return schema.n_ranks > 1 and any(v.decomposed for v in schema.variables)
