"""Is a job pending, running or dead, and how far are its groups that come to an end?"""

from collections.abc import Mapping

from leader.decide.completing import Progress, ProgressStatus, progress
from leader.view import View
from model.job import Job, JobStatus
from model.snapshot import JobKey


def job_status(view: View, key: JobKey, job: Job) -> JobStatus:
    """dead: stopped, or a batch job that has nothing left to do; running: anything wanted or running, and what starts
    children until it is stopped."""
    if job.is_parent:
        return JobStatus.DEAD if job.stop else JobStatus.RUNNING
    allocs = view.allocs_by_job.get(key, {}).values()
    if any(not alloc.client_status.is_terminal and not alloc.desired.apart for alloc in allocs):
        return JobStatus.RUNNING
    if job.stop or job.wants_nothing:
        return JobStatus.DEAD
    if not job.is_batch:
        return JobStatus.PENDING
    found = progress_of(view, key, job).values()
    if not allocs:
        # Its deadline may have passed before anything of it found a place.
        return JobStatus.DEAD if found and all(one.is_over for one in found) else JobStatus.PENDING
    # Nothing of it runs just now: a retry may be waited for.
    return JobStatus.DEAD if all(one.is_over for one in found) else JobStatus.RUNNING


def progress_of(view: View, key: JobKey, job: Job) -> dict[str, Progress]:
    """How far the job's groups with a completion block are, by group."""
    groups = [group for group in job.task_groups if group.completion is not None]
    if not groups:
        return {}
    allocs = view.allocs_by_job.get(key, {}).values()
    named = {alloc.desired.job_version for alloc in allocs}
    versions = {v: view.versions[key, v] for v in named if (key, v) in view.versions}
    now_ns = view.clock()
    return {
        group.name: progress(job, group, (a for a in allocs if a.desired.task_group == group.name), versions, now_ns)
        for group in groups
    }


def description_of(found: Mapping[str, Progress]) -> str:
    """Why the job failed, if it did: of each group that has."""
    return "; ".join(
        f"group {name}: {one.reason}" for name, one in found.items() if one.status is ProgressStatus.FAILED
    )


def is_over(view: View, key: JobKey) -> bool:
    """Whether nothing of the job runs or is to run, be it apart from the job; also of one that is forgotten."""
    if any(not alloc.is_terminal for alloc in view.allocs_by_job.get(key, {}).values()):
        return False
    job = view.jobs.get(key)
    return job is None or job_status(view, key, job) is JobStatus.DEAD
