"""What is a task's token asked for? The same, whether the leader asks or the task's agent."""

from collections.abc import Mapping
from dataclasses import dataclass

from model.alloc import DesiredAlloc
from model.job import Task

# Nomad's: what it takes where the job file says nothing.
TTL_S_DEFAULT = 72 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    policies: tuple[str, ...]
    role: str
    namespace: str
    display_name: str
    metadata: Mapping[str, str]
    ttl_s: float


def request_of(desired: DesiredAlloc, task: Task, role: str, ttl_s: float) -> TokenRequest:
    """role, ttl_s: of the `vault` block of whoever asks; the job's own role comes before it."""
    vault = task.vault
    assert vault is not None
    return TokenRequest(
        policies=vault.policies,
        role=vault.role or role,
        namespace=vault.namespace,
        display_name=f"{desired.id}-{task.name}",
        # Nomad's names, and what Vault's audit log then tells.
        metadata={
            "AllocationID": desired.id,
            "JobID": desired.job_id,
            "Namespace": desired.namespace,
            "NodeID": desired.node_id,
            "Task": task.name,
        },
        ttl_s=ttl_s,
    )
