"""An environment in an archive, for the workers of a cluster, and a pipeline that tells of it."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

import numpy as np

from bridge.frames import FrameBatch
from bridge.pipeline import Context, FrameOperator, Pipeline

__all__ = ["make_archive", "make_pipeline"]

_MARK = "TEST_ENVIRONMENT_UNPACKED"


class Told(FrameOperator):
    """Adds whether the worker's Python is the one in the archive."""

    def process(self, batch: FrameBatch, context: Context) -> FrameBatch:
        return batch.with_columns({"archived": np.full(len(batch), _MARK in os.environ)})


def make_pipeline() -> Pipeline:
    """Return the pipeline."""
    return Pipeline("archived", [("told", Told())])


def make_archive(folder: Path) -> Path:
    """Pack an environment whose interpreter is this one, and says so."""
    python = folder / "packed" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexport {_MARK}=1\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    archive = folder / "environment.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        out.add(python.parent, "bin")
    return archive
