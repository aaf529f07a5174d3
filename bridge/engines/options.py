"""What can be set about the engines."""

from __future__ import annotations

import msgspec

from bridge.engines.protocol import OnError
from bridge.errors import ConfigError

__all__ = ["JobOptions", "LocalOptions"]

_MAY_BE_ZERO = ("gather", "threads")


class LocalOptions(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Options of the local engine; the keys of the table ``[engine]``.

    Attributes
    ----------
    checkpoint_every
        Seconds between checkpoints.
    checkpoint_bytes
        Bytes of frames after which a checkpoint is made sooner; frames are kept in staging up to
        the checkpoint before the newest, so three times as much must fit in each stream.
    on_error
        ``stop`` at frames on which an operator fails, or ``skip`` them and tell so.
    max_frames, max_bytes
        How much to take from staging at once, over all simulations. Fewer frames are taken where
        operators are slow, so that a batch takes no longer than about `batch_seconds`.
    batch_seconds
        See `max_frames`.
    gather
        Seconds from one taking of frames to the next, at least, where a frame operator takes those
        of many simulations at once (a network): fewer, larger batches, for so much more latency.
        0 for no waiting.
    idle_timeout
        Seconds without a frame after which a run until the streams have finished gives up.
    reconnect_timeout
        Seconds to wait for a stager that went away.
    stop_timeout
        Seconds to wait for the answers to stop commands after a target was reached.
    linger
        Seconds to wait for the last frames after all those answers.
    status_every
        Seconds between statuses.
    """

    checkpoint_every: float = 1.0
    checkpoint_bytes: int = 32 << 20
    on_error: OnError = "stop"
    max_frames: int = 4096
    max_bytes: int = 16 << 20
    batch_seconds: float = 0.25
    gather: float = 0.0
    idle_timeout: float = 600.0
    reconnect_timeout: float = 60.0
    stop_timeout: float = 60.0
    linger: float = 2.0
    status_every: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not isinstance(value, int | float) or value > 0:
                continue
            if name not in _MAY_BE_ZERO:
                raise ConfigError(
                    f"The engine's option {name!r} must be greater than 0, not {value}."
                )
            if value != 0:
                raise ConfigError(f"The engine's option {name!r} must be at least 0, not {value}.")


class JobOptions(LocalOptions, frozen=True, omit_defaults=True, kw_only=True):
    """Options of a pipeline on a cluster; the local engine takes them, too, and uses its own.

    Attributes
    ----------
    save_every
        Seconds between savings of what a worker knows: the position in each stream, and the states
        of its operators. `checkpoint_every` is how often the cluster makes checkpoints of that.
    save_bytes
        Bytes of frames of one stream after which it is saved sooner.
    partial_bytes
        Capacity, for each simulation, of what workers hand on to the global operators.
    block_groups
        Workers that share out the rows of each frame, where the pipeline begins with a
        `bridge.pipeline.BlockOperator`; 1 for whole frames.
    threads
        Threads that the numerical libraries (BLAS, OpenMP) take in a worker; 0 for their own
        choice, which is all cores for each worker.
    """

    save_every: float = 1.0
    save_bytes: int = 32 << 20
    partial_bytes: int = 64 << 20
    block_groups: int = 1
    threads: int = 1
