"""Where results go besides staging."""

from analytics.sinks.parquet import ParquetSink

__all__ = ["ParquetSink"]
