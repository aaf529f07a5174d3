"""How a simulation's process reaches staging, as a run tells its adapter."""

from __future__ import annotations

from typing import Any

import msgspec

from bridge.staging.messages import StreamOptions

__all__ = ["Connection"]


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """What `sim_adapters.member.Adapter.run` is given.

    Attributes
    ----------
    address
        Address of the stager.
    keys
        Keys, as a `bridge.staging.client.StagerClient` takes them; None without.
    key_folder
        Folder that they came from; empty without, or where they came otherwise.
    timeout
        Time limit in seconds for everything that waits for the stager.
    options
        How the stager keeps the streams.
    """

    address: str
    keys: Any = None
    key_folder: str = ""
    timeout: float = 10.0
    options: StreamOptions = StreamOptions()
