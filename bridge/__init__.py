"""Headrace's bridge: value objects, wire format, staging, engines and steering.

The names below are imported when they are first asked for, so that the command ``headrace`` answers
at once: what they build on takes most of the time of its start.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.commands import (
        Acknowledgement,
        Capability,
        Command,
        Decision,
        Event,
        FrameReference,
    )
    from bridge.frames import Block, Frame, FrameBatch
    from bridge.pipeline import Context, FrameOperator, GlobalOperator, KeyedOperator, Pipeline
    from bridge.schema import StreamSchema, Topology, Variable

__all__ = [
    "Acknowledgement",
    "Block",
    "Capability",
    "Command",
    "Context",
    "Decision",
    "Event",
    "Frame",
    "FrameBatch",
    "FrameOperator",
    "FrameReference",
    "GlobalOperator",
    "KeyedOperator",
    "Pipeline",
    "StreamSchema",
    "Topology",
    "Variable",
]

_HOMES = ("commands", "frames", "pipeline", "schema")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return import_module(f"bridge.{name}")
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"bridge.{home}")
            if name in module.__all__:
                value = globals()[name] = getattr(module, name)
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
