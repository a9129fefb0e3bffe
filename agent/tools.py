"""What do all runners of an agent share?"""

import math
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent.alloc_dir import AllocDirs
from agent.drivers.base import Driver
from agent.hooks.base import TaskHook
from agent.journal import Journal
from agent.permit import without_asking
from agent.turns import Turns
from model.alloc import AllocId
from model.node import Node


def without_tokens(alloc_id: AllocId) -> Mapping[str, str]:
    """The accessors of an agent without Vault."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """node: asked anew each time, for the fingerprint changes. hooks: in the order of prepare."""

    node: Callable[[], Node]
    drivers: Mapping[str, Driver]
    journal: Journal
    dirs: AllocDirs
    hooks: Sequence[TaskHook]
    now: Callable[[], datetime]
    rng: random.Random
    kill_timeout_s_max: float = math.inf  # the operator's limit to what a job may ask for
    # Of an alloc's Vault tokens: accessors, with the namespace of each.
    accessors: Callable[[AllocId], Mapping[str, str]] = without_tokens
    permit: Callable[[AllocId, int], Coroutine[Any, Any, None]] = without_asking  # see permit.py
    # A start takes 0.4 ms of the loop before and about as much in its driver: 3 ms a round at most.
    turns: Turns = field(default_factory=lambda: Turns(8))

    def now_ns(self) -> int:
        return int(self.now().timestamp() * 1e9)

    def backoff_s(self, tries: int) -> float:
        """How long to wait before try number `tries` + 1 of what failed outside: 0.25 s to 10 s, jittered."""
        return min(0.25 * (1 << min(tries, 8)), 10.0) * (0.5 + self.rng.random())
