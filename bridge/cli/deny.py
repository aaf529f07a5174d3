"""``headrace deny``: say no to commands that wait for approval."""

from __future__ import annotations

import argparse

from bridge.cli.approve import add_arguments, decide

__all__ = ["add_arguments", "execute"]


def execute(arguments: argparse.Namespace) -> int:
    """Deny."""
    return decide(arguments, "deny")
