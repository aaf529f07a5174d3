"""Keys for CURVE, ZeroMQ's encryption: who the stager is, and which clients it lets in.

Key files are the certificates that pyzmq reads and writes. ``NAME.key`` holds both keys and is for
its owner alone; ``NAME.pub`` holds the public key and may be given to anybody. A stager lets in
whoever has a ``.pub`` file in its allow-list folder; the folder is read anew at each handshake,
so that adding a file needs no restart. Taking one away keeps its owner from connecting again, but
ends no connection.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from bridge.errors import ConfigError

__all__ = ["AllowList", "ClientKeys", "Gatekeeper", "KeyPair", "read_public", "write_keys"]

_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_LINE = re.compile(r'^\s*(public|secret)-key\s*=\s*"(.*)"\s*$', re.MULTILINE)
_HEAD = "#   A Headrace key ({what}). ZeroMQ CURVE certificate.\n{warning}metadata\ncurve\n"
_WARNING = "#   DO NOT SHARE: whoever has this file is let in.\n"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A long-term CURVE key pair, each key as 40 characters of Z85."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> KeyPair:
        """Return a new pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    @classmethod
    def load(cls, path: Path) -> KeyPair:
        """Read a ``.key`` file.

        Raises
        ------
        ConfigError
            If it cannot be read, holds no key pair, or others than its owner may read it.
        """
        keys = _read(path)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"The secret key in {path} can be read by others than its owner; "
                f"run: chmod 600 {path}."
            )
        if "secret" not in keys:
            raise ConfigError(
                f"{path} holds no secret key; name the .key file that `headrace keys` wrote, "
                f"not the .pub file."
            )
        return cls(keys["public"], keys["secret"])


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs: its own pair, and the public key of the stager it means to reach."""

    own: KeyPair
    stager: str

    @classmethod
    def load(cls, own: Path, stager: Path) -> ClientKeys:
        """Read the client's ``.key`` file and the stager's ``.pub`` file."""
        return cls(KeyPair.load(own), read_public(stager))

    def store(self, own: Path, stager: Path) -> None:
        """Write the client's ``.key`` file (mode 0600) and the stager's ``.pub`` file, both new.

        Raises
        ------
        ConfigError
            If they cannot be written.
        """
        try:
            _write(own, self.own.public, self.own.secret)
            _write(stager, self.stager)
        except OSError as error:
            raise ConfigError(f"Cannot write {error.filename}: {error.strerror}.") from error


def read_public(path: Path) -> str:
    """Read the public key of a ``.pub`` or ``.key`` file."""
    return _read(path)["public"]


def write_keys(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a key pair and write ``NAME.key`` (mode 0600) and ``NAME.pub``.

    Parameters
    ----------
    directory
        Where to; made with mode 0700 if it does not exist.
    name
        Name of the two files.

    Returns
    -------
    secret, public
        The paths of the two files.

    Raises
    ------
    ConfigError
        If one of them exists: nothing is overwritten.
    """
    pair = KeyPair.generate()
    secret, public = directory / f"{name}.key", directory / f"{name}.pub"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (secret, public):
            if path.exists():
                raise ConfigError(
                    f"{path} exists already and is not overwritten; "
                    f"choose another name, or move it away."
                )
        _write(secret, pair.public, pair.secret)
        _write(public, pair.public)
    except OSError as error:
        raise ConfigError(f"Cannot write {error.filename}: {error.strerror}.") from error
    return secret, public


def _write(path: Path, public: str, secret: str = "") -> None:
    what, warning = ("secret", _WARNING) if secret else ("public", "")
    text = _HEAD.format(what=what, warning=warning) + f'    public-key = "{public}"\n'
    if secret:
        text += f'    secret-key = "{secret}"\n'
    mode = 0o600 if secret else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)


def _read(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"Cannot read the key file {path}: {why}.") from error
    keys = dict(_LINE.findall(text))
    if "public" not in keys or not all(map(_KEY.fullmatch, keys.values())):
        raise ConfigError(
            f"{path} is no key file; make one with `headrace keys`, or copy it anew (a key has "
            f"40 characters)."
        )
    return keys


class AllowList:
    """The public keys that are let in.

    Parameters
    ----------
    source
        A folder of ``.pub`` files, read anew when asked, or the keys themselves.

    Raises
    ------
    ConfigError
        If the folder does not exist, or a key is malformed.
    """

    def __init__(self, source: Path | Iterable[str]) -> None:
        self._folder = source if isinstance(source, Path) else None
        self._keys = frozenset() if isinstance(source, Path) else frozenset(source)
        self._known: dict[tuple[str, int, int], str] = {}
        if self._folder is not None and not self._folder.is_dir():
            raise ConfigError(
                f"The allow-list folder {self._folder} does not exist; "
                f"make it and put the .pub files of the clients there."
            )
        for key in self._keys:
            if not _KEY.fullmatch(key):
                raise ConfigError(f"{key!r} is no public key: it must have 40 characters of Z85.")

    def allows(self, public: str) -> bool:
        """Return whether the owner of this key is let in."""
        if self._folder is None:
            return public in self._keys
        return public in self._look().values()

    def _look(self) -> dict[tuple[str, int, int], str]:
        assert self._folder is not None
        found = {}
        for path in self._folder.glob("*.pub"):
            # A file that is broken, or gone by now, shuts out its owner alone.
            with contextlib.suppress(OSError, ConfigError):
                facts = path.stat()
                version = (path.name, facts.st_mtime_ns, facts.st_size)
                found[version] = self._known.get(version) or read_public(path)
        self._known = found
        return found


class Gatekeeper:
    """Answers the handshakes of one context, in a thread that ends with the context.

    ZeroMQ asks one handler a context for all of its sockets (RFC 27, "ZAP"). A listener with keys
    has therefore a context of its own.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], allows: Callable[[str], bool]
    ) -> None:
        self._allows = allows
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        # Bound before the thread starts: the first handshake must find it.
        self._socket.bind("inproc://zeromq.zap.01")
        self._thread = threading.Thread(target=self._serve, name="headrace-keys", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while True:
                request = self._socket.recv_multipart()
                # version, id, domain, address, identity, mechanism, credentials...
                is_curve = len(request) == 7 and request[5] == b"CURVE" and len(request[6]) == 32
                allowed = is_curve and self._allows(z85.encode(request[6]).decode())
                code = [b"200", b"OK"] if allowed else [b"400", b"This key is not allowed."]
                self._socket.send_multipart([b"1.0", request[1], *code, b"", b""])
        except zmq.ContextTerminated:
            pass
        finally:
            self._socket.close()

    def join(self) -> None:
        """Wait for the thread; the context must be about to end."""
        self._thread.join()
