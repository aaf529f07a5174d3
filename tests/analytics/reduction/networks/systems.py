"""Trajectories whose slow modes are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analytics.learning.model import StreamModel

Array = npt.NDArray[np.float64]


def relaxations(n: int, seed: int = 0) -> Array:
    """Four mixed coordinates that relax with 0.95, 0.7, 0.3 and 0 a step, shape (n, 4)."""
    rng = np.random.default_rng(seed)
    rates = np.array([0.95, 0.7, 0.3, 0.0])
    x = np.zeros((n, 4))
    for i in range(1, n):
        x[i] = rates * x[i - 1] + np.sqrt(1 - rates**2) * rng.normal(size=4)
    return np.asarray(x @ rng.normal(size=(4, 4)) + np.array([3.0, -2.0, 100.0, 0.0]))


def two_states(n: int, seed: int = 0) -> tuple[Array, Array]:
    """Two states bent around each other, that no linear function of the frames tells apart.

    The model of Mardt et al. (2018): the frames, shape (n, 2), and the straight coordinates.
    """
    rng = np.random.default_rng(seed)
    state = np.cumsum(rng.random(n) < 0.05) % 2
    straight = rng.normal(size=(n, 2)) * np.array([6.0, 1.0])
    straight[:, 1] += np.where(state == 1, 4.0, 0.0)
    bent = straight.copy()
    bent[:, 1] += np.sqrt(np.abs(straight[:, 0])) * 2.0
    return bent, straight


def bins(straight: Array) -> Array:
    """Indicators of 26 bins of the straight coordinate that tells the states apart."""
    return np.asarray(np.eye(26)[np.digitize(straight[:, 1], np.linspace(-2.0, 6.0, 25))])


def tensor(x: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x)).float()


def train(
    model: StreamModel, x: Tensor, y: Tensor | None, *, updates: int, batch: int, rate: float
) -> None:
    """Prepare a model, train it on random batches, and settle it."""
    generator = torch.Generator().manual_seed(1)
    model.prepare(x)
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), rate)
    for _ in range(updates):
        rows = torch.randint(len(x), (batch,), generator=generator)
        loss, _ = model.loss(x[rows], None if y is None else y[rows], generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    model.settle(x, y)


def angle(a: Array, b: Array) -> float:
    """Return the greatest principal angle of two column spaces, in radians."""
    q, _ = np.linalg.qr(a)
    p, _ = np.linalg.qr(b)
    return float(np.arccos(np.clip(np.linalg.svd(q.T @ p)[1].min(), -1.0, 1.0)))
