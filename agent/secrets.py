"""What does a task get from Vault, as those see it who render its templates?"""

import asyncio
from typing import NamedTuple, Protocol

from agent.hooks.base import TaskContext
from template.lookups import Read, Secret


class Answer(NamedTuple):
    """What Vault holds at a path, and when to ask again.

    value: a Secret (or None: nothing is there) for What.SECRET, names for What.SECRETS. again_s: seconds until it may
    have changed: the lease is near its end, or it has none and is read now and then. stale: set when it is to be asked for
    before then, since the token that it was read with was replaced; None: that never is.
    """

    value: Secret | tuple[str, ...] | None
    again_s: float
    stale: asyncio.Event | None = None


class TaskSecrets(Protocol):
    """Reads with the task's own token. One implementation asks Vault; without a vault block there is none."""

    async def read(self, context: TaskContext, read: Read) -> Answer:
        """read.what is SECRET or SECRETS. Raises VaultUnavailable (keep what you have, ask again), VaultRefused.

        A dynamic secret is issued once: as long as its lease can be renewed the answer is the same, also after the
        agent was restarted.
        """
        ...
