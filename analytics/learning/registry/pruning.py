"""Which versions a registry need not keep, and how they go."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from analytics.learning.registry import files
from analytics.learning.registry.cards import Card, read_cards
from analytics.learning.registry.place import Place
from analytics.learning.registry.programs import Programs

__all__ = ["find_superfluous", "remove"]


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


def remove(place: Place, programs: Programs, name: str, versions: Sequence[str]) -> None:
    """Remove versions of a name, and whatever nobody knows; under the registry's lock.

    Tensors that another name has, too, stay. What killed writers left goes after an hour.
    """
    # The system's clock, whatever the registry's says: it is compared with that of the files.
    now = time.time()
    for version in versions:
        place.card(name, version).unlink(missing_ok=True)
    paths = place.find_cards()
    cards = read_cards(paths)
    # Also what a damaged card is of: it may be mended.
    known = {path.stem for path in paths}
    tensors = place.versions.glob("[!.]*.safetensors")
    files.remove_unknown(tensors, known, at_once=versions, now=now)
    if len(cards) == len(paths):
        programs.keep_only((card.hyper for card in cards), now=now)
    for folder in (place.versions, place.programs, place.cards(name)):
        files.remove_stale(folder, now=now)
