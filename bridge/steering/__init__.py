"""Steering: who may do what to a simulation, and what became of it."""

from bridge.steering.bounds import describe_command, find_fault
from bridge.steering.channel import ChannelStatistics, CommandChannel
from bridge.steering.desk import TIME_LIMIT, Desk
from bridge.steering.end import CommandCarrier, SimulationEnd
from bridge.steering.guard import CapabilityBook, Guard, GuardMaker, GuardRules
from bridge.steering.keeper import Keeper, KeeperMaker
from bridge.steering.ledger import (
    ApprovalState,
    Ledger,
    LedgerLine,
    LedgerReader,
    read_ledger,
    state_of,
    word_of,
)
from bridge.steering.restart import read_restart
from bridge.steering.telling import tell_once
from bridge.steering.unreadable import Unreadable

__all__ = [
    "TIME_LIMIT",
    "ApprovalState",
    "CapabilityBook",
    "ChannelStatistics",
    "CommandCarrier",
    "CommandChannel",
    "Desk",
    "Guard",
    "GuardMaker",
    "GuardRules",
    "Keeper",
    "KeeperMaker",
    "Ledger",
    "LedgerLine",
    "LedgerReader",
    "SimulationEnd",
    "Unreadable",
    "describe_command",
    "find_fault",
    "read_ledger",
    "read_restart",
    "state_of",
    "tell_once",
    "word_of",
]
