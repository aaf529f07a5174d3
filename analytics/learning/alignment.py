"""Stable coordinates: lay a new version's latent space on the old one's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.learning.model import AlignedBy
from analytics.reduction.matching import assign
from bridge.errors import ConfigError, CorruptData, SchemaError
from bridge.extras import needs

with needs("learning", "models that learn on the stream"):
    import torch
    from torch import Tensor

__all__ = ["Alignment", "align"]

Array = npt.NDArray[np.float64]

_NO_DIRECTION = 1e-9
"""Singular value, relative to the greatest possible, below which a direction says nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """A similarity of the latent space: z ↦ scale · z R + shift.

    Attributes
    ----------
    rotation
        R, float64 of shape (d, d), orthogonal; reflections are allowed.
    scale
        Greater than 0.
    shift
        float64 of shape (d,).
    """

    rotation: Tensor
    scale: float
    shift: Tensor

    @classmethod
    def identity(cls, d: int) -> Alignment:
        """Return the alignment of d coordinates that changes nothing."""
        return cls(torch.eye(d, dtype=torch.float64), 1.0, torch.zeros(d, dtype=torch.float64))

    def apply(self, z: Tensor) -> Tensor:
        """Return coordinates, shape (n, d), laid on the old ones; same type and device."""
        rotation, shift = self.rotation.to(z), self.shift.to(z)
        # Unlike a matrix product's, a row's last bits do not depend on the rows beside it.
        return (z.unsqueeze(1) * (self.scale * rotation).T).sum(2) + shift

    def to(self, device: torch.device | str) -> Alignment:
        """Return it on a device, for those who apply it often there."""
        return Alignment(self.rotation.to(device), self.scale, self.shift.to(device))

    def to_tensors(self) -> dict[str, Tensor]:
        """Return what `from_tensors` makes it from, to be stored beside the weights."""
        return {
            "rotation": self.rotation,
            "scale": torch.tensor(self.scale, dtype=torch.float64),
            "shift": self.shift,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Alignment:
        """Make it from what `to_tensors` returned.

        Raises
        ------
        CorruptData
            If these tensors are none.
        """
        try:
            made = cls(tensors["rotation"], float(tensors["scale"]), tensors["shift"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise CorruptData(
                f"The tensors of an alignment are wrong or missing: {error}."
            ) from None
        d = len(made.shift)
        if made.rotation.shape != (d, d) or not made.scale > 0:
            raise CorruptData(
                f"The tensors of an alignment do not fit: a rotation of shape "
                f"{tuple(made.rotation.shape)}, a shift of {d}, a scale of {made.scale}."
            )
        return made


def align(new: Any, old: Any, kind: AlignedBy = "rotation") -> Alignment:
    r"""Find the similarity that lays new coordinates of some frames on their old ones.

    With centred coordinates X (new) and Y (old), and :math:`X^T Y = U \Sigma V^T`,

    .. math:: R = U V^T, \qquad s = \lVert Y \rVert / \lVert X \rVert,
              \qquad t = \bar y - s \, \bar x R

    Parameters
    ----------
    new, old
        Real arrays of shape (n, d): in the same row, the coordinates of the same frame, the old
        ones as they were shown.
    kind
        ``"rotation"``: any orthogonal R. ``"signs"``: R only exchanges axes and turns their signs,
        so that each axis keeps its meaning; the assignment of the greatest total correlation.

    Returns
    -------
    Alignment
        To be applied to whatever the new version encodes.

    Raises
    ------
    ConfigError
        If there is no such kind.
    SchemaError
        If the shapes differ, there is no row, or a value is not finite.

    Notes
    -----
    Orthogonal Procrustes: Schönemann, Psychometrika 31, 1 (1966), doi:10.1007/BF02289451. The
    scale is not that of least squares, tr Σ / ‖X‖², which is the smaller the less the versions
    agree, so that the space would shrink with each refresh; this one keeps the anchors' spread.

    Directions in which the anchors say nothing (fewer of them than coordinates, a coordinate that
    is no longer used) are turned as little as possible. If new or old anchors lie all in one
    point, only the shift remains.
    """
    if kind not in ("rotation", "signs"):
        raise ConfigError(f"The kind of alignment is {kind!r}; it must be 'rotation' or 'signs'.")
    x, y = _checked(new, "new"), _checked(old, "old")
    if x.shape != y.shape:
        raise SchemaError(
            f"New coordinates of shape {x.shape} cannot be laid on old ones of shape {y.shape}; "
            "both must be of the same frames, in as many dimensions."
        )
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    size_x, size_y = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    known = size_x > 1e-12 * np.abs(mean_x).max() and size_y > 1e-12 * np.abs(mean_y).max()
    if not known:
        rotation, scale = np.eye(x.shape[1]), 1.0
    else:
        rotation = _rotation(x / size_x, y / size_y) if kind == "rotation" else _signs(x, y)
        scale = size_y / size_x
    shift = mean_y - scale * (mean_x @ rotation)
    return Alignment(torch.from_numpy(rotation), scale, torch.from_numpy(shift))


def _checked(z: Any, which: str) -> Array:
    z = np.asarray(z, np.float64)
    if z.ndim != 2 or 0 in z.shape:
        raise SchemaError(f"The {which} coordinates have the shape {z.shape}; it must be (n, d).")
    if not np.isfinite(z).all():
        raise SchemaError(
            f"The {which} coordinates of the anchors hold a value that is not finite."
        )
    return np.asarray(z)


def _rotation(x: Array, y: Array) -> Array:
    """Return the orthogonal matrix of the greatest tr(Rᵀ Xᵀ Y), nearest to 1 where that is free."""
    u, values, vt = np.linalg.svd(x.T @ y)
    rank = int((values > _NO_DIRECTION).sum())
    # The rest of both bases is arbitrary: join it so that it is turned as little as possible.
    free_u, free_v = u[:, rank:], vt[rank:].T
    a, _, bt = np.linalg.svd(free_u.T @ free_v)
    return np.ascontiguousarray(u[:, :rank] @ vt[:rank] + free_u @ (a @ bt) @ free_v.T)


def _signs(x: Array, y: Array) -> Array:
    """Return the signed permutation of the greatest total correlation of new and old axes."""
    d = x.shape[1]
    sizes = np.outer(np.linalg.norm(y, axis=0), np.linalg.norm(x, axis=0))
    between = y.T @ x
    overlap = np.divide(between, sizes, out=np.zeros((d, d)), where=sizes > 0)
    # Among equal sums, axes stay where they are.
    order = assign(np.abs(overlap) + 1e-9 * np.eye(d))
    signs = np.sign(overlap[np.arange(d), order])
    rotation = np.zeros((d, d))
    rotation[order, np.arange(d)] = np.where(signs == 0, 1.0, signs)
    return rotation
