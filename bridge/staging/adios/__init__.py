"""ADIOS2 in and out of staging; the package ``adios2`` itself runs in processes of its own."""

from bridge.staging.adios.export import Exported, archive, publish
from bridge.staging.adios.ingest import Ingest, Ingested
from bridge.staging.adios.output import Output, OutputStatistics

__all__ = [
    "Exported",
    "Ingest",
    "Ingested",
    "Output",
    "OutputStatistics",
    "archive",
    "publish",
]
