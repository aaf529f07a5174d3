"""Versions of models, loaded once a process."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from analytics.inference.encoder import Encoder
from analytics.inference.ways import Way
from analytics.learning.resting import rest

__all__ = [
    "Loading",
    "RegistryLike",
    "forget_encoders",
    "load_encoder",
    "loading_statistics",
]

_KEPT = 16  # versions kept for whoever asks next; those in service are held by who serves them


class RegistryLike(Protocol):
    """What is needed of a registry; `analytics.learning.registry.Registry` is one."""

    folder: Any

    def load(self, version: str) -> Any:
        """Return model, alignment and card of a version."""

    def served(self, name: str) -> Any:
        """Return what is served under a name, with ``number`` and ``version``; None for nothing."""

    def at_number(self, name: str, number: int) -> Any:
        """Return what was served as a number."""

    def token(self, name: str) -> Any:
        """Return something that changes when the history of a name does."""


@dataclass(frozen=True, slots=True)
class Loading:
    """What was loaded in this process.

    Attributes
    ----------
    loaded
        Versions read and prepared.
    shared
        Times that one was asked for which was there already, or on its way.
    failed
        Versions that could not be loaded.
    fallbacks
        Times that something asked for (compilation, a precision) could not be had.
    """

    loaded: int
    shared: int
    failed: int
    fallbacks: int


_lock = threading.Lock()
_encoders: OrderedDict[tuple[Any, ...], Future[Encoder]] = OrderedDict()
_counts = {"loaded": 0, "shared": 0, "failed": 0, "fallbacks": 0}


def load_encoder(
    registry: RegistryLike, version: str, way: Way, *, errors: bool = False
) -> Encoder:
    """Return a version ready to answer; loaded and warmed up once a process for each way.

    Blocks until it is; whoever asks for one that another thread is loading waits for that.

    Raises
    ------
    ConfigError
        If the device is not there, or `errors` are wanted of a model without a decoder.
    HeadraceError
        What the registry raises for a version that is missing or damaged.
    """
    key = (os.path.abspath(registry.folder), version, way, errors)
    with _lock:
        found = _encoders.get(key)
        if found is not None:
            _encoders.move_to_end(key)
            _counts["shared"] += 1
        else:
            mine: Future[Encoder] = Future()
            _encoders[key] = mine
            while len(_encoders) > _KEPT:
                _encoders.popitem(last=False)
    if found is not None:
        return found.result()
    try:
        _limit_threads(way.threads)
        loaded = registry.load(version)
        rest()
        encoder = Encoder(loaded, version, way, errors=errors)
    except BaseException as error:
        with _lock:
            # Tried anew by who asks next.
            _encoders.pop(key, None)
            _counts["failed"] += 1
        mine.set_exception(error)
        raise
    with _lock:
        _counts["loaded"] += 1
        _counts["fallbacks"] += len(encoder.fallbacks)
    mine.set_result(encoder)
    return encoder


def loading_statistics() -> Loading:
    """Return what was loaded in this process so far."""
    with _lock:
        return Loading(**_counts)


def forget_encoders() -> None:
    """Let go of versions that nobody serves."""
    with _lock:
        _encoders.clear()


def _limit_threads(threads: int) -> None:
    """Give torch as many threads as were asked for, or as the engine set for its workers."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    wanted = threads or (int(told) if told.isdecimal() else 0)
    if wanted and torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)
