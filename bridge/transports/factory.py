"""Picks the transport by an address's scheme."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from bridge.errors import ConfigError
from bridge.transports.curve import AllowList, ClientKeys, KeyPair
from bridge.transports.memory import MemoryChannel, MemoryListener
from bridge.transports.protocol import Channel, Listener
from bridge.transports.zeromq import ZmqChannel, ZmqListener

__all__ = ["open_channel", "open_listener"]


def open_channel(address: str, *, keys: ClientKeys | None = None) -> Channel:
    """Open a client's end; does not wait for the listener.

    Parameters
    ----------
    address
        ``tcp://host:port``, ``ipc://path`` or ``memory://name``.
    keys
        For a stager with keys.

    Raises
    ------
    ConfigError
        If the address is malformed, its host is not known, or the keys do not fit the scheme.
    """
    if _scheme(address) == "memory":
        if keys is not None:
            raise ConfigError(_NO_KEYS.format(address))
        return MemoryChannel(address, name=_memory_name(address, empty=False))
    return ZmqChannel(address, keys=keys)


def open_listener(
    address: str,
    *,
    keys: KeyPair | None = None,
    allowed: Path | Iterable[str] | None = None,
) -> Listener:
    """Open the stager's end.

    Parameters
    ----------
    address
        ``tcp://host:port`` (port 0: any free one), ``ipc://path``, or ``memory://name``
        (without a name: a fresh one).
    keys
        Turns encryption on. Needed where other machines can reach the address.
    allowed
        Whom to let in: a folder of ``.pub`` files, or public keys. Needed with `keys`.

    Raises
    ------
    AddressInUse
        If somebody listens there.
    ConfigError
        If the address is malformed or not one of this machine, or keys are missing or do not fit.
    """
    if (keys is None) != (allowed is None):
        raise ConfigError(
            "A stager with keys needs an allow-list, and an allow-list needs keys: give both or "
            "neither."
        )
    if _scheme(address) == "memory":
        if keys is not None:
            raise ConfigError(_NO_KEYS.format(address))
        return MemoryListener(_memory_name(address, empty=True))
    return ZmqListener(address, keys=keys, allows=_permit(allowed))


_SCHEMES = ("ipc", "memory", "tcp")
_NO_KEYS = "{} stays in this process and takes no keys; leave them out, or use tcp or ipc."


def _scheme(address: str) -> str:
    scheme, mark, _ = address.partition("://")
    if not mark or scheme not in _SCHEMES:
        raise ConfigError(
            f"{address!r} is no address that Headrace knows; it must begin with "
            f"{', '.join(f'{name}://' for name in _SCHEMES[:-1])} or {_SCHEMES[-1]}://."
        )
    return scheme


def _memory_name(address: str, *, empty: bool) -> str:
    name = address.removeprefix("memory://")
    if not name and not empty:
        raise ConfigError(
            f"{address!r} names nobody; give the address that the listener shows once it is open."
        )
    return name


def _permit(allowed: Path | Iterable[str] | None) -> Callable[[str], bool] | None:
    return None if allowed is None else AllowList(allowed).allows
