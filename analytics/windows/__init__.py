"""Windows of simulated time: of one simulation, and across the ensemble."""

from analytics.windows.ensemble import EnsembleWindow
from analytics.windows.keyed import Window
from analytics.windows.reductions import REDUCTIONS
from analytics.windows.spans import Spans

__all__ = ["REDUCTIONS", "EnsembleWindow", "Spans", "Window"]
