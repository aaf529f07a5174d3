"""How the dashboard is served: address, encryption, names, limits; and what must not be."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from pathlib import Path

import msgspec

from bridge.errors import AddressInUse, ConfigError
from bridge.runs.dashboard_tables import SHARE, AlarmTable, check_share

__all__ = ["ServerOptions", "bind", "is_loopback", "make_context"]

_NAME = re.compile(r"[A-Za-z0-9.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?")


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how to serve.

    Attributes
    ----------
    host
        Address to bind.
    port
        0 for any free one.
    token
        Whoever has it may look and steer.
    certificate, key
        Files in PEM format, for TLS; `key` may be empty where the certificate's file has both.
    base_path
        What addresses begin with, for a proxy, such as ``/headrace``; empty for nothing.
    behind_proxy
        A proxy in front encrypts, so that a bind elsewhere than to loopback is allowed without TLS.
    names
        Names, with a port if it is not the usual one, by which browsers reach it.
    share
        Part of this machine's processors that it takes at most while none of them is idle; 1 for
        no limit. It shows less often then; see `bridge.dashboard.pace`.
    alarms
        See `AlarmTable`.
    """

    token: str
    host: str = "127.0.0.1"
    port: int = 0
    certificate: str = ""
    key: str = ""
    base_path: str = ""
    behind_proxy: bool = False
    names: tuple[str, ...] = ()
    share: float = SHARE
    alarms: AlarmTable = AlarmTable()

    def __post_init__(self) -> None:
        check_share(self.share)
        if len(self.token) < 16 or not re.fullmatch(r"[\w.~-]+", self.token, re.ASCII):
            raise ConfigError(
                "The token of a dashboard has at least 16 letters, digits, '-', '.', '_' or '~'."
            )
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"The port is {self.port}; it must be from 0 (any) to 65535.")
        path = self.base_path
        if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
            raise ConfigError(
                f"The base path is {path!r}; write it like /headrace: with a slash in front and "
                "none at the end."
            )
        for name in self.names:
            if not _NAME.fullmatch(name):
                raise ConfigError(f"{name!r} is not a host name, or a host name and a port.")
        if self.key and not self.certificate:
            raise ConfigError("A key alone is of no use; name the certificate as well.")
        if not is_loopback(self.host) and not self.certificate and not self.behind_proxy:
            raise ConfigError(
                f"The dashboard is not served at {self.host} unencrypted: whoever listens could "
                "read the token and steer the run. Give --certificate and --key, or say "
                "--behind-proxy if a proxy in front encrypts, or stay at 127.0.0.1 and use a "
                "tunnel (ssh -L)."
            )
        if self.behind_proxy and not self.names:
            raise ConfigError(
                "Behind a proxy, say by --name how browsers call it, such as "
                "--name dashboard.example.org."
            )

    @property
    def secure(self) -> bool:
        """Browsers reach it encrypted."""
        return bool(self.certificate) or self.behind_proxy

    def url(self, port: int, *, token: bool = True) -> str:
        """Return the address for the browser."""
        scheme = "https" if self.secure else "http"
        if self.names:
            place = self.names[0]
        else:
            host = self.host
            if host in ("0.0.0.0", "::"):
                host = socket.gethostname()
            place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        ending = f"?token={self.token}" if token else ""
        return f"{scheme}://{place}{self.base_path}/{ending}"


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises
    ------
    AddressInUse
        If somebody else has the port.
    ConfigError
        If the address is none of this machine's, or may not be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio has what it accepts send at once (TCP_NODELAY) only where the protocol is named; the
    # body of an answer waited 40 ms for the client to acknowledge its head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == 98:
            raise AddressInUse(
                f"The port {port} of {host} is in use, perhaps by another dashboard; name another "
                "with --port, or leave it out for any free one."
            ) from error
        raise ConfigError(f"Cannot serve at {host}, port {port}: {error.strerror}.") from error
    listener.setblocking(False)
    return listener


def make_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return what encrypts.

    Raises
    ------
    ConfigError
        If a file cannot be read, is no certificate or key, or the two do not belong together.
    """
    for path in filter(None, (certificate, key)):
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key or None, password=_no_password)
    except (ssl.SSLError, OSError, ConfigError) as error:
        files = f"{certificate} and {key}" if key else certificate
        said = str(error) if isinstance(error, ConfigError) else _reason(error)
        raise ConfigError(f"No certificate and key that fit in {files}: {said}") from error
    return context


def _no_password() -> str:
    raise ConfigError("The key is locked by a password; unlock it into a file of your own.")


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None) or str(error)
    return f"{str(reason).replace('_', ' ').lower()}."
