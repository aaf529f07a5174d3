"""A run as one HTML file: see `bridge.dashboard.report`."""

from bridge.dashboard.report import make_static_report

__all__ = ["make_static_report"]
