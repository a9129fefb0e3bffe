"""Who tells the leader that a new alloc is healthy?

While any alloc's health is undecided, its tasks and Consul checks are looked at each quarter of a second
and decide/health.py says what that means; otherwise nothing runs here. Consul's answers come from the
local agent, so a deployment waits for nobody else.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from agent.alloc_runner import AllocRunner
from agent.decide.health import Watch, look, rule_of
from model.alloc import AllocId
from model.errors import StoreRefused, StoreUnavailable
from model.job import JobType

# Adds an eighth of a second on average to a min_healthy_time of seconds; costs one read of the local agent's
# checks (1.5 ms for 300) and only while something is rolling out.
LOOK_S = 0.25


class AllocChecks(Protocol):
    async def passing(self) -> Mapping[AllocId, bool]:
        """For each alloc with published checks, whether all of them pass. Raises StoreUnavailable."""


class HealthWatch:
    """runners: all allocs of the agent. wake() when one came or changed its desired document."""

    def __init__(self, runners: Callable[[], Iterable[AllocRunner]], checks: AllocChecks | None) -> None:
        self._runners = runners
        self._checks = checks
        self._watches: dict[tuple[AllocId, str], Watch] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        while True:
            undecided = [runner for runner in self._runners() if is_undecided(runner)]
            if undecided:
                await self._look(undecided)
                await asyncio.sleep(LOOK_S)
            else:
                self._watches.clear()
                self._wake.clear()
                await self._wake.wait()

    async def _look(self, undecided: list[AllocRunner]) -> None:
        passing = await self._passing()
        now_s = asyncio.get_running_loop().time()
        for runner in undecided:
            key = (runner.desired.id, runner.desired.deployment_id)
            rule = rule_of(runner.group, is_deployed=bool(runner.desired.deployment_id))
            if rule is None:
                continue
            watch = self._watches.get(key) or Watch(began_s=now_s)
            pass_ = None if passing is None else passing.get(runner.desired.id, False)
            healthy, self._watches[key] = look(watch, rule, runner.group, runner.states(), pass_, now_s)
            if healthy is not None:
                runner.set_health(healthy)
                del self._watches[key]

    async def _passing(self) -> Mapping[AllocId, bool] | None:
        """None when Consul does not say."""
        if self._checks is None:
            return None
        try:
            return await self._checks.passing()
        except (StoreUnavailable, StoreRefused):
            return None


def is_undecided(runner: AllocRunner) -> bool:
    """A live alloc of a service whose health somebody waits for. After its end its status says all there is."""
    desired = runner.desired
    if desired.is_stopping or runner.job.type is not JobType.SERVICE or not runner.tasks:
        return False
    if runner.is_dead and not runner.has_failed:
        return False
    is_decided = runner.row.deployment_status is not None and runner.row.health_of == desired.deployment_id
    return not is_decided and rule_of(runner.group, is_deployed=bool(desired.deployment_id)) is not None
