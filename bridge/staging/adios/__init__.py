"""ADIOS2 in and out of staging; the package ``adios2`` itself runs in processes of its own."""

from bridge.staging.adios.ingest import Ingest, Ingested

__all__ = ["Ingest", "Ingested"]
