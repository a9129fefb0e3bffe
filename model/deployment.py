"""What is a deployment, and how far is it?

One roll-out of one job version: the leader writes it, and everything in it follows from the job's allocs and
from what operators said (promoted, paused, failed). Names and states are Nomad's.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NewType

from model.alloc import AllocId
from model.job import JobId, Namespace
from model.wire import Document, Nanoseconds

DeploymentId = NewType("DeploymentId", str)


class DeploymentStatus(StrEnum):
    """running and paused are active; the others are how it ended."""

    RUNNING = "running"
    PAUSED = "paused"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_active(self) -> bool:
        return self in (DeploymentStatus.RUNNING, DeploymentStatus.PAUSED)


class GroupDeployment(Document):
    """One group's part. require_progress_by: ns since the epoch, 0 for never; it moves on with each alloc that
    becomes healthy. promoted: an operator's or auto_promote's yes to the canaries. unhealthy_allocs counts also those
    that others have replaced since."""

    auto_revert: bool = False
    auto_promote: bool = False
    promoted: bool = False
    progress_deadline: Nanoseconds = Nanoseconds(0)
    require_progress_by: int = 0
    placed_canaries: tuple[AllocId, ...] = ()
    desired_canaries: int = 0
    desired_total: int = 0
    placed_allocs: int = 0
    healthy_allocs: int = 0
    unhealthy_allocs: int = 0

    @property
    def needs_promotion(self) -> bool:
        return self.desired_canaries > 0 and not self.promoted


class Deployment(Document):
    id: DeploymentId
    namespace: Namespace
    job_id: JobId
    job_version: int
    task_groups: Mapping[str, GroupDeployment] = {}
    status: DeploymentStatus = DeploymentStatus.RUNNING
    status_description: str = ""
    is_given_up: bool = False  # an operator called it failed
    create_time: int = 0  # ns since the epoch
    modify_time: int = 0
    epoch: int = 0

    @property
    def is_active(self) -> bool:
        return self.status.is_active
