"""The registry: versions of models in a shared folder, promoted, served and taken back."""

from analytics.learning.registry.cards import Card
from analytics.learning.registry.history import Served
from analytics.learning.registry.store import Loaded, Registry

__all__ = ["Card", "Loaded", "Registry", "Served"]
