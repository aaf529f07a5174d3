"""IMD sessions, handed on from the transports to adapters, which know staging alone."""

from bridge.transports.imd import ENERGY_NAMES, EngineConnection, Frames, Kind, SessionInfo

__all__ = ["ENERGY_NAMES", "EngineConnection", "Frames", "Kind", "SessionInfo"]
