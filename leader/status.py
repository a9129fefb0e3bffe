"""Is a job pending, running or dead?"""

from leader.view import View
from model.job import Job, JobStatus
from model.snapshot import JobKey


def job_status(view: View, key: JobKey, job: Job) -> JobStatus:
    """dead: stopped, or a batch job that has nothing left to do; running: anything wanted or running, and what starts
    children until it is stopped."""
    if job.is_parent:
        return JobStatus.DEAD if job.stop else JobStatus.RUNNING
    allocs = view.allocs_by_job.get(key, {}).values()
    if any(not alloc.is_terminal and not alloc.desired.apart for alloc in allocs):
        return JobStatus.RUNNING
    if job.stop:
        return JobStatus.DEAD
    if job.is_batch and allocs:
        return JobStatus.DEAD
    return JobStatus.PENDING


def is_over(view: View, key: JobKey) -> bool:
    """Whether nothing of the job runs or is to run, be it apart from the job; also of one that is forgotten."""
    if any(not alloc.is_terminal for alloc in view.allocs_by_job.get(key, {}).values()):
        return False
    job = view.jobs.get(key)
    return job is None or job_status(view, key, job) is JobStatus.DEAD
