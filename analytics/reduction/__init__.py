"""Few numbers from many features: components that are learned online."""

from analytics.reduction.model import LinearModel
from analytics.reduction.pca import OnlinePCA
from analytics.reduction.projection import Projection
from analytics.reduction.streaming_pca import StreamingPCA
from analytics.reduction.streaming_tica import StreamingTICA
from analytics.reduction.tica import OnlineTICA

__all__ = ["LinearModel", "OnlinePCA", "OnlineTICA", "Projection", "StreamingPCA", "StreamingTICA"]
