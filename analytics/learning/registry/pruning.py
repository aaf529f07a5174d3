"""Which versions a registry need not keep."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from analytics.learning.registry.cards import Card

__all__ = ["find_superfluous"]


def find_superfluous(cards: Sequence[Card], served: Collection[str], keep: int) -> list[str]:
    """Return the versions that can go, oldest first.

    Parameters
    ----------
    cards
        All versions of a name, oldest first.
    served
        Those that were ever served: they stay.
    keep
        How many of the newest others stay. What one that stays learned on from stays as well.
    """
    others = [card for card in cards if card.version not in served]
    stay = set(served) | {card.version for card in others[-keep:]}
    parents = {card.parent for card in cards if card.version in stay}
    return [card.version for card in others if card.version not in stay | parents]
