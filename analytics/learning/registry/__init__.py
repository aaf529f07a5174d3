"""The registry: versions of models in a shared folder, promoted, served and taken back."""

from analytics.learning.registry.cards import Card
from analytics.learning.registry.gate import Comparison, Gate, HeldOut, compare
from analytics.learning.registry.history import Served
from analytics.learning.registry.lifecycle import Lifecycle, Verdict
from analytics.learning.registry.loaded import Loaded
from analytics.learning.registry.store import Registry

__all__ = [
    "Card",
    "Comparison",
    "Gate",
    "HeldOut",
    "Lifecycle",
    "Loaded",
    "Registry",
    "Served",
    "Verdict",
    "compare",
]
