"""Frames as files: PDB, XTC and CSV."""

from __future__ import annotations

import contextlib
import csv
import io
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError
from bridge.extras import needs
from bridge.runs.quantities import convert_time

__all__ = ["cell", "to_csv", "to_pdb", "to_xtc"]

Array = npt.NDArray[Any]

Placed = tuple[Array, Array | None, dict[str, Any]]
"""Positions in nm, vectors of the cell in nm, and what is told of the frame."""


def _word(text: Any, width: int) -> str:
    """Return printable ASCII of at most so many letters: a PDB file has columns, and no others."""
    kept = "".join(c for c in str(text) if "!" <= c <= "~")
    return kept[:width]


def cell(box: Array) -> tuple[float, float, float, float, float, float]:
    """Return lengths of the cell's vectors, in their unit, and angles in degrees."""
    a, b, c = np.asarray(box, np.float64)
    la, lb, lc = (float(np.linalg.norm(v)) for v in (a, b, c))

    def angle(u: Array, v: Array) -> float:
        norm = float(np.linalg.norm(u) * np.linalg.norm(v))
        return float(np.degrees(np.arccos(np.clip(u @ v / norm, -1, 1)))) if norm else 90.0

    return la, lb, lc, angle(b, c), angle(a, c), angle(a, b)


def to_pdb(topology: dict[str, Any], frames: Sequence[Placed]) -> bytes:
    """Return frames as a PDB file, one model each.

    Follows the PDB format 3.3 (wwPDB, 2008): coordinates in ångström, atom and residue numbers
    that wrap around where they have too many digits.

    Parameters
    ----------
    topology
        As `bridge.dashboard.molecule.describe` has it, of the same atoms.
    frames
        What to write.

    Raises
    ------
    ConfigError
        If a coordinate is not finite, or too large for the columns of the format.
    """
    lines: list[str] = []
    for number, (positions, box, about) in enumerate(frames, 1):
        told = (
            f"{_word(about.get('simulation', ''), 40)} frame {about.get('offset')} "
            f"step {about.get('step')}"
        )
        lines.append(f"REMARK   3 {told}"[:80])
        if box is not None and np.abs(box).sum() > 0:
            a, b, c, alpha, beta, gamma = cell(box * 10.0)
            lines.append(
                f"CRYST1{a:9.3f}{b:9.3f}{c:9.3f}{alpha:7.2f}{beta:7.2f}{gamma:7.2f} P 1           1"
            )
        lines.append(f"MODEL     {number % 10000:4d}")
        lines += _atoms(topology, positions)
        lines.append("ENDMDL")
    lines += _conect(topology)
    lines.append("END")
    return ("\n".join(lines) + "\n").encode("ascii")


def _atoms(topology: dict[str, Any], positions: Array) -> Iterable[str]:
    n = len(positions)
    names = topology["names"] or ["X"] * n
    elements = topology["elements"] or [""] * n
    residues = topology["residues"] or ["UNK"] * n
    numbers = topology["residue_ids"] or [1] * n
    angstrom = np.asarray(positions, np.float64) * 10.0
    _check_finite(angstrom)
    # A minus takes one of the eight columns.
    if angstrom.max(initial=0.0) >= 9999.9995 or angstrom.min(initial=0.0) <= -999.9995:
        raise ConfigError(
            "A coordinate of the frame is too large for the columns of a PDB file (from -999.999 "
            "to 9999.999 angstrom); export XTC instead."
        )
    for i, (x, y, z) in enumerate(angstrom):
        name, element = _word(names[i], 4) or "X", _word(elements[i], 2)
        # Elements of one letter begin in the second column of the name.
        shown = f" {name:<3}" if len(name) < 4 and len(element) < 2 else f"{name:<4}"
        residue = _word(residues[i], 3) or "UNK"
        yield (
            f"ATOM  {(i + 1) % 100000:5d} {shown} {residue:>3} A{int(numbers[i]) % 10000:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2}  "
        )


def _check_finite(positions: Array) -> None:
    if not np.isfinite(positions).all():
        raise ConfigError(
            "A coordinate of the frame is not finite: it was so in the simulation, or this atom "
            "was not recorded, as the frame has more atoms than are shown. Name fewer atoms, such "
            "as atoms=solute."
        )


def _conect(topology: dict[str, Any]) -> Iterable[str]:
    mates: dict[int, list[int]] = {}
    for a, b in topology["bonds"]:
        mates.setdefault(a, []).append(b)
        mates.setdefault(b, []).append(a)
    if len(topology["names"]) > 99_998:
        return
    for atom, others in sorted(mates.items()):
        for first in range(0, len(others), 4):
            some = "".join(f"{o + 1:5d}" for o in others[first : first + 4])
            yield f"CONECT{atom + 1:5d}{some}"


def to_xtc(frames: Sequence[Placed]) -> bytes:
    """Return frames as an XTC trajectory; its times are those of the frames, in ps.

    Raises
    ------
    ConfigError
        If there is no frame, or a coordinate is not finite.
    MissingExtra
        If MDAnalysis is not installed.
    """
    with needs("mdanalysis", "writing XTC files"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import MDAnalysis
    if not frames:
        raise ConfigError("No frames were named; name at least one.")
    n = len(frames[0][0])
    with (
        tempfile.TemporaryDirectory(prefix="headrace-") as folder,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        path = Path(folder) / "frames.xtc"
        universe = MDAnalysis.Universe.empty(n, trajectory=True)
        with MDAnalysis.Writer(str(path), n_atoms=n) as writer:
            for positions, box, about in frames:
                _check_finite(positions)
                universe.atoms.positions = np.asarray(positions, np.float32) * 10.0
                step = universe.trajectory.ts
                step.dimensions = None if box is None else np.array(cell(box * 10.0), np.float32)
                step.time = float(about.get("time") or 0.0)
                # Other units of time, such as those of Lennard-Jones, have no such length.
                with contextlib.suppress(ConfigError):
                    step.time = convert_time(step.time, str(about.get("time_unit", "")), "ps")
                step.data["step"] = int(about.get("step") or 0)
                writer.write(universe.atoms)
        return path.read_bytes()


def to_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Return a table as CSV (RFC 4180), UTF-8.

    Texts that a spreadsheet would take for formulas are given a leading apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([_tame(h) for h in header])
    for row in rows:
        writer.writerow([_tame(v) for v in row])
    return out.getvalue().encode()


def _tame(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
