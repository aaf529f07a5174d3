"""The dashboard beside a run: started once the run is under way, and never in its way.

It is no part of the run: the supervisor does not know of it, what happens to it is no failure, and
the run ends without it. Its process (`bridge.dashboard.process`) reads the run like anybody else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bridge.errors import HeadraceError
from bridge.runs.directory import RunDirectory
from bridge.runs.health import PARTS, has_part
from bridge.runs.processes import Process, describe_exit, last_lines

__all__ = ["ADDRESS_FILE", "Address", "Companion", "read_address"]

log = logging.getLogger(__name__)

MODULE = "bridge.dashboard.process"
ADDRESS_FILE = "dashboard.json"
"""In the folder of the run: where its dashboard listens; readable by its owner alone."""
RESTARTS = 3
WAITS = (0.5, 2.0, 5.0)
"""Seconds before the first, second and third restart."""
USAGE = 2
"""Exit code of a process whose configuration is to blame."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where the dashboard of a run listens.

    Attributes
    ----------
    url
        Address for the browser, with the token.
    port
        Its port.
    pid
        Its process.
    """

    url: str
    port: int
    pid: int


def read_address(directory: RunDirectory) -> Address | None:
    """Return where the dashboard of a run listens, or listened; None if it never did."""
    try:
        return msgspec.json.decode((directory.path / ADDRESS_FILE).read_bytes(), type=Address)
    except (OSError, msgspec.DecodeError):
        return None


class Companion:
    """The process of the dashboard; all calls return at once, but for `end`.

    Parameters
    ----------
    directory
        Folder of the run.
    base
        Working directory of the process.
    tell
        Called with a sentence, and how grave it is.
    """

    def __init__(
        self, directory: RunDirectory, base: str, tell: Callable[[str, str], None]
    ) -> None:
        self._directory = directory
        self._base = Path(base)
        self._tell = tell
        self._process: Process | None = None
        self._begun = False
        self._told = False
        self._restarts = 0
        self._again: float | None = None

    @property
    def pid(self) -> int | None:
        """Process id; None while there is none."""
        return None if self._process is None else self._process.pid

    def begin(self) -> None:
        """Start it, the first time that this is called."""
        if self._begun:
            return
        self._begun = True
        part = next(p for p in PARTS if p.extra == "dashboard")
        if not has_part(part):
            self._tell(
                "There will be no dashboard: its packages are not installed. "
                "Install them with: pip install 'headrace[dashboard]'.",
                "info",
            )
            return
        self._start()

    def look(self) -> None:
        """Tell its address once it listens, and start it again where it failed."""
        process = self._process
        if process is not None:
            if not self._told:
                self._look_for_address(process)
            code = process.poll()
            if code is not None:
                process.close()
                self._process = None
                self._note_exit(code)
        elif self._again is not None and time.monotonic() >= self._again:
            self._again = None
            self._start()

    def end(self, timeout: float) -> None:
        """Have it save its recording and end; killed at the time limit, in seconds."""
        self._begun, self._again = True, None
        process, self._process = self._process, None
        if process is None:
            return
        process.ask_to_stop()
        if not process.wait(timeout):
            log.warning("The dashboard did not end within %g s and was killed.", timeout)
            process.kill()
            process.wait(5.0)
        process.close()

    def _start(self) -> None:
        try:
            self._process = Process(
                "dashboard",
                MODULE,
                [str(self._directory.path)],
                log=self._directory.log("dashboard"),
                directory=self._base,
            )
        except HeadraceError as error:
            self._tell(f"There will be no dashboard: {error}", "warning")

    def _look_for_address(self, process: Process) -> None:
        found = read_address(self._directory)
        if found is not None and found.pid == process.pid:
            self._told = True
            self._tell(f"Dashboard: {found.url}", "log")

    def _note_exit(self, code: int) -> None:
        log.info("The dashboard %s.", describe_exit(code))
        if code == 0:
            return
        path = self._directory.log("dashboard")
        if code != USAGE and self._restarts < RESTARTS:
            self._again = time.monotonic() + WAITS[self._restarts]
            self._restarts += 1
            return
        said = (last_lines(path, 1) or [""])[0]
        self._tell(
            f"The dashboard {describe_exit(code)}; the run goes on without. {said}".rstrip(),
            "warning",
        )
