"""What networks ask of frames and hyper-parameters, told in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bridge.errors import ConfigError, SchemaError

__all__ = [
    "check_count",
    "check_counts",
    "check_finite",
    "check_frames",
    "check_pairs",
    "check_positive",
    "check_shape",
]


def check_count(value: int, name: str, least: int = 1) -> int:
    """Return a hyper-parameter that must be a whole number of at least `least`."""
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ConfigError(f"{name!r} is {value!r}; it must be a whole number of at least {least}.")
    return int(value)


def check_counts(values: Sequence[int], name: str) -> list[int]:
    """Return a hyper-parameter that must be a list of whole numbers of at least 1."""
    if isinstance(values, (str, int, float)):
        raise ConfigError(f"{name!r} is {values!r}; it must be a list of whole numbers.")
    return [check_count(value, name) for value in values]


def check_positive(value: float, name: str, *, zero: bool = False) -> float:
    """Return a hyper-parameter that must be finite and greater than 0, or 0 where that is said."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        least = "0 or greater" if zero else "greater than 0"
        raise ConfigError(f"{name!r} is {value!r}; it must be a finite number {least}.")
    return float(value)


def check_shape(x: Tensor, shape: tuple[int, ...], who: str) -> None:
    """Raise a `SchemaError` unless these are frames of that shape; cheap, and can be exported."""
    if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != shape:
        wanted = ", ".join(["n", *map(str, shape)])
        raise SchemaError(
            f"The {who} was given frames of shape {tuple(x.shape)}; it was made for ({wanted})."
        )


def check_finite(x: Tensor, who: str) -> None:
    """Raise a `SchemaError` that names the first frame with a value that is not finite."""
    if not x.is_floating_point() or bool(torch.isfinite(x).all()):
        return
    bad = (~torch.isfinite(x.flatten(1))).any(1).nonzero()[0, 0]
    raise SchemaError(
        f"The {who} was given a value that is not finite, in frame {int(bad)} of {len(x)}; leave "
        "such frames out before it."
    )


def check_frames(x: Tensor, shape: tuple[int, ...], who: str, least: int = 1) -> None:
    """Raise a `SchemaError` unless these are enough frames of that shape, of finite values."""
    check_shape(x, shape, who)
    if len(x) < least:
        raise SchemaError(f"The {who} needs at least {least} frames at once and got {len(x)}.")
    check_finite(x, who)


def check_pairs(
    x: Tensor, y: Tensor | None, shape: tuple[int, ...], who: str, least: int = 1
) -> Tensor:
    """Return `y`, once both ends of the pairs are enough frames of that shape.

    Raises
    ------
    SchemaError
        If there is no `y`, or it does not fit `x`.
    """
    if y is None:
        raise SchemaError(
            f"The {who} learns from pairs of frames a lag time apart; give both ends."
        )
    check_frames(x, shape, who, least)
    check_frames(y, shape, who, least)
    if len(x) != len(y):
        raise SchemaError(f"The {who} was given {len(x)} frames and {len(y)} a lag time later.")
    return y
