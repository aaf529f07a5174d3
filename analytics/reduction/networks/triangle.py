"""Symmetric maps as images, from the packed upper triangle and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bridge.errors import ConfigError

__all__ = ["Triangle"]


class Triangle(nn.Module):
    """Turn packed pairs into symmetric images, and images into packed pairs.

    Parameters
    ----------
    pairs
        Number of pairs, P: those of particles i and j with j − i ≥ `min_separation`, row by row,
        as `analytics.features.contacts.ContactMap` gives them.
    min_separation
        As there. Pairs that are nearer in the list are 1 in the image.

    Attributes
    ----------
    side
        Number of particles, N: P = m (m + 1) / 2 with m = N − min_separation.

    Raises
    ------
    ConfigError
        If there is no such N.
    """

    places: Tensor
    order: Tensor

    def __init__(self, pairs: int, min_separation: int) -> None:
        super().__init__()
        m = (math.isqrt(8 * pairs + 1) - 1) // 2
        if pairs < 1 or m * (m + 1) // 2 != pairs:
            raise ConfigError(
                f"A contact map of {pairs} packed pairs is no upper triangle: that has "
                f"m (m + 1) / 2 pairs, for example {m * (m + 1) // 2} or "
                f"{(m + 1) * (m + 2) // 2}. Give all pairs of one list of particles, or maps of "
                "shape (N, N)."
            )
        self.side = m + min_separation
        rows, columns = torch.triu_indices(self.side, self.side, min_separation)
        places = torch.full((self.side, self.side), pairs)
        places[rows, columns] = torch.arange(pairs)
        places[columns, rows] = torch.arange(pairs)
        # They follow from the two numbers, so they are not stored.
        self.register_buffer("places", places.flatten(), persistent=False)
        self.register_buffer("order", rows * self.side + columns, persistent=False)

    def unpack(self, packed: Tensor) -> Tensor:
        """Return images of shape (n, 1, N, N) from shape (n, P)."""
        filled = nn.functional.pad(packed, (0, 1), value=1.0)
        return filled[:, self.places].reshape(-1, 1, self.side, self.side)

    def pack(self, image: Tensor) -> Tensor:
        """Return shape (n, P): the mean of both halves of images of shape (n, 1, N, N)."""
        both = 0.5 * (image + image.mT)
        return both.flatten(1)[:, self.order]
