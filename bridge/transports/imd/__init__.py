"""The IMD protocol, versions 2 and 3: a reader of engines, and a server that readers can join."""

from bridge.transports.imd.connection import EngineConnection, Frames
from bridge.transports.imd.layout import Layout
from bridge.transports.imd.packets import ENERGY_NAMES, Kind, SessionInfo
from bridge.transports.imd.server import ImdListener, ReaderConnection, Request

__all__ = [
    "ENERGY_NAMES",
    "EngineConnection",
    "Frames",
    "ImdListener",
    "Kind",
    "Layout",
    "ReaderConnection",
    "Request",
    "SessionInfo",
]
