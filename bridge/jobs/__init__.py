"""Jobs on clusters: submitting them, finding them again, ending them; and clusters to try out."""

from bridge.jobs.records import JobRecord, JobStore
from bridge.jobs.sources import JobPlan, load_job

__all__ = ["JobPlan", "JobRecord", "JobStore", "load_job"]
