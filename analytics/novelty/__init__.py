"""How new is a frame: local outlier factor and visit counts in a fixed or learned space."""

from analytics.novelty.bins import Bins, bin_keys
from analytics.novelty.encoded import EncodedSpace, make_space
from analytics.novelty.lof import OutlierModel
from analytics.novelty.memory import FrameMemory
from analytics.novelty.neighbours import neighbour_distances
from analytics.novelty.outlier import LocalOutlier
from analytics.novelty.space import Readiness, Space, project
from analytics.novelty.visited import VisitMemory
from analytics.novelty.visits import VisitCounts

__all__ = [
    "Bins",
    "EncodedSpace",
    "FrameMemory",
    "LocalOutlier",
    "OutlierModel",
    "Readiness",
    "Space",
    "VisitCounts",
    "VisitMemory",
    "bin_keys",
    "make_space",
    "neighbour_distances",
    "project",
]
