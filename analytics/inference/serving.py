"""Which version of a name is served, followed by one thread for all operators of a process."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from analytics.inference.ways import Way
from bridge.errors import ConfigError, HeadraceError, PipelineError

if TYPE_CHECKING:
    from analytics.inference.encoder import Encoder
    from analytics.inference.loading import RegistryLike

__all__ = ["Served", "Serving", "open_registry", "serving_of"]

log = logging.getLogger(__name__)

Level = Literal["info", "warning"]

_OLD = 8  # versions kept for rows that are answered again
_REST = 0.01  # seconds between two steps of loading: some batches are answered in between


@dataclass(frozen=True, slots=True)
class Served:
    """A version in service.

    Attributes
    ----------
    number
        In the history of the name, from 1.
    version
        Its content id.
    encoder
        What answers.
    """

    number: int
    version: str
    encoder: Encoder


def open_registry(folder: str) -> RegistryLike:
    """Return the registry in a folder."""
    from analytics.learning.registry import Registry

    return Registry(Path(folder))


class Serving:
    """Follows what a registry serves under a name; any thread may use it.

    Versions are loaded and warmed up in a thread of their own while the one before serves. Numbers
    never go back: a rollback has a number of its own.

    Parameters
    ----------
    registry
        Where versions are.
    name
        Which model.
    way
        How to run it.
    errors
        Whether errors of reconstruction are wanted.
    latent
        Number of coordinates that a version must have; 0 for any.
    poll
        Seconds between looks at the registry, at least.
    """

    def __init__(
        self,
        registry: RegistryLike,
        name: str,
        way: Way,
        *,
        errors: bool = False,
        latent: int = 0,
        poll: float = 0.2,
    ) -> None:
        self.registry = registry
        self.name = name
        self._way = way
        self._errors = errors
        self._latent = latent
        self._poll = poll
        self._lock = threading.Lock()
        self._current: Served | None = None
        self._token: Any = None
        self._looked = -float("inf")
        self._thread: threading.Thread | None = None
        self._old: dict[int, Served] = {}
        self._notices: deque[tuple[str, Level, str]] = deque()
        self._refused: set[int] = set()
        self._told: set[str] = set()
        self.swaps = 0

    # ------------------------------------------------------------------ in service

    def current(self) -> Served | None:
        """Return what is in service; None while nothing was promoted, or could be loaded.

        Looks at the registry, at most each `poll` seconds. The first version is waited for; later
        ones are loaded beside, and are in service at a later call.
        """
        now = time.monotonic()
        if now - self._looked >= self._poll:
            self._looked = now
            self._look()
        return self._current

    def wait(self, seconds: float) -> Served | None:
        """Return what is in service; wait up to some seconds until there is something."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.current()
            left = deadline - time.monotonic()
            if found is not None or left <= 0:
                return found
            time.sleep(min(0.05, left))
            self._looked = -float("inf")

    def settle(self, timeout: float = 60.0) -> Served | None:
        """Look at once, wait until what is being loaded is there, and return what is in service."""
        self._looked = time.monotonic()
        self._look()
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return self._current

    def at(self, number: int) -> Served:
        """Return what was in service as a number, loading it if need be.

        Raises
        ------
        PipelineError
            If it cannot be loaded any more: rows that it answered cannot be answered again.
        """
        current = self._current
        if current is not None and current.number == number:
            return current
        with self._lock:
            found = self._old.get(number)
        if found is None:
            try:
                version = self.registry.at_number(self.name, number).version
                found = self._load(number, version)
            except (HeadraceError, OSError, LookupError) as error:
                raise PipelineError(
                    f"Frames that number {number} of the model {self.name!r} answered must be "
                    f"answered again, and it cannot be loaded: {str(error).rstrip('.')}. Bring the "
                    f"version back into the registry {self.registry.folder}, or begin anew "
                    "without the checkpoint and the ledger."
                ) from error
            self._remember(found)
        return found

    def is_sound(self, number: int) -> bool:
        """Tell whether what was in service as a number can still serve; it is then loaded."""
        try:
            found = self.at(number)
            if self._current is not None:
                self._check_input(found, self._current)
        except (PipelineError, ConfigError):
            return False
        return True

    @property
    def has_notices(self) -> bool:
        """Whether there is something to be told."""
        return bool(self._notices)

    def notices(self) -> list[tuple[str, Level, str]]:
        """Return what is to be told to people: kind, level, sentence, each once a process."""
        out = []
        while self._notices:
            out.append(self._notices.popleft())
        return out

    # --------------------------------------------------------------------- loading

    def _look(self) -> None:
        try:
            token = self.registry.token(self.name)
            if token == self._token:
                return
            with self._lock:
                if self._thread is not None and self._thread.is_alive():
                    return  # looked at again when that one is done
                served = self.registry.served(self.name)
                self._token = token
                current = self._current
                if served is None:
                    self._tell_awaited()
                    return
                if current is not None and served.number <= current.number:
                    return
                if current is not None:
                    self._thread = threading.Thread(
                        target=self._follow_aside,
                        args=(served.number, served.version),
                        name=f"load-{self.name}",
                        daemon=True,
                    )
                    self._thread.start()
                    return
            self._begin(served.number)
        except ConfigError:
            raise
        except (HeadraceError, OSError) as error:
            self._tell(
                "registry_unreadable",
                f"The registry of {self.name!r} cannot be read: {str(error).rstrip('.')}. What is "
                "in service goes on serving.",
            )

    def _begin(self, newest: int) -> None:
        """Take the newest version that can be loaded."""
        for number in range(newest, 0, -1):
            if self._follow(number, self.registry.at_number(self.name, number).version):
                return

    def _follow_aside(self, number: int, version: str) -> None:
        from analytics.learning.resting import resting

        with resting(_REST):
            self._follow(number, version)

    def _follow(self, number: int, version: str) -> bool:
        if number in self._refused:
            return False
        try:
            served = self._load(number, version)
            if self._current is not None:
                self._check_input(served, self._current)
        except (HeadraceError, OSError, RuntimeError, ValueError, LookupError) as error:
            if isinstance(error, ConfigError) and self._current is None:
                # Nothing serves yet: a mistake in the parameters, not in a version.
                raise
            self._refused.add(number)
            rest = (
                "Nothing is in service."
                if self._current is None
                else f"Number {self._current.number} goes on serving."
            )
            self._tell(
                "model_refused",
                f"Number {number} of the model {self.name!r} (version {version[:12]}) cannot be "
                f"taken into service: {str(error).rstrip('.')}. {rest}",
            )
            return False
        before, self._current = self._current, served
        if before is not None:
            self.swaps += 1
            self._remember(before)
        for sentence in served.encoder.fallbacks:
            self._tell("model_fallback", sentence)
        return True

    def _load(self, number: int, version: str) -> Served:
        from analytics.inference.loading import load_encoder

        encoder = load_encoder(self.registry, version, self._way, errors=self._errors)
        if self._latent and encoder.latent != self._latent:
            raise ConfigError(
                f"Version {version[:12]} of the model {self.name!r} has {encoder.latent} "
                f"coordinates, and {self._latent} are expected; set n_components = "
                f"{encoder.latent}."
            )
        return Served(number, version, encoder)

    def _check_input(self, served: Served, current: Served) -> None:
        """Refuse a version that cannot be given the frames that the one in service is given."""
        new, old = served.encoder.input_shape, current.encoder.input_shape
        if math.prod(new) != math.prod(old):
            raise ConfigError(
                f"Version {served.version[:12]} of the model {self.name!r} takes inputs of shape "
                f"{list(new)}, and the one in service {list(old)}. Where the features changed, "
                "start the pipeline again; else promote a version that fits."
            )

    def _remember(self, served: Served) -> None:
        with self._lock:
            self._old[served.number] = served
            while len(self._old) > _OLD:
                self._old.pop(min(self._old))

    def _tell_awaited(self) -> None:
        if self._current is None:
            # Common where training has just begun; for ever where a name is misspelt.
            missing = "" if Path(self.registry.folder).is_dir() else ", a folder that is not there"
            self._tell(
                "model_awaited",
                f"Nothing is served under {self.name!r} in {self.registry.folder}{missing} yet. "
                "Until something is, rows are zeros and their version is 0.",
                level="info",
            )

    def _tell(self, kind: str, sentence: str, level: Level = "warning") -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._notices.append((kind, level, sentence))
            log.log(logging.INFO if level == "info" else logging.WARNING, "%s", sentence)


_lock = threading.Lock()
_servings: dict[tuple[Any, ...], Serving] = {}


def serving_of(
    folder: str, name: str, way: Way, *, errors: bool, latent: int, poll: float
) -> Serving:
    """Return what follows a name in this process, the same for all who ask alike."""
    key = (os.getpid(), os.path.abspath(folder), name, way, errors, latent, poll)
    with _lock:
        found = _servings.get(key)
        if found is None:
            found = _servings[key] = Serving(
                open_registry(folder), name, way, errors=errors, latent=latent, poll=poll
            )
        return found
