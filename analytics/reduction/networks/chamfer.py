"""How far point clouds are from each other."""

from __future__ import annotations

import torch
from torch import Tensor

from bridge.errors import SchemaError

__all__ = ["chamfer", "indexed"]


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the Chamfer distance of clouds; the order of points does not matter.

    .. math:: \frac{1}{p} \sum_i \min_j \lVert a_i - b_j \rVert^2
              + \frac{1}{q} \sum_j \min_i \lVert a_i - b_j \rVert^2

    Parameters
    ----------
    a, b
        Shape (n, p, 3) and (n, q, 3).

    Returns
    -------
    Tensor
        Shape (n,), in the unit of the coordinates, squared. Memory of 4 n p q numbers.

    Notes
    -----
    Fan, Su and Guibas, CVPR (2017), doi:10.1109/CVPR.2017.264. Differences are squared one by one:
    exact for points that are close together, safe with autocast, and with gradients that are the
    same every time on every device.
    """
    squares = sum(
        (a[:, :, None, axis] - b[:, None, :, axis]).square() for axis in range(a.shape[2])
    )
    assert isinstance(squares, torch.Tensor)
    return squares.amin(2).mean(1) + squares.amin(1).mean(1)


def indexed(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared distance of points of the same index, shape (n,).

    Raises
    ------
    SchemaError
        If the clouds differ in size.
    """
    if a.shape != b.shape:
        raise SchemaError(
            f"Clouds of shapes {tuple(a.shape)} and {tuple(b.shape)} have no points of the same "
            "index; use the Chamfer distance."
        )
    return (a - b).square().sum(2).mean(1)
