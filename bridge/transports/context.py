"""The one ZeroMQ context of the process, made when first needed and ended with the process."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import Protocol

import zmq

# Its handler at exit must be registered before ours, and so run after it: messages that are still
# being sent report to pyzmq's collector when they are done, and crash the process if it is gone.
import zmq.utils.garbage

__all__ = ["open_ends", "shared_context"]


class _Closable(Protocol):
    def close(self) -> None: ...


# Ends that nobody has closed yet.
open_ends: weakref.WeakSet[_Closable] = weakref.WeakSet()

_lock = threading.Lock()
_context: zmq.Context[zmq.Socket[bytes]] | None = None


def shared_context() -> zmq.Context[zmq.Socket[bytes]]:
    """Return the context of all sockets but those of a listener with keys."""
    global _context
    with _lock:
        if _context is None or _context.closed:
            _context = zmq.Context()
        return _context


def _begin_anew() -> None:
    """Forget what belongs to the parent: after a fork, its sockets answer nobody in the child."""
    global _context, _lock
    _lock = threading.Lock()
    _context = None
    open_ends.clear()


os.register_at_fork(after_in_child=_begin_anew)


@atexit.register
def _finish() -> None:
    """Give what was queued its last second; without this it is lost with the process."""
    for end in list(open_ends):
        end.close()
    if _context is not None:
        _context.destroy()
