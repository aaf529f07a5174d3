"""The Müller-Brown potential and overdamped walkers on it, vectorised over the walkers.

References
----------
K. Müller and L. D. Brown, Theor. Chim. Acta 53, 75 (1979), doi:10.1007/BF00547608.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["MINIMA", "Walkers", "energy", "force"]

Array = npt.NDArray[np.float64]

_A = np.array([-200.0, -100.0, -170.0, 15.0])
_a = np.array([-1.0, -1.0, -6.5, 0.7])
_b = np.array([0.0, 0.0, 11.0, 0.6])
_c = np.array([-10.0, -10.0, -6.5, 0.7])
_X = np.array([1.0, 0.0, -0.5, -1.0])
_Y = np.array([0.0, 0.5, 1.5, 1.0])

_DRAWN = 4096  # steps whose noise is drawn at once

MINIMA = np.array([[-0.558224, 1.441726], [0.623499, 0.028038], [-0.050011, 0.466694]])
"""The three minima: the two deep ones, and the one between them."""


def energy(positions: npt.ArrayLike) -> Array:
    """Return the potential energy, shape (...,), at positions of shape (..., 2)."""
    p = np.asarray(positions, np.float64)
    x, y = p[..., :1] - _X, p[..., 1:] - _Y
    total: Array = (_A * np.exp(_a * x * x + _b * x * y + _c * y * y)).sum(-1)
    return total


def force(positions: npt.ArrayLike) -> Array:
    """Return the force, shape (..., 2), at positions of shape (..., 2)."""
    p = np.asarray(positions, np.float64)
    x, y = p[..., :1] - _X, p[..., 1:] - _Y
    terms = _A * np.exp(_a * x * x + _b * x * y + _c * y * y)
    out = np.empty_like(p)
    out[..., 0] = -(terms * (2 * _a * x + _b * y)).sum(-1)
    out[..., 1] = -(terms * (_b * x + 2 * _c * y)).sum(-1)
    return out


class Walkers:
    """Independent walkers in the overdamped limit, with unit mobility.

    Euler-Maruyama: ``x += force(x) dt + sqrt(2 kT dt) noise``. How the steps are cut into calls
    does not change the trajectory.

    Attributes
    ----------
    positions
        Shape (n, 2), float64.
    kT
        Thermal energy of each walker, shape (n,), in the potential's unit.
    steps
        Steps done so far.
    """

    def __init__(
        self,
        positions: npt.ArrayLike,
        *,
        kT: float = 15.0,
        dt: float = 1e-4,
        seed: int = 0,
        steps: int = 0,
    ) -> None:
        self.positions = np.array(positions, np.float64).reshape(-1, 2)
        self.kT = np.full(len(self.positions), float(kT))
        self.dt = dt
        self.steps = steps
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def time(self) -> float:
        """Simulated time."""
        return self.steps * self.dt

    def step(self, count: int) -> None:
        """Do so many steps."""
        p, dt = self.positions, self.dt
        scale = np.sqrt(2.0 * self.kT * dt)[:, None]
        for begin in range(0, count, _DRAWN):
            for noise in self._rng.standard_normal((min(_DRAWN, count - begin), *p.shape)):
                p += force(p) * dt + scale * noise
        self.steps += count

    def drop(self, row: int) -> None:
        """Take a walker out; the others keep their order."""
        self.positions = np.delete(self.positions, row, axis=0)
        self.kT = np.delete(self.kT, row)

    def place(self, row: int, position: Any) -> None:
        """Put a walker somewhere else."""
        self.positions[row] = position
