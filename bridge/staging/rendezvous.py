"""How clients find a stager, and find out whether they share a machine with it.

In this order: an address that is given, the environment variable ``HEADRACE_STAGER``, and
``stager.json`` in the run directory, which the stager writes once it listens. Only the last needs
a file system that both see.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
import stat
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec

from bridge.errors import ConfigError, NobodyListening, ProtocolError, VersionMismatch
from bridge.staging.files import replace_file
from bridge.staging.messages import PROTOCOL_VERSION

__all__ = [
    "ENVIRONMENT",
    "FILE_NAME",
    "NodeProbe",
    "Rendezvous",
    "file_name",
    "find",
    "publish",
    "resolve",
    "shares_node",
    "withdraw",
]

ENVIRONMENT = "HEADRACE_STAGER"
FILE_NAME = "stager.json"
_LOOK_AGAIN = 0.05
_LARGEST = 65536


class Rendezvous(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Where a stager is; the contents of ``stager.json``."""

    address: str
    """What `bridge.transports.open_channel` takes; several with commas between them, if found."""
    public_key: str = ""
    """The stager's public key, empty where it has none."""
    pid: int = 0
    """Its process."""
    host: str = ""
    """Name of its machine."""
    node: str = ""
    """Its running system and process name space, between which a pid means nothing."""
    version: int = PROTOCOL_VERSION
    """Version of the protocol that it speaks."""
    count: int = 1
    """How many stagers the streams are spread over; each has a file of its own."""


def file_name(number: int) -> str:
    """Return the name of the file of one of several stagers; `number` begins at 1."""
    return FILE_NAME if number == 1 else FILE_NAME.replace(".", f"-{number}.")


def publish(
    run_directory: Path, address: str, *, public_key: str = "", number: int = 1, count: int = 1
) -> Path:
    """Write ``stager.json``, in one piece; to be called once the stager listens.

    Parameters
    ----------
    run_directory
        Where to; made if it does not exist.
    address
        The listener's real address.
    public_key
        The stager's public key, if it has one.
    number, count
        Which of how many stagers, that the streams are spread over.

    Returns
    -------
    path
        The file.
    """
    run_directory.mkdir(parents=True, exist_ok=True)
    path = run_directory / file_name(number)
    found = msgspec.structs.replace(_here(address, public_key), count=count)
    replace_file(path, msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return path


def withdraw(run_directory: Path, address: str, *, number: int = 1) -> None:
    """Remove ``stager.json`` if it still names this process and this address."""
    path = run_directory / file_name(number)
    with contextlib.suppress(OSError, ProtocolError):
        found = _read(path)
        if (found.address, found.pid, found.node) == (address, os.getpid(), _node()):
            path.unlink()


def resolve(
    address: str | None = None,
    run_directory: Path | None = None,
    *,
    timeout: float = 10.0,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Return the address of the stager; see `find`."""
    return find(address, run_directory, timeout=timeout, environment=environment).address


def find(
    address: str | None = None,
    run_directory: Path | None = None,
    *,
    timeout: float = 10.0,
    environment: Mapping[str, str] | None = None,
) -> Rendezvous:
    """Return where the stager is; waits for ``stager.json`` if need be.

    Parameters
    ----------
    address
        Comes first, if given.
    run_directory
        Comes last, after the environment.
    timeout
        Seconds to wait for ``stager.json``. One that a dead process left behind does not count.
    environment
        Instead of `os.environ`.

    Raises
    ------
    ConfigError
        If there is nothing to go by, or the stager found can be reached on its own machine only.
    NobodyListening
        At the time limit.
    ProtocolError
        If ``stager.json`` is something else.
    VersionMismatch
        If that stager speaks another version of the protocol.
    """
    if address:
        return Rendezvous(address=address)
    given = (os.environ if environment is None else environment).get(ENVIRONMENT, "")
    if given:
        if not all("://" in part for part in given.split(",")):
            raise ConfigError(
                f"The environment variable {ENVIRONMENT} is {given!r}, which is no address; "
                f"set it to what the stager shows when it starts, such as tcp://127.0.0.1:5555."
            )
        return Rendezvous(address=given)
    if run_directory is None:
        raise ConfigError(
            f"Nobody said where the stager is; give its address or the run directory, "
            f"or set the environment variable {ENVIRONMENT}."
        )
    deadline = time.monotonic() + timeout
    found = _wait_for(run_directory / FILE_NAME, timeout)
    _check(found, run_directory)
    addresses = [found.address]
    for number in range(2, found.count + 1):
        remaining = max(0.0, deadline - time.monotonic())
        other = _wait_for(run_directory / file_name(number), remaining)
        _check(other, run_directory)
        addresses.append(other.address)
    return msgspec.structs.replace(found, address=",".join(addresses))


def _check(found: Rendezvous, run_directory: Path) -> None:
    if found.version != PROTOCOL_VERSION:
        raise VersionMismatch(
            f"The stager of {run_directory} speaks protocol version {found.version}, "
            f"this process version {PROTOCOL_VERSION}; use the same release on both sides."
        )
    if _is_elsewhere(found):
        raise ConfigError(
            f"The stager of {run_directory} runs on {found.host} and listens at {found.address}, "
            f"which cannot be reached from {socket.gethostname()}; let it listen at an address of "
            f"the network, with keys."
        )


def _wait_for(path: Path, timeout: float) -> Rendezvous:
    deadline = time.monotonic() + timeout
    while True:
        stale = ""
        try:
            found = _read(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
        else:
            if _may_be_alive(found):
                return found
            stale = f"; the one there was left behind by process {found.pid}, which has ended"
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise NobodyListening(
                f"Waited {timeout:g} s for a stager to write {path}{stale}; start one with "
                f"`headrace stage`, or check that both use the same run directory."
            )
        # A file on a network file system cannot be waited for in any better way.
        time.sleep(min(_LOOK_AGAIN, remaining))


def _read(path: Path) -> Rendezvous:
    with path.open("rb") as file:
        data = file.read(_LARGEST)
    try:
        return msgspec.json.decode(data, type=Rendezvous)
    except msgspec.MsgspecError as error:
        raise ProtocolError(
            f"{path} was not written by a stager ({error}); remove it and start the stager anew."
        ) from error


def _here(address: str, public_key: str) -> Rendezvous:
    return Rendezvous(
        address=address,
        public_key=public_key,
        pid=os.getpid(),
        host=socket.gethostname(),
        node=_node(),
    )


def _may_be_alive(found: Rendezvous) -> bool:
    """Return False only if the process certainly ended: its pid is one of ours, and free."""
    if found.pid <= 0 or found.node != _node():
        return True
    try:
        os.kill(found.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _is_elsewhere(found: Rendezvous) -> bool:
    is_local = found.address.startswith(("tcp://127.", "tcp://[::1]", "ipc://"))
    # Containers of one machine may share a loopback interface, but not the name space of pids.
    return is_local and bool(found.node) and found.node.partition(" ")[0] != _boot()


@cache
def _boot() -> str:
    """Return what no two running systems have in common."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return socket.gethostname()


@cache
def _node() -> str:
    try:
        return f"{_boot()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return _boot()


class NodeProbe:
    """A file that proves to whoever can read it that it shares machine and folder with the writer.

    A payload may stay in a mapped file only between processes of one running system: a network
    file system shows the same files elsewhere, too, but not the same memory. The file holds
    therefore a secret and the identity of the system.

    Parameters
    ----------
    path
        The file, absolute.
    nonce
        What it holds, to be told to the client, which compares.
    """

    def __init__(self, path: Path, nonce: str) -> None:
        self.path = path
        self.nonce = nonce

    @classmethod
    def create(cls, directory: Path) -> NodeProbe:
        """Write a new probe into `directory`, for the writer's account alone (mode 0600)."""
        probe = cls(
            directory.resolve() / f"node-{secrets.token_hex(8)}.probe", secrets.token_hex(16)
        )
        descriptor = os.open(probe.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{probe.nonce} {_boot()}")
        return probe

    def remove(self) -> None:
        """Remove the file; it may be gone already."""
        self.path.unlink(missing_ok=True)


def shares_node(path: str | Path, nonce: str) -> bool:
    """Return whether this process runs where the probe was written and sees the same files.

    Parameters
    ----------
    path, nonce
        Of the `NodeProbe`, as the stager told them. Whatever is wrong with them gives False.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        found = os.read(descriptor, 256)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return hmac.compare_digest(found, f"{nonce} {_boot()}".encode())
