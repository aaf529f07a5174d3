"""Headrace's bridge: value objects, wire format, staging, engines and steering."""

from bridge.commands import Acknowledgement, Capability, Command, Decision, Event, FrameReference
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
