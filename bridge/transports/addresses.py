"""Addresses: which are well formed, and which can be reached from other machines."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from dataclasses import dataclass

from bridge.errors import ConfigError

__all__ = ["IpcAddress", "TcpAddress", "parse_ipc", "parse_tcp"]

# A socket address has room for 108 bytes, the last of which is zero.
_LONGEST_PATH = 107
_TCP = re.compile(r"tcp://(?P<host>\[[^\]/]+\]|[^:/\[\]\s]+):(?P<port>\*|\d{1,5})")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host, as it was written, and a port; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all network interfaces."""
        return self.host in ("*", "0.0.0.0", "::")

    def resolve(self) -> list[str]:
        """Return the numeric addresses of the host, those of version 4 first.

        Raises
        ------
        ConfigError
            If the name is not known.
        """
        if self.is_wildcard:
            return ["0.0.0.0" if self.host == "*" else self.host]
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"The host {self.host!r} of {self} is not known here ({error}); "
                f"check its spelling, or give its IP address."
            ) from error
        return sorted({str(entry[4][0]) for entry in found}, key=lambda name: ":" in name)

    def is_loopback(self) -> bool:
        """Return whether it can be reached from this machine only, whatever its name says."""
        if self.is_wildcard:
            return False
        return all(
            ipaddress.ip_address(number.partition("%")[0]).is_loopback for number in self.resolve()
        )


@dataclass(frozen=True, slots=True)
class IpcAddress:
    """The path of a Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"ipc://{self.path}"


def parse_tcp(address: str, *, to_bind: bool) -> TcpAddress:
    """Read ``tcp://host:port``; an IPv6 host stands in square brackets.

    Parameters
    ----------
    address
        The text.
    to_bind
        Whether a listener is to be opened there: then the port may be 0 or ``*`` and the host
        ``*``.

    Raises
    ------
    ConfigError
        If it is something else.
    """
    match = _TCP.fullmatch(address)
    if match is None:
        raise ConfigError(
            f"{address!r} is no address: it must be of the form tcp://HOST:PORT, "
            f"such as tcp://127.0.0.1:5555."
        )
    port = 0 if match["port"] == "*" else int(match["port"])
    if port > 65535:
        raise ConfigError(f"{address!r} is no address: ports end at 65535.")
    parsed = TcpAddress(match["host"].strip("[]"), port)
    if not to_bind and (port == 0 or parsed.is_wildcard):
        raise ConfigError(
            f"{address!r} is an address to listen at, not one to reach: "
            f"give the host and the port that the stager names when it starts."
        )
    return parsed


def parse_ipc(address: str) -> IpcAddress:
    """Read ``ipc://path``.

    Raises
    ------
    ConfigError
        If the path is empty, too long for a socket, or abstract (without a file, hence without
        permissions).
    """
    path = address.removeprefix("ipc://")
    if not path or path[0] in "@*" or "\0" in path:
        raise ConfigError(f"{address!r} is no address: give the path of a file to be, ipc://PATH.")
    size = len(os.fsencode(path))
    if size > _LONGEST_PATH:
        raise ConfigError(
            f"The path of {address!r} has {size} bytes, a socket's may have {_LONGEST_PATH}; "
            f"choose a shorter one, for example below /tmp."
        )
    return IpcAddress(path)
