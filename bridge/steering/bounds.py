"""What a simulation lets others do to it: the check that guard and simulation share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bridge.commands import Capability, Command
from bridge.schema import plain_unit

__all__ = ["describe_command", "find_fault"]


def find_fault(command: Command, capabilities: Sequence[Capability]) -> str:
    """Return why a command is outside the declared capabilities, or an empty string.

    The sentence names the parameter, its value and the bound that it breaks.
    """
    same_kind = [c for c in capabilities if c.kind == command.kind]
    if not same_kind:
        declared = ", ".join(sorted({c.kind for c in capabilities})) or "nothing"
        return (
            f"The simulation {command.simulation!r} does not accept {command.kind!r}; it declares "
            f"{declared}."
        )
    if command.kind == "set":
        same = [c for c in same_kind if c.parameter == command.parameter]
        if not same:
            declared = ", ".join(sorted(c.parameter for c in same_kind))
            return (
                f"The simulation {command.simulation!r} lets nobody set {command.parameter!r}; it "
                f"lets others set {declared}."
            )
        return _find_value_fault(command, same[0], command.parameter)
    if command.kind == "interval":
        value = command.value
        if value is not None and math.isfinite(value) and (value < 1 or value != int(value)):
            return f"The output interval is a whole number of steps above 0, not {value:g}."
        return _find_value_fault(command, same_kind[0], "output interval")
    if command.kind == "restart" and command.frame is None and not command.state:
        return "The restart names no frame and carries no state; one of the two is needed."
    return ""


def _find_value_fault(command: Command, capability: Capability, what: str) -> str:
    value = command.value
    if value is None:
        return f"The command to change the {what} carries no value."
    unit = f" {plain_unit(capability.unit)}".rstrip()
    if not math.isfinite(value):
        return f"The value {value} of the {what} is not a finite number."
    if value < capability.minimum:
        return (
            f"The {what} of {value:g}{unit} is below the declared minimum of "
            f"{capability.minimum:g}{unit}."
        )
    if value > capability.maximum:
        return (
            f"The {what} of {value:g}{unit} is above the declared maximum of "
            f"{capability.maximum:g}{unit}."
        )
    return ""


def describe_command(command: Command) -> str:
    """Say in a few words what a command does, for people."""
    value = "?" if command.value is None else f"{command.value:g}"
    if command.kind == "set":
        words = f"set {command.parameter} = {value}"
    elif command.kind == "interval":
        words = f"output every {value} steps"
    elif command.kind == "restart":
        frame = command.frame
        origin = f"{frame.simulation}@{frame.offset}" if frame else "the enclosed state"
        words = f"restart from {origin}, {command.velocities} velocities"
    else:
        words = command.kind
    return words if command.at_step is None else f"{words}, at step {command.at_step}"
