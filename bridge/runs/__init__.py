"""Runs: their configuration, processes, supervision and report.

The command line is built on this room; so can anybody's own script be.
"""
