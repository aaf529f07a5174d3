"""The command line: finds the verb, and turns errors into sentences and exit codes.

Exit codes are 0 (done), 1 (failed), 2 (wrong usage or configuration) and 130 (interrupted by
Ctrl-C where a verb does not say otherwise).
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Protocol

from bridge.cli import contributed
from bridge.errors import ConfigError, HeadraceError, MissingExtra

__all__ = ["FAILED", "INTERRUPTED", "OK", "USAGE", "VERBS", "main"]

OK, FAILED, USAGE = 0, 1, 2
INTERRUPTED = 130
"""What shells say of a program that SIGINT ended."""

VERBS: dict[str, str] = {
    "run": "start simulations, analyse and steer them, and write a report",
    "dashboard": "show a run in the browser, and steer it from there",
    "submit": "run a pipeline on Flink or Spark, over streams that are there",
    "jobs": "show submitted jobs, and how they are getting on",
    "cancel": "end a job, with a savepoint to go on from",
    "logs": "show what a job wrote into its logs",
    "cluster": "start a cluster of Flink or Spark on this machine, to try things out",
    "train": "let models learn from streams that are there, beside everybody else",
    "report": "draw the plots of finished runs again, and compare runs",
    "inspect": "show the ledger of decisions and the state of the topics",
    "command": "send simulations a command of your own, or list what they take",
    "approvals": "show the commands that wait for somebody to say yes or no",
    "approve": "say yes to commands that wait",
    "deny": "say no to commands that wait",
    "replay": "stream a trajectory file, or re-read what a run recorded",
    "stage": "run a stager in the foreground",
    "link-imd": "stream a running engine that speaks IMD: GROMACS, NAMD, LAMMPS and others",
    "serve-imd": "let VMD, imdclient and MDAnalysis watch a stream, by IMD",
    "ingest": "read ADIOS2 streams and files into a stager",
    "archive": "write a stream or results into an ADIOS2 file, and go on with it",
    "publish": "send a stream on over ADIOS2, for readers that know it",
    "serve-model": "let a model answer running simulations",
    "keys": "make key files for encrypted connections",
    "doctor": "say what is installed, what is missing, and how to get it",
}
"""Verb to what it does; the module ``bridge.cli.<verb>``, with ``_`` for ``-``, carries it out.

Others bring more, by entry point: see `bridge.verbs`.
"""


class Verb(Protocol):
    """What the module of a verb has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        ...

    def execute(self, arguments: argparse.Namespace) -> int:
        """Do it, and return the exit code."""
        ...


def _load(verb: str) -> Verb:
    module: Verb = importlib.import_module(f"bridge.cli.{verb.replace('-', '_')}")
    return module


def _version() -> str:
    try:
        return metadata.version("headrace")
    except metadata.PackageNotFoundError:
        return "unknown"


def _look_up(
    name: str | None, others: Mapping[str, list[metadata.EntryPoint]]
) -> tuple[Verb | None, dict[str, str]]:
    """Return the verb that is asked for, and what each verb does, as far as help will show it."""
    if name is None:
        return None, VERBS | {one: contributed.describe(points) for one, points in others.items()}
    if name in VERBS:
        return _load(name), VERBS | dict.fromkeys(others, "")
    verb = contributed.load(others[name])
    return verb, VERBS | dict.fromkeys(others, "") | {name: verb.help}


def _make_parser(
    texts: Mapping[str, str], name: str | None, verb: Verb | None
) -> argparse.ArgumentParser:
    """Return the parser; only the verb that is asked for has arguments."""
    parser = argparse.ArgumentParser(
        prog="headrace",
        description="Stream running simulations into online analysis, and steer them by it.",
        epilog="headrace VERB --help tells more about a verb.",
    )
    parser.add_argument("--version", action="version", version=f"headrace {_version()}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for known, text in texts.items():
        about = text[:1].upper() + text[1:].removesuffix(".") + "."
        # A text may be somebody else's, and argparse would fill in what follows a %.
        child = verbs.add_parser(known, help=text.replace("%", "%%"), description=about)
        if verb is not None and known == name:
            verb.add_arguments(child)
            child.add_argument(
                "--json", action="store_true", help="write one JSON document to standard output"
            )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Without the program's name; those of the process by default.

    Returns
    -------
    int
        Exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _carry_out(given)
    except KeyboardInterrupt:
        print("headrace: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _carry_out(given: list[str]) -> int:
    others = contributed.find(VERBS)
    name = next((word for word in given if word in VERBS or word in others), None)
    if not given:
        _make_parser(_look_up(None, others)[1], None, None).print_help(sys.stderr)
        return USAGE
    if name is None and not given[0].startswith("-"):
        near = difflib.get_close_matches(given[0], [*VERBS, *others], 1, cutoff=0.5)
        guess = f"did you mean {near[0]!r}? " if near else ""
        error = ConfigError(f"There is no verb {given[0]!r}; {guess}headrace --help shows all.")
        return _tell(error, USAGE, as_json="--json" in given)
    try:
        verb, texts = _look_up(name, others)
        parsed = _make_parser(texts, name, verb).parse_args(given)
    except HeadraceError as error:
        return _tell(error, USAGE, as_json="--json" in given)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USAGE
    try:
        assert verb is not None
        return verb.execute(parsed)
    except HeadraceError as error:
        code = USAGE if isinstance(error, ConfigError | MissingExtra) else FAILED
        return _tell(error, code, as_json=parsed.json)


def _tell(error: HeadraceError, code: int, *, as_json: bool) -> int:
    print(f"headrace: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
    return code
