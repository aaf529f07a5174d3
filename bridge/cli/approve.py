"""``headrace approve``: say yes to commands that wait for approval."""

from __future__ import annotations

import argparse
from typing import Any

from bridge.cli.steering import add_author_arguments, add_run_arguments, open_desk, report, who
from bridge.commands import ApprovalWord
from bridge.errors import ConfigError, SteeringError

__all__ = ["add_arguments", "decide", "execute"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_run_arguments(parser)
    parser.add_argument("commands", metavar="ID", nargs="*", help="as headrace approvals shows it")
    parser.add_argument("--all", action="store_true", help="whatever waits at present")
    add_author_arguments(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Approve."""
    return decide(arguments, "approve")


def decide(arguments: argparse.Namespace, word: ApprovalWord) -> int:
    """Say a word on each of the commands, and tell what became of them."""
    if bool(arguments.commands) == arguments.all:
        raise ConfigError("Name the commands, or say --all for whatever waits at present.")
    told: list[dict[str, Any]] = []
    with open_desk(arguments) as desk:
        names = [d.command.id for d in desk.waiting()] if arguments.all else arguments.commands
        for name in names:
            try:
                one = desk.decide(
                    name, word, author=who(arguments), reason=arguments.reason, key=arguments.key
                )
            except SteeringError as error:
                if len(names) == 1:
                    raise
                # Those named after it are decided on all the same, and all of them told.
                one = {"id": name, "verdict": None, "verdict_reason": "", "problem": str(error)}
            wanted = "sent" if word == "approve" else "denied"
            told.append(
                {**one, "reason": one["verdict_reason"] or one["problem"], "wanted": wanted}
            )
    return report(arguments, told)
