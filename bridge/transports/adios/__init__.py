"""ADIOS2 streams (SST) and files (BP5), read and written; needs the extra ``adios2``.

This room knows ADIOS2 and the shape of frames, and nothing of staging. Its calls may wait in C++
for as long as a peer likes: `bridge.staging.adios` runs them in processes that can be killed.
"""

from bridge.transports.adios.mapping import StreamMapping, VariableMapping, read_mapping
from bridge.transports.adios.reader import Head, Reader
from bridge.transports.adios.source import Engine, Source, Status, engine_for

__all__ = [
    "Engine",
    "Head",
    "Reader",
    "Source",
    "Status",
    "StreamMapping",
    "VariableMapping",
    "engine_for",
    "read_mapping",
]
