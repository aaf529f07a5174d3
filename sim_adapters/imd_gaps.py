"""What IMD leaves out, above all version 2: atoms' names, the box, the length of a step."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError, MissingExtra
from bridge.schema import Topology

__all__ = ["Gaps", "make_box", "read_file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """What is known from elsewhere."""

    atoms: int | None = None
    """Number of atoms that the engine sends."""
    topology: Topology | None = None
    """Who they are."""
    box: npt.NDArray[np.float64] | None = None
    """Row vectors in nm, taken for constant where the session sends none."""
    timestep: float = 0.0
    """Length of a step in ps, where the session does not tell; 0 if it is not known."""
    start_time: float = 0.0
    """Time of step 0 in ps, for the same case."""
    every: int = 0
    """Steps between frames where the session does not number them; 0 if it is not known."""
    first_step: int = -1
    """Step of the first frame, for the same case; -1 for `every`."""
    energies: bool = False
    """Whether energies of version 2 will come, though the first frame may have none."""


def make_box(numbers: tuple[float, ...]) -> npt.NDArray[np.float64] | None:
    """Return row vectors in nm from 3 lengths, 6 lengths and angles in degrees, or 9 components.

    Raises
    ------
    ConfigError
        If there are as many as make no box.
    """
    if not numbers:
        return None
    given = np.asarray(numbers, np.float64)
    if len(given) == 3:
        box = np.diag(given)
    elif len(given) == 9:
        box = given.reshape(3, 3)
    elif len(given) == 6:
        box = _from_angles(given[:3], np.radians(given[3:]))
    else:
        raise ConfigError(
            f"The box has {len(given)} numbers; give 3 lengths in nm, 6 for lengths and angles in "
            "degrees, or the 9 components of its vectors."
        )
    if not np.isfinite(box).all() or np.linalg.det(box) <= 0:
        raise ConfigError(f"The box {list(numbers)} has no volume above 0.")
    return box


def _from_angles(
    lengths: npt.NDArray[np.float64], angles: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    cos_a, cos_b, cos_c = np.cos(angles)
    sin_c = np.sin(angles[2])
    y = (cos_a - cos_b * cos_c) / sin_c
    z = np.sqrt(max(0.0, 1.0 - cos_b**2 - y**2))
    unit = np.array([[1.0, 0.0, 0.0], [cos_c, sin_c, 0.0], [cos_b, y, z]])
    return unit * lengths[:, None]


def read_file(path: Path) -> tuple[Topology, npt.NDArray[np.float64] | None]:
    """Return atoms and box of a file, in any format of MDAnalysis.

    Raises
    ------
    MissingExtra
        Without MDAnalysis.
    ConfigError
        If the file does not exist or cannot be read.
    """
    try:
        import MDAnalysis

        from sim_adapters.replay import read_box, read_topology
    except (ImportError, MissingExtra) as error:
        raise MissingExtra("MDAnalysis", "mdanalysis", "reading a topology file") from error
    if not path.is_file():
        raise ConfigError(f"The topology {path} does not exist.")
    try:
        with warnings.catch_warnings():
            # A file of atoms alone will do.
            warnings.filterwarnings("ignore", "No coordinate reader found", UserWarning)
            universe: Any = MDAnalysis.Universe(str(path))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"MDAnalysis cannot read {path}: {error}.") from error
    topology = read_topology(universe.atoms)
    # Some formats name atoms alone.
    dimensions = universe.dimensions if hasattr(universe, "trajectory") else None
    return topology, None if dimensions is None else read_box(dimensions)
