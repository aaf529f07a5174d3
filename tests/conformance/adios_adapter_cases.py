"""Specimens whose link writes ADIOS2: read back by an ingest, or beside a stager."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from bridge.testing.adapters import PATIENCE, AdapterCase
from sim_adapters.link import Link, link
from tests.conformance.adapter_cases import Walk, link_case

__all__ = ["both_case", "ingest_case"]


class _Maker:
    """Makes specimens whose files lie in a folder that lasts as long as the case."""

    def __init__(self, kind: type[_Written]) -> None:
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-adios-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def __call__(self, name: str, address: str | None, **more: Any) -> Walk:
        if address is None:
            return Walk(name, None, **more)
        # A later life at the same stager goes on with the same file.
        path = self.folder / f"{name}-{address.rpartition(':')[2]}.bp"
        return self.kind(name, address, path, **more)


class _Written(Walk):
    """Writes a file by ADIOS2, and has a stager beside it."""

    def __init__(self, name: str, address: str, path: Path, **more: Any) -> None:
        self.path = path
        super().__init__(name, address, **more)

    def link(self, name: str, address: str, **more: Any) -> Link:
        return link(name, stager=address, transport="adios2", contact=self.path, **more)


class _Ingested(_Written):
    """Writes a file by ADIOS2, which another process puts into the stager; takes no commands."""

    def __init__(self, name: str, address: str, path: Path, **more: Any) -> None:
        self.sent = 0
        self.reading = threading.Event()
        self.reading.set()
        super().__init__(name, address, path, **more)

    def link(self, name: str, address: str, **more: Any) -> Link:
        from bridge.staging.adios import Ingest

        del more["capabilities"]
        out = link(name, transport="adios2", contact=self.path, **more)
        self.ingest = Ingest([str(self.path)], name, address=address, patience=PATIENCE)
        self.ended: list[BaseException | None] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        return out

    def _read(self) -> None:
        try:
            self.ingest.run(lambda: not self.reading.is_set())
        except BaseException as error:
            self.ended.append(error)
        else:
            self.ended.append(None)

    def advance(self, steps: int) -> bool:
        going = super().advance(steps)
        # So that there is a stream whose capabilities can be asked for.
        self._await(1)
        return going

    def _await(self, frames: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.ingest.frames < frames and not self.ended:
            assert time.monotonic() < deadline, f"{self.ingest.frames} of {frames} frames came."
            time.sleep(0.005)

    def close(self, *, finished: bool = True) -> None:
        assert self.stream is not None
        if self.reader.is_alive() and not finished:
            self._await(self.stream.output.statistics().frames)
            self.reading.clear()
            self.reader.join(PATIENCE)
        super().close(finished=finished)
        self.reader.join(PATIENCE)
        assert self.ended, f"The ingest did not end within {PATIENCE:.0f} s."
        if self.ended[0] is not None:
            raise self.ended[0]


def both_case() -> AdapterCase:
    """Return a link that writes ADIOS2 and has a stager beside it; all of the suite applies."""
    pytest.importorskip("adios2")
    return link_case(_Maker(_Written))


def ingest_case() -> AdapterCase:
    """Return a link that writes ADIOS2 alone, read by an ingest: it carries no commands."""
    pytest.importorskip("adios2")
    return AdapterCase(
        make=_Maker(_Ingested),
        units={"x": "nm", "energy": "kJ/mol"},
        timestep=Walk.dt,
        select=[1, 4],
        rows=[1, 4],
    )
