"""Where a restarted simulation goes on from: the state that a command carries or refers to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.codec import decode_state
from bridge.commands import Command, FrameReference
from bridge.errors import CommandRefused, HeadraceError
from bridge.frames import Frame

__all__ = ["read_restart"]

Shapes = Mapping[str, tuple[int, ...]]


def read_restart(
    command: Command,
    required: Shapes,
    read_frame: Callable[[FrameReference], Frame],
    *,
    optional: Shapes | None = None,
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the arrays of a restart, checked before the simulation is touched.

    Parameters
    ----------
    command
        A restart, with its state inline or a reference to a frame.
    required
        Name and shape of every array that must be there.
    read_frame
        How to look a frame up in staging; may take as long as its own time limit.
    optional
        Name and shape of arrays that are taken if they are there.

    Returns
    -------
    dict
        Name to float64 array; arrays that nobody asked for are left out.

    Raises
    ------
    CommandRefused
        If the state cannot be decoded, the frame is not there, or an array is missing, has
        another shape, is not real, or has a value that is not finite.
    """
    if command.state:
        origin = "The state that the command carries"
        try:
            values: Mapping[str, Any] = decode_state(command.state)
        except HeadraceError as error:
            raise CommandRefused(f"{origin} cannot be read: {error}") from error
    elif command.frame is not None:
        origin = f"Frame {command.frame.offset} of {command.frame.simulation!r}"
        try:
            values = read_frame(command.frame).values
        except HeadraceError as error:
            raise CommandRefused(f"{origin} cannot be read: {error}") from error
    else:
        raise CommandRefused("The restart names no frame and carries no state.")
    out = {}
    for name, shape in {**required, **(optional or {})}.items():
        if name in values:
            out[name] = _check(values[name], name, shape, origin)
        elif name in required:
            there = ", ".join(values) or "nothing"
            raise CommandRefused(f"{origin} has no {name!r}; it has {there}.")
    return out


def _check(value: Any, name: str, shape: tuple[int, ...], origin: str) -> npt.NDArray[np.float64]:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise CommandRefused(
            f"{origin} has {name!r} with dtype {array.dtype}; real numbers are needed."
        )
    if array.shape != shape:
        raise CommandRefused(
            f"{origin} has {name!r} with shape {array.shape}; this simulation needs {shape}."
        )
    out = np.array(array, np.float64)
    if not np.isfinite(out).all():
        raise CommandRefused(f"{origin} has {name!r} with values that are not finite.")
    return out
