"""A run as one HTML file, which opens without a server and asks nobody for anything."""

from bridge.dashboard.report.page import make_static_report

__all__ = ["make_static_report"]
