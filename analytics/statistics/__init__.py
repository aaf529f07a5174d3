"""Statistics of streams: moments and time-lagged covariances, mergeable and able to forget."""

from analytics.statistics.blocks import BlockedMoments
from analytics.statistics.lagged import Covariances, LaggedCovariance
from analytics.statistics.moments import Moments
from analytics.statistics.running import RunningMoments

__all__ = ["BlockedMoments", "Covariances", "LaggedCovariance", "Moments", "RunningMoments"]
