"""Which of several stagers holds a topic.

Streams are spread by rendezvous hashing (highest random weight; Thaler and Ravishankar, IEEE/ACM
Trans. Netw. 6, 1 (1998), doi:10.1109/90.663936): of all stagers, that one holds a simulation's
topics whose address, hashed together with the simulation's name, comes out highest. Everybody who
knows the same addresses finds the same stager, without asking, and when a stager is added only the
streams that it takes over move.
"""

from __future__ import annotations

from collections.abc import Sequence

import xxhash

from bridge.errors import ConfigError

__all__ = ["owner", "split_addresses", "subject"]

_OF_A_SIMULATION = {"frames": 1, "commands": 1, "acks": 1, "results": 2, "partials": 2, "state": 2}
"""First part of a topic's name to the part that names the simulation."""


def split_addresses(addresses: str | Sequence[str]) -> tuple[str, ...]:
    """Return addresses in the order that everybody uses, each once.

    Raises
    ------
    ConfigError
        If there is none.
    """
    parts = addresses.split(",") if isinstance(addresses, str) else addresses
    found = tuple(sorted({part.strip() for part in parts} - {""}))
    if not found:
        raise ConfigError("No stager is named; give its address, or several separated by commas.")
    return found


def owner(name: str, addresses: str | Sequence[str]) -> str:
    """Return the address of the stager that holds the topics of a simulation.

    Parameters
    ----------
    name
        Name of the simulation; of the topic itself for those that belong to none.
    addresses
        Of all stagers, in any order.
    """

    def weight(address: str) -> tuple[int, str]:
        return xxhash.xxh3_64_intdigest(f"{address}\0{name}".encode()), address

    return max(split_addresses(addresses), key=weight)


def subject(topic: str) -> str:
    """Return what decides where a topic lies: its simulation's name, or its own."""
    parts = topic.split("/")
    at = _OF_A_SIMULATION.get(parts[0], 0)
    return parts[at] if 0 < at < len(parts) else topic
