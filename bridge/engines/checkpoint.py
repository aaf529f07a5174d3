"""Checkpoints of an engine: one file, replaced in one go, with the one before it kept beside.

The file is what `bridge.codec.encode_state` makes, checksum and all. Beside it lie the journals of
turns (see `bridge.engines.turns`), one for each checkpoint that may still be needed.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bridge.codec import decode_state, encode_state
from bridge.errors import CorruptData, HeadraceError, PipelineError, ProtocolError, StagingError

__all__ = ["Checkpoint", "CheckpointStore", "CheckpointWriter"]

_VERSION = 2


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything from which an engine goes on.

    Attributes
    ----------
    pipeline
        Name of the pipeline.
    number
        Counts checkpoints, from 1.
    positions
        Topic of frames to the offset of the next one.
    finished
        Simulations whose streams ended, and whose keyed operators heard of it.
    known
        Simulations that operators were told of.
    counts
        Totals that go on counting after a restart.
    decisions
        Offset after the last record of the topic ``decisions`` that this engine knew of.
    stops
        What `Stops.save` returned.
    operators
        What `Runner.save` returned.
    """

    pipeline: str
    number: int
    positions: dict[str, int]
    finished: list[str]
    known: list[str]
    counts: dict[str, int]
    decisions: int
    stops: dict[str, Any] | None
    operators: bytes

    def encode(self) -> bytes:
        """Return the contents of the file."""
        fields = msgspec.structs.asdict(self)
        fields["version"] = _VERSION
        fields["operators"] = np.frombuffer(self.operators, np.uint8)
        return encode_state(fields)

    @classmethod
    def decode(cls, data: bytes) -> Checkpoint:
        """Read the contents of a file.

        Raises
        ------
        ProtocolError
            If they are damaged (`CorruptData`), or of another version (`VersionMismatch`).
        """
        fields = decode_state(data)
        if fields.pop("version", None) != _VERSION:
            raise ProtocolError(f"The checkpoint is not of version {_VERSION}.")
        try:
            fields["operators"] = fields["operators"].tobytes()
            return msgspec.convert(fields, cls)
        except (KeyError, AttributeError, msgspec.ValidationError) as error:
            raise ProtocolError(f"The checkpoint lacks something: {error}.") from error


class CheckpointStore:
    """Where one engine's checkpoints lie.

    Parameters
    ----------
    path
        The file; its folder is made.
    pipeline
        Name of the pipeline, which a checkpoint must have been written for.
    """

    def __init__(self, path: Path, pipeline: str) -> None:
        self.path = Path(path)
        self.previous = self.path.with_name(self.path.name + ".previous")
        self.pipeline = pipeline
        self._is_damaged = False
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def load(self) -> tuple[Checkpoint | None, str]:
        """Return the newest checkpoint that can be read, and a sentence if a newer one cannot.

        Raises
        ------
        CorruptData
            If there are checkpoints, and none can be read.
        PipelineError
            If they are another pipeline's.
        """
        complaints = []
        found = False
        for path in (self.path, self.previous):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StagingError(
                    f"Cannot read the checkpoint {path}: {error.strerror}."
                ) from error
            found = True
            try:
                checkpoint = Checkpoint.decode(data)
            except HeadraceError as error:
                complaints.append(f"The checkpoint {path} cannot be used: {error}")
                self._is_damaged = True
                continue
            if checkpoint.pipeline != self.pipeline:
                raise PipelineError(
                    f"The checkpoint {path} belongs to the pipeline {checkpoint.pipeline!r}, not "
                    f"to {self.pipeline!r}; give each pipeline a checkpoint of its own."
                )
            return checkpoint, " ".join(complaints)
        if found:
            raise CorruptData(
                f"{' '.join(complaints)} Remove the file, and those beside it whose names begin "
                "the same way, to begin anew."
            )
        return None, ""

    def write(self, data: bytes) -> None:
        """Replace the newest checkpoint; it is on the disk when this returns.

        A kill at any moment leaves the newest or the one before in place.
        """
        new = self.path.with_name(self.path.name + ".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # A damaged one must not take the place of the good one that was gone on from.
        if self.path.exists() and not self._is_damaged:
            os.replace(self.path, self.previous)
        self._is_damaged = False
        os.replace(new, self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class CheckpointWriter:
    """Writes checkpoints in a thread of its own, so that no frame waits for the disk.

    One at a time: `submit` only when `busy` is false.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None
        self._pending: Checkpoint | None = None

    @property
    def busy(self) -> bool:
        """A checkpoint is on its way to the disk."""
        return self._thread is not None and self._thread.is_alive()

    def submit(self, checkpoint: Checkpoint) -> None:
        """Begin to write; returns at once."""
        self._pending = checkpoint
        data = checkpoint.encode()
        self._thread = threading.Thread(
            target=self._write, args=(data,), name="headrace-checkpoint", daemon=True
        )
        self._thread.start()

    def take(self, *, wait: bool = False) -> Checkpoint | None:
        """Return the checkpoint that has come to the disk since the last call, if one has.

        Raises
        ------
        StagingError
            If it could not be written.
        """
        if self._thread is None or (not wait and self._thread.is_alive()):
            return None
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise StagingError(
                f"Cannot write the checkpoint {self._store.path}: {error.strerror}. Make room, or "
                "give another path."
            ) from error
        done, self._pending = self._pending, None
        return done

    def _write(self, data: bytes) -> None:
        try:
            self._store.write(data)
        except OSError as error:
            self._error = error
