"""Events that any number of processes may tell, and that stand in the log once."""

from __future__ import annotations

import time

import msgspec

from bridge.commands import Event
from bridge.staging.client_like import ClientLike

__all__ = ["DESK", "tell_once"]

DESK = "desk:"
"""How names of writers begin that speak for people; those of pipelines never do."""

_encode = msgspec.msgpack.Encoder().encode


def tell_once(client: ClientLike, name: str, event: Event) -> None:
    """Store an event with the present time, unless one of this name was stored before.

    Parameters
    ----------
    name
        The same for whoever tells the same.
    """
    data = _encode(msgspec.structs.replace(event, stamp=time.time()))
    client.append("events", [data], writer=DESK + name, first=0, stop=1)
