"""``headrace doctor``: what is installed, what is missing, and how to get it."""

from __future__ import annotations

import argparse
import json

import msgspec
from rich.console import Console
from rich.table import Table

from bridge.runs.health import examine

__all__ = ["add_arguments", "execute"]

_STYLES = {"ok": "green", "missing": "yellow", "warning": "yellow", "error": "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""


def execute(arguments: argparse.Namespace) -> int:
    """Show the findings; the exit code is 1 if something keeps Headrace from working at all."""
    findings = examine()
    healthy = not any(f.state == "error" for f in findings)
    if arguments.json:
        print(json.dumps({"healthy": healthy, "findings": msgspec.to_builtins(findings)}))
        return 0 if healthy else 1
    table = Table(box=None, pad_edge=False)
    for heading in ("what", "state", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for f in findings:
        table.add_row(f.subject, f"[{_STYLES[f.state]}]{f.state}[/]", f.found, _plain(f.advice))
    Console().print(table)
    return 0 if healthy else 1


def _plain(text: str) -> str:
    """Keep Rich from taking ``headrace[openmm]`` for markup."""
    return text.replace("[", "\\[")
