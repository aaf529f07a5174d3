"""Measurements of Headrace against what it is to beat; see ``python -m benchmarks --help``."""
