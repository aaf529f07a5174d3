"""What turns results into decisions: restarts from rare or new frames, and the end of a run."""

from analytics.policies.restart import RestartRare
from analytics.policies.target import StopAtTarget

__all__ = ["RestartRare", "StopAtTarget"]
