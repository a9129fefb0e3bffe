"""Where does the token of a task come from?

    OwnTokens      the agent has a token of its own and makes them
    LeaderTokens   it has none: the leader makes them, for allocs of this node, and hands them over wrapped
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from agent.hooks.base import TaskContext
from model.errors import VaultRefused, VaultUnavailable
from model.secret import Secret
from vault.client import TaskToken, VaultClient
from vault.requests import request_of

# The leader's call to Vault has a deadline of its own, and a leader may have to be found first.
LEADER_S_MAX = 15.0


class TaskTokens(Protocol):
    async def make(self, context: TaskContext) -> TaskToken:
        """A new token for the task. Raises VaultUnavailable (ask again later), VaultRefused."""
        ...

    async def revoke(self, accessor: str, namespace: str) -> None:
        """Ends one that may not do so itself. Raises as make()."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTokens:
    """token: the agent's own; raises as make(). role, ttl_s: of the agent's `vault` block."""

    client: VaultClient
    token: Callable[[], Secret]
    role: str
    ttl_s: float

    async def make(self, context: TaskContext) -> TaskToken:
        wanted = request_of(context.desired, context.task, self.role, self.ttl_s)
        return await self.client.create_token(
            self.token(),
            policies=wanted.policies,
            role=wanted.role,
            display_name=wanted.display_name,
            metadata=wanted.metadata,
            ttl_s=wanted.ttl_s,
            namespace=wanted.namespace,
        )

    async def revoke(self, accessor: str, namespace: str) -> None:
        await self.client.revoke_accessor(self.token(), accessor, namespace)


class LeaderTokens:
    """url: of this agent's API, which finds the leader. token: the agent's own for Consul; tls: how its API is called."""

    def __init__(self, client: VaultClient, url: str, token: Secret, tls: ssl.SSLContext | None) -> None:
        self._client = client
        self._url = f"{url}/v1/allocation/{{}}/vault-token"
        self._token, self._tls = token, tls

    async def make(self, context: TaskContext) -> TaskToken:
        wrapped = await self._ask(context)
        assert context.task.vault is not None
        return await self._client.unwrap(wrapped, context.task.vault.namespace)

    async def revoke(self, accessor: str, namespace: str) -> None:
        raise VaultRefused("this agent has no token of its own, by which others are ended")

    async def _ask(self, context: TaskContext) -> Secret:
        try:
            async with asyncio.timeout(LEADER_S_MAX), aiohttp.ClientSession() as session:
                answer = await session.put(
                    self._url.format(context.desired.id),
                    json={"Task": context.task.name},
                    headers={"X-Nomad-Token": self._token.reveal()} if self._token else None,
                    ssl=self._tls or True,
                )
                body = await answer.text()
                if answer.status == 200:
                    return Secret((await answer.json())["WrappedToken"])
        except (OSError, aiohttp.ClientError, TimeoutError, KeyError, ValueError) as error:
            raise VaultUnavailable(f"the leader was not reached for a token: {error or 'no answer'}") from error
        if answer.status in (400, 403):
            raise VaultRefused(body.strip()[:500])
        raise VaultUnavailable(f"the leader has no token: {answer.status} {body.strip()[:300]}")
