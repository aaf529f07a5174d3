"""Staging: append-only logs of offsets, their segments, and the service that keeps them."""
