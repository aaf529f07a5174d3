"""A version that was loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analytics.learning.registry.cards import Card

if TYPE_CHECKING:
    from analytics.learning.alignment import Alignment
    from analytics.learning.model import StreamModel

__all__ = ["Loaded"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version, ready for use.

    Attributes
    ----------
    model
        On the CPU, set to evaluate.
    alignment
        What turns its coordinates to those of the models before it; None for nothing.
    card
        What is known of it.
    """

    model: StreamModel
    alignment: Alignment | None
    card: Card
