"""An engine that speaks IMD, written from the protocol's text and without our encoders."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Engine", "energies", "frame_v3", "head"]

DISCONNECT, ENERGIES, COORDINATES, GO, HANDSHAKE, KILL, MDCOMM, PAUSE, RATE = range(9)
SESSION, RESUME, TIME, BOX, VELOCITIES, FORCES, WAIT = range(10, 17)


def head(kind: int, length: int) -> bytes:
    return struct.pack("!ii", kind, length)


def energies(step: int, order: str = "<") -> bytes:
    values = [300.0 + step, *(float(i) for i in range(8))]
    return head(ENERGIES, 1) + struct.pack(f"{order}i9f", step, *values)


def vectors(kind: int, values: npt.NDArray[np.float64], order: str = "<") -> bytes:
    return head(kind, len(values)) + values.astype(f"{order}f4").tobytes()


def frame_v3(
    step: int,
    x: npt.NDArray[np.float64],
    *,
    order: str = "<",
    box: npt.NDArray[np.float64] | None = None,
    v: npt.NDArray[np.float64] | None = None,
    f: npt.NDArray[np.float64] | None = None,
    energy: bool = False,
    dt: float = 0.5,
) -> bytes:
    out = head(TIME, 1) + struct.pack(f"{order}ddq", dt, step * dt, step)
    if energy:
        out += energies(step, order)
    if box is not None:
        out += head(BOX, 1) + box.astype(f"{order}f4").tobytes()
    out += vectors(COORDINATES, x, order)
    if v is not None:
        out += vectors(VELOCITIES, v, order)
    if f is not None:
        out += vectors(FORCES, f, order)
    return out


class Engine:
    """Listens, serves one reader with what `serve` does, and notes what the reader sent.

    Parameters
    ----------
    version, order, flags
        Of the handshake; the flags are those of version 3: time, energies, box, positions,
        wrapped, velocities, forces.
    serve
        Called with the engine once the reader said go; the connection is closed afterwards.
    hello
        What to send instead of a handshake.
    """

    def __init__(
        self,
        serve: Callable[[Engine], None],
        *,
        version: int = 3,
        order: str = "<",
        flags: Sequence[int] = (1, 0, 0, 1, 0, 0, 0),
        hello: bytes | None = None,
        port: int = 0,
    ) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.order = order
        self.received: list[tuple[int, int]] = []
        self.pulls: list[tuple[list[int], list[float]]] = []
        self.paused = False
        self.left = threading.Event()
        if hello is None:
            hello = struct.pack("!i", HANDSHAKE) + struct.pack(f"{order}i", version)
            if version == 3:
                hello += head(SESSION, 7) + bytes(flags)
        self._hello = hello
        self._version = version
        self._serve = serve
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._listener.settimeout(60.0)
        try:
            self.socket, _ = self._listener.accept()
        except OSError:
            return
        # One reader is served, and no other finds the port open meanwhile.
        self._listener.close()
        with self.socket:
            self.socket.settimeout(60.0)
            listening = threading.Thread(target=self._listen, daemon=True)
            listening.start()
            try:
                self.socket.sendall(self._hello)
                self.wait_for(lambda: any(kind == GO for kind, _ in self.received))
                self._serve(self)
                self.socket.shutdown(socket.SHUT_WR)
                listening.join(5.0)
            except OSError:
                pass

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def wait_for(self, ready: Callable[[], bool]) -> bool:
        """Wait until what the reader sent makes this true, or it left; 60 s at most."""
        with self._changed:
            return self._changed.wait_for(lambda: ready() or self.left.is_set(), 60.0)

    def hold(self) -> None:
        """Stand still while paused."""
        self.wait_for(lambda: not self.paused)

    def asked_for(self, kind: int) -> bool:
        return any(found == kind for found, _ in self.received)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            got = self.socket.recv(count - len(data))
            if not got:
                raise OSError
            data += got
        return data

    def _listen(self) -> None:
        try:
            while True:
                kind, length = struct.unpack("!ii", self._exactly(8))
                if kind == MDCOMM:
                    body = self._exactly(16 * length)
                    self.pulls.append(
                        (
                            list(struct.unpack(f"{self.order}{length}i", body[: 4 * length])),
                            list(struct.unpack(f"{self.order}{3 * length}f", body[4 * length :])),
                        )
                    )
                with self._changed:
                    if kind == PAUSE:
                        self.paused = not self.paused if self._version == 2 else True
                    if kind == RESUME:
                        self.paused = False
                    self.received.append((kind, length))
                    self._changed.notify_all()
        except OSError:
            pass
        finally:
            with self._changed:
                self.left.set()
                self._changed.notify_all()

    def close(self) -> None:
        self._listener.close()
        self._thread.join(10.0)
