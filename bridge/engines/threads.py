"""How many threads the numerical libraries of a worker take."""

from __future__ import annotations

import importlib
import logging
import os

__all__ = ["limit_threads"]

log = logging.getLogger(__name__)


def limit_threads(threads: int) -> None:
    """Let BLAS and OpenMP take at most so many threads in this process; 0 leaves them alone.

    Workers share a node, and their threads get in each other's way: a projection of 100,000 atoms
    was three times slower with two threads in each of two workers on two busy cores (290 frames/s,
    870 with one; see `bridge.engines.flink.beside`).
    """
    if not threads:
        return
    # For libraries that are loaded later, and for processes that this one starts.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
    try:
        # It limits, by the libraries' own functions, those that are loaded.
        importlib.import_module("threadpoolctl").threadpool_limits(threads)
    except ImportError:
        log.warning(
            "Numerical libraries take as many threads as there are cores in each worker; install "
            "threadpoolctl in the worker's environment, or set OMP_NUM_THREADS=%d.",
            threads,
        )
