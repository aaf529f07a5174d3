"""What to say to somebody who named a folder that no run has written."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from bridge.errors import ConfigError
from bridge.runs.directory import RunDirectory

__all__ = ["require_run"]

_SHOWN = 3


def require_run(directory: RunDirectory, *, over: bool = False) -> None:
    """Make sure that a folder is that of a run.

    Parameters
    ----------
    directory
        As it was named.
    over
        Whether the run must be over, too.

    Raises
    ------
    ConfigError
        If it is not; with what was expected where, and the runs that are near.
    """
    path = directory.path
    if directory.resolved.is_file():
        if over and not directory.report.is_file():
            raise ConfigError(
                f"{directory.why_missing(directory.report)} Wait until it is over; or write what "
                f"there is so far as a page, with headrace report {path} --html FILE."
            )
        return
    near = _runs_near(path)
    if near:
        more = f" and {len(near) - _SHOWN} more" if len(near) > _SHOWN else ""
        advice = f"Runs are in {', '.join(map(str, near[:_SHOWN]))}{more}; name one of them."
    else:
        advice = (
            "Name the folder that headrace run printed: runs/NAME where it was started, unless "
            "--output or the run.toml named another."
        )
    raise ConfigError(f"{directory.why_missing(directory.resolved)} {advice}")


def _runs_near(path: Path) -> list[Path]:
    """Return folders of runs above, beside and below a path, those that were begun last first."""
    above = next((p for p in (path, *path.parents) if p.is_dir()), path)
    found: dict[Path, float] = {}
    for folder in (above, above / "runs", above.parent, Path("runs").absolute()):
        with suppress(OSError):
            for one in (folder, *folder.iterdir()):
                mark = RunDirectory(one).resolved
                if one.is_dir() and mark.is_file():
                    found[one] = mark.stat().st_mtime
    return sorted(found, key=lambda one: -found[one])
