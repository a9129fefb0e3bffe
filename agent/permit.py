"""May a task be ended now for failing checks, where its group limits how many are at once?

Asked of the leader through this agent's own API, which finds it. No answer within 10 s is as good as a permit: what to
do with an unhealthy task is decided here.
"""

import asyncio
import logging
import ssl

import aiohttp

from model.alloc import AllocId
from model.secret import Secret

log = logging.getLogger(__name__)

# What is waited for at most, whoever is away: the 10 s within which every task is restarted that has to be.
PERMIT_WAIT_S = 10.0


async def without_asking(alloc_id: AllocId, max_parallel: int) -> None:
    """The permit of an agent without a leader, as in tests."""


class RestartPermit:
    """url: of this agent's API. token: the agent's own; tls: how its API is called, None in the clear."""

    def __init__(self, url: str, token: Secret | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._url = f"{url}/v1/allocation/{{}}/restart-permit"
        self._token, self._tls = token, tls

    async def __call__(self, alloc_id: AllocId, max_parallel: int) -> None:
        """Returns when the task may be ended."""
        try:
            async with asyncio.timeout(PERMIT_WAIT_S), aiohttp.ClientSession() as session:
                answer = await session.put(
                    self._url.format(alloc_id),
                    json={"MaxParallel": max_parallel},
                    headers={"X-Nomad-Token": self._token.reveal()} if self._token else None,
                    ssl=self._tls or True,
                )
                answer.raise_for_status()
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            log.warning("alloc %s: restarted without the leader's word: %s", alloc_id, error or "no answer")
