"""The reader's end of an IMD session: frames come in, requests go out."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import sys
import termios
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.closing import Closing
from bridge.errors import (
    ConfigError,
    ConnectionLost,
    HeadraceError,
    NobodyListening,
    ProtocolError,
)
from bridge.transports.imd.intake import Intake, open_intake
from bridge.transports.imd.packets import (
    Kind,
    SessionInfo,
    check_session,
    decode_handshake,
    decode_session,
    encode_forces,
    encode_header,
)

__all__ = ["EngineConnection", "Frames"]

_WORTH = 1 << 20
"""Bytes to wait for at most: reading less at a time costs more switches between processes than it
saves (100,000 atoms from a server that sends frame by frame: 4.6 GB/s with 256 KiB, 7.2 with 1 MiB,
7.2 with 2 MiB; a receive buffer of another size than the system's changed nothing)."""

_LOOK_AGAIN = 0.1
"""Seconds between two tries to connect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Some frames in the engine's units and byte order; valid until the next read.

    Arrays may be strided views of the buffer that the socket wrote, and may be changed.
    """

    count: int
    """How many."""
    steps: npt.NDArray[np.int64] | None
    """Step of each; None where the session does not tell."""
    times: npt.NDArray[np.float64] | None
    """Time of each."""
    timestep: float | None
    """Length of a step, in the unit of time."""
    energies: npt.NDArray[Any] | None
    """Energy block of each, as `bridge.transports.imd.layout.energy_dtype` describes it."""
    told: npt.NDArray[np.bool_] | None = None
    """Which of them came with energies, where only some did; those of the others are not numbers,
    and their steps, which version 2 tells by energies alone, are -1. None if all or none have."""
    vectors: dict[str, npt.NDArray[Any]]
    """``positions``, ``velocities`` and ``forces``, of shape (count, atoms, 3), float32; ``box`` of
    shape (count, 3, 3)."""

    @property
    def first_numbered(self) -> bool:
        """Whether the first of them has a step."""
        return self.steps is not None and (self.told is None or bool(self.told[0]))


class EngineConnection(Closing):
    """A session with a running engine; one thread uses it.

    Parameters
    ----------
    host, port
        Where the engine listens.
    patience
        Seconds for which the engine is looked for, if it does not listen yet.
    timeout
        Seconds in which the engine must say who it is, and take a request.
    atoms
        Number of atoms that must come; None for any.

    Raises
    ------
    NobodyListening
        If nothing listens there in time, or what does says nothing.
    ProtocolError, VersionMismatch
        If it speaks something else.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        patience: float = 30.0,
        timeout: float = 10.0,
        atoms: int | None = None,
    ) -> None:
        if not 0 < port < 65536:
            raise ConfigError(f"{port} is no port; ports are numbers from 1 to 65535.")
        self.place = f"{host}:{port}"
        self.ended = ""
        self._timeout = timeout
        self._atoms = atoms
        self._intake: Intake | None = None
        self._least = 1
        self._socket = self._connect(host, port, patience)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self.heard = time.monotonic()
        try:
            self.info = self._shake_hands()
            self.send(Kind.GO)
        except BaseException:
            self._socket.close()
            raise

    # ---------------------------------------------------------------- beginning

    def _connect(self, host: str, port: int, patience: float) -> socket.socket:
        end = time.monotonic() + patience
        while True:
            left = end - time.monotonic()
            try:
                found = socket.create_connection((host, port), timeout=max(0.2, left))
            except socket.gaierror as error:
                raise ConfigError(
                    f"The host {host!r} is not known here ({error}); check its spelling."
                ) from error
            except OSError as error:
                if time.monotonic() + _LOOK_AGAIN > end:
                    raise NobodyListening(
                        f"Waited {patience:.3g} s for an engine at {self.place}, and none listens "
                        f"there ({error.strerror or error}); start it with IMD on that port, or "
                        "name the port that it prints."
                    ) from error
                time.sleep(_LOOK_AGAIN)
                continue
            if found.getsockname() == found.getpeername():
                # Nobody listened, and the system gave the connection the port that it looked for.
                found.close()
                continue
            found.settimeout(0.0)
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return found

    def _shake_hands(self) -> SessionInfo:
        version, order = decode_handshake(self._read_exactly(8, "a handshake"))
        if version == 2:
            return SessionInfo(version=2, order=order)
        check_session(self._read_exactly(8, "what the session will hold"))
        return decode_session(self._read_exactly(7, "the session's flags"), order)

    def _read_exactly(self, count: int, what: str) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        end = time.monotonic() + self._timeout
        filled = 0
        while filled < count:
            filled += self._receive(view[filled:], end)
            if self.ended:
                raise NobodyListening(
                    f"The engine at {self.place} closed the connection before it sent {what}; it "
                    "may serve another reader already."
                )
            if filled < count and time.monotonic() >= end:
                raise NobodyListening(
                    f"Waited {self._timeout:.3g} s for {what} from {self.place}; whoever listens "
                    "there takes connections, but says nothing that IMD would."
                )
        return data

    # ------------------------------------------------------------------ reading

    @property
    def atoms(self) -> int:
        """Number of atoms; 0 before the first frame."""
        return 0 if self._intake is None else self._intake.atoms

    @property
    def silence(self) -> float:
        """Seconds since the engine sent anything."""
        return time.monotonic() - self.heard

    def count_arrived(self) -> int:
        """Return how many frames have arrived, in part at least, that `read` has not returned.

        The engine sent them before it could know of a request that is sent now.
        """
        if self._intake is None or not self._intake.size or self.ended:
            return 0
        unread = int.from_bytes(
            fcntl.ioctl(self._socket, termios.FIONREAD, bytes(4)), sys.byteorder
        )
        return -(-(unread + self._intake.pending) // self._intake.size)

    def read(self, wait: float) -> Frames | None:
        """Return all frames that have arrived, waiting for at least one.

        Returns
        -------
        frames
            None if none became complete within `wait` seconds, or the session has `ended`.

        Raises
        ------
        ProtocolError
            If the engine sends something else than it announced.
        ConnectionLost
            If the session ended within a frame.
        """
        end = time.monotonic() + wait
        try:
            if self._intake is None:
                self._intake = open_intake(self.info, self._atoms)
            intake = self._intake
            while True:
                # What has arrived already is received first: large batches cost less each.
                if not intake.full and (got := self._receive(intake.room(), 0.0)):
                    intake.filled(got)
                    continue
                if self.ended:
                    intake.end()
                frames = intake.take()
                if frames is not None:
                    return Frames(**frames)
                if self.ended:
                    self._check_whole(intake.pending)
                    return None
                if not self._wait(intake.need, end):
                    return None
        except ProtocolError as error:
            raise type(error)(f"From {self.place}: {error}") from error

    def _wait(self, need: int, end: float) -> bool:
        """Wait until so much has come that it is worth waking up; False at the time limit."""
        left = end - time.monotonic()
        if left <= 0:
            return False
        need = min(need, _WORTH)
        if need != self._least:
            self._least = need
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, need)
        return bool(self._poll.poll(left * 1000))

    def _receive(self, room: memoryview, end: float) -> int:
        """Return how many bytes came; 0 at the time limit or the end."""
        while not self.ended:
            try:
                got = self._socket.recv_into(room)
            except BlockingIOError:
                left = end - time.monotonic()
                if left <= 0 or not self._poll.poll(left * 1000):
                    return 0
                continue
            except OSError as error:
                self.ended = f"the connection broke ({error.strerror or error})"
                return 0
            if not got:
                self.ended = "the engine closed the connection"
                return 0
            self.heard = time.monotonic()
            return got
        return 0

    def _check_whole(self, pending: int) -> None:
        if pending:
            raise ConnectionLost(
                f"The engine at {self.place} went away in the middle of a frame: {self.ended} when "
                f"{pending} bytes of it had come."
            )

    # ----------------------------------------------------------------- requests

    def send(self, kind: Kind, length: int = 0) -> None:
        """Send a packet without a body.

        Raises
        ------
        ConnectionLost
            If the engine is gone, or takes nothing within the time limit.
        """
        self._send(encode_header(kind, length))

    def send_forces(self, indices: npt.NDArray[Any], forces: npt.NDArray[Any]) -> None:
        """Ask the engine to apply forces, in its own unit, until others are sent.

        Raises
        ------
        ConnectionLost
            As for `send`.
        """
        self._send(encode_forces(indices, forces, self.info.order))

    def _send(self, data: bytes) -> None:
        end = time.monotonic() + self._timeout
        view = memoryview(data)
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                left = end - time.monotonic()
                if left <= 0:
                    raise ConnectionLost(
                        f"Waited {self._timeout:.3g} s for the engine at {self.place} to take a "
                        "request."
                    ) from None
                poll.poll(left * 1000)
            except OSError as error:
                raise ConnectionLost(
                    f"The engine at {self.place} is gone: {error.strerror or error}."
                ) from error

    def close(self, *, disconnect: bool = True) -> None:
        """Leave the session; with `disconnect` the engine is told, and runs on by itself."""
        if disconnect and not self.ended:
            with contextlib.suppress(HeadraceError):
                self.send(Kind.DISCONNECT)
        self.ended = self.ended or "the session was left"
        self._socket.close()
