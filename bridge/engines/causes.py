"""From a page of a JVM's stack trace to the sentence that matters."""

from __future__ import annotations

import re

from bridge.errors import EngineError, HeadraceError, error_from_code

__all__ = ["find_cause", "find_error"]

_OURS = re.compile(
    r"bridge\.errors\.(?P<kind>\w+): (?P<said>.*?)(?=\n\n|\n\tat |\n\s*Caused by|\n\w+ \(|\n$|$)",
    re.DOTALL,
)
_PYTHON = re.compile(r"\n(?P<kind>[A-Za-z_][\w.]*(?:Error|Exception)): (?P<said>[^\n]+)\n")
_JAVA = re.compile(r"Caused by: (?P<kind>[\w.$]+): (?P<said>[^\n]+)")


def find_cause(trace: str) -> str:
    """Return what a stack trace of the JVM comes down to, as a sentence.

    Python's own errors come first, ours before others; else the innermost cause in Java.
    """
    ours = _OURS.search(trace)
    if ours is not None:
        return " ".join(ours["said"].split())
    python = _PYTHON.findall(trace)
    if python:
        kind, said = python[-1]
        return f"{kind}: {said.strip().rstrip('.')}."
    java = _JAVA.findall(trace)
    kind, said = java[-1] if java else ("", trace.strip().partition("\n")[0])
    name = kind.rpartition(".")[2]
    return f"{f'{name}: ' if name else ''}{said.strip().rstrip('.')}."


def find_error(trace: str, engine: str) -> HeadraceError:
    """Return the error that a stack trace of the JVM comes down to; our own as it was raised."""
    ours = _OURS.search(trace)
    if ours is not None:
        return error_from_code(ours["kind"], " ".join(ours["said"].split()))
    return EngineError(f"{engine} gave the job up: {find_cause(trace)}")
