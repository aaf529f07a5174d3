"""How messages move between a stager and its clients."""

from bridge.transports.factory import open_channel, open_listener
from bridge.transports.protocol import Buffer, Channel, Listener, TransportStatistics

__all__ = [
    "Buffer",
    "Channel",
    "Listener",
    "TransportStatistics",
    "open_channel",
    "open_listener",
]
