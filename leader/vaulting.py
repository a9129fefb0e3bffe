"""What does the leader do with Vault? It makes tokens for agents that have none, and ends those of lost nodes.

Nothing of it is in Consul but the accessors that agents report, which open nothing. A leader without a `vault` block, or
whose Vault is away, does all else as ever.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Protocol

from leader.view import View
from model.alloc import Alloc, AllocId, Verdict
from model.errors import TaskRefused, VaultRefused, VaultUnavailable
from model.job import Job
from model.secret import Secret
from model.snapshot import Life
from vault.client import VaultClient, Wrapped
from vault.login import Login
from vault.requests import request_of

log = logging.getLogger("drover.leader")

# An agent that asked unwraps at once; nobody else is to find it of use.
_WRAPPED_S = 60.0
# How often lost nodes are looked through for tokens that are to end.
_LOOK_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderVault:
    """This process' access to Vault, for the time that it leads. role, ttl_s: of tokens that it makes.
    asks_submitters: who submits a job has to have the policies that it asks for."""

    client: VaultClient
    login: Login
    role: str
    ttl_s: float
    asks_submitters: bool

    async def wrapped(self, alloc: Alloc, job: Job, task_name: str) -> Wrapped:
        """A token for a task of a live alloc. Raises TaskRefused, VaultRefused, VaultUnavailable."""
        desired = alloc.desired
        tasks = [t for group in job.task_groups if group.name == desired.task_group for t in group.tasks if t.name == task_name]
        if alloc.is_terminal or desired.is_stopping:
            raise TaskRefused("the allocation has ended, or is about to")
        if not tasks or tasks[0].vault is None:
            raise TaskRefused(f"task {task_name!r} has no vault block")
        wanted = request_of(desired, tasks[0], self.role, self.ttl_s)
        return await self.client.create_wrapped(
            self.login.token(),
            policies=wanted.policies,
            role=wanted.role,
            display_name=wanted.display_name,
            metadata=wanted.metadata,
            ttl_s=wanted.ttl_s,
            wrap_ttl_s=_WRAPPED_S,
            namespace=wanted.namespace,
        )

    async def require_policies(self, job: Job, token: Secret) -> None:
        """Whether the token, the submitter's, has each policy that the job asks for. Raises VaultRefused with Nomad's
        words, VaultUnavailable."""
        wanted = {policy for group in job.task_groups for task in group.tasks if task.vault for policy in task.vault.policies}
        if not wanted:
            return
        if not token:
            raise VaultRefused("Vault policies requested but missing Vault Token")
        held = set((await self.client.lookup_self(token)).policies)
        if "root" not in held and (missing := sorted(wanted - held)):
            raise VaultRefused(f"Passed Vault Token doesn't allow access to the following policies: {', '.join(missing)}")


class Term(Protocol):
    """What the part below needs of a term (leading.py)."""

    view: View
    vault: LeaderVault | None


@dataclass(slots=True)
class Revocations:
    """Ends the tokens of tasks whose node was given up: whoever finds that machine finds nothing that opens Vault.
    A node that returns gets new ones for what it may keep."""

    term: Term
    _ended: set[str] = field(default_factory=set)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                if self.term.vault is not None:
                    await self._end_lost(self.term.vault, self.term.view)
            except (VaultUnavailable, VaultRefused) as error:
                log.debug("tokens of lost nodes are not revoked yet: %s", error)

    async def _end_lost(self, vault: LeaderVault, view: View) -> None:
        waiting: dict[str, tuple[AllocId, str]] = {}
        for node in view.nodes.values():
            if node.life is Life.LOST:
                for alloc in view.allocs_by_node.get(node.id, {}).values():
                    if alloc.observed is not None and alloc.desired.verdict is Verdict.LOST:
                        waiting |= {one: (alloc.id, where) for one, where in alloc.observed.vault_accessors.items()}
        self._ended &= waiting.keys()
        if not waiting.keys() - self._ended:
            return
        token = vault.login.token()  # without one of its own the leader ends nothing, and tries again
        for accessor, (alloc_id, namespace) in waiting.items():
            if accessor not in self._ended:
                try:
                    await vault.client.revoke_accessor(token, accessor, namespace)
                    log.info("alloc %s: its Vault token was revoked, for its node is lost", alloc_id)
                except VaultRefused as error:
                    log.warning("alloc %s: its Vault token cannot be revoked: %s", alloc_id, error)
                self._ended.add(accessor)
