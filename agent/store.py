"""What does the agent need of Consul? catalog/agent_store.py has it; tests and the simulator have doubles."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from model.alloc import AllocId, DesiredAlloc, ObservedAlloc
from model.job import Job, JobId, Namespace
from model.node import Node, NodeId


class DesiredView(Protocol):
    """All that should run on this node, and the index to wait from."""

    @property
    def allocs(self) -> Mapping[AllocId, DesiredAlloc]: ...

    @property
    def index(self) -> int: ...

    @property
    def meta(self) -> Mapping[str, str | None]:
        """The node's meta as it was set at run time; None: the key is not there."""


class AgentStore(Protocol):
    async def watch_desired(self, node_id: NodeId, index: int, wait_s: float) -> DesiredView:
        """Answers once a desired document changed after `index`, or after wait_s. Raises StoreUnavailable."""

    async def read_job(self, namespace: Namespace, job_id: JobId, version: int) -> Job | None:
        """None when Consul has no such version. Raises StoreUnavailable."""

    async def report(self, node_id: NodeId, allocs: Sequence[ObservedAlloc], node: Node | None) -> None:
        """Writes what runs here. Idempotent. Raises StoreUnavailable, WriteConflict."""

    async def reach(self, timeout_s: float) -> None:
        """Returns when Consul's servers, and not only its local agent, have answered. Raises StoreUnavailable."""

    async def delete_observed(self, node_id: NodeId, alloc_ids: Sequence[AllocId]) -> None:
        """Takes back the reports of allocs that nothing desired names any more."""
