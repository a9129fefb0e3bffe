"""Who evens the allocs out over the nodes, and how is it done without losing capacity?

    rebalance ──decide/rebalance.py on a trial table──> moves ──migrate_to on each alloc──> the ordinary decisions

A wish is all that is written: the alloc that should move names its node-to-be, in Consul, and then every decision
about its job takes the next safe step (a stand-in there, healthy, then the old one stops), whoever leads by then.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from leader.decide.feasible import FeasibleCache
from leader.decide.rebalance import Balancing, Move, Skew
from leader.decide.table import NodeTable
from leader.deciding import Deciding
from leader.fenced import Fenced
from leader.view import View
from model.alloc import AllocId, DesiredAlloc
from model.job import Job, JobId, JobType, Namespace
from model.node import NodeId
from model.snapshot import JobKey
from model.wire import Document


class PlannedMove(Document):
    alloc_id: AllocId
    name: str
    group: str
    from_node: NodeId
    from_name: str
    to_node: NodeId
    to_name: str


class SkewChange(Document):
    """How many allocs the fullest value is further above its target than the emptiest."""

    group: str
    attribute: str
    before: float
    after: float


class JobBalance(Document):
    """skipped: why nothing of the job is moved, "" if it was looked at."""

    job_id: JobId
    namespace: Namespace
    skipped: str = ""
    moves: tuple[PlannedMove, ...] = ()
    skews: tuple[SkewChange, ...] = ()


@dataclass(slots=True, kw_only=True)
class Rebalancer:
    """interval_s: of the automatic mode, which moves one alloc of the whole cluster at a time; 0: it is off."""

    fenced: Fenced
    view: View
    deciding: Deciding
    interval_s: float

    async def run(self) -> None:
        if self.interval_s > 0:
            await self.fenced.keep_on("rebalance", self._cycle)

    async def _cycle(self) -> None:
        await asyncio.sleep(self.interval_s)
        if not any(alloc.desired.migrate_to and alloc.is_live for alloc in self.view.allocs.values()):
            await self.rebalance(sorted(self.view.jobs), moves_max=1)

    async def rebalance(self, keys: Sequence[JobKey], *, moves_max: int | None = None) -> list[JobBalance]:
        """Plans, and writes the wishes: when this returns they are in Consul. Raises StoreUnavailable."""
        found = await self.plan(keys, moves_max=moves_max)
        for job in found:
            if not job.skipped:
                key = (job.namespace, job.job_id)
                to = {move.alloc_id: move.to_node for move in job.moves}
                await self.deciding.errand(key, partial(self._wishes, key, to))
        return found

    def _wishes(self, key: JobKey, to: Mapping[AllocId, NodeId]) -> list[DesiredAlloc]:
        """The job's allocs whose wish is another one than planned: what is not to move loses an older wish."""
        stamp = {"epoch": self.fenced.epoch, "modify_time": self.fenced.now_ns}
        return [
            msgspec.structs.replace(alloc.desired, migrate_to=wanted, **stamp)
            for alloc in self.view.allocs_by_job.get(key, {}).values()
            if alloc.is_live and (wanted := to.get(alloc.id, NodeId(""))) != alloc.desired.migrate_to
        ]

    async def plan(self, keys: Sequence[JobKey], *, moves_max: int | None = None) -> list[JobBalance]:
        """What would move, job after job, each on top of those before. Holds the loop for one move at a time; what
        changes meanwhile only makes the plan older."""
        table, cache = self.view.table.copy(), FeasibleCache()
        found: list[JobBalance] = []
        left = moves_max
        for key in keys:
            job = self.view.jobs.get(key)
            if job is None:
                continue
            if why := self._skipped(key, job):
                found.append(JobBalance(job_id=job.id, namespace=job.namespace, skipped=why))
                continue
            balance = await self._of_job(key, job, table, cache, left)
            found.append(balance)
            left = left - len(balance.moves) if left is not None else None
            if left == 0:
                break
        return found

    async def _of_job(
        self, key: JobKey, job: Job, table: NodeTable, cache: FeasibleCache, moves_max: int | None
    ) -> JobBalance:
        allocs = tuple(self.view.allocs_by_job.get(key, {}).values())
        moves: list[PlannedMove] = []
        skews: list[SkewChange] = []
        for group in job.task_groups:
            balancing = Balancing(job=job, group=group, table=table, cache=cache, rng=random.Random(0))
            to: dict[AllocId, NodeId] = {}
            if moves_max != len(moves):
                for move in balancing.moves(allocs):
                    to[move.alloc.id] = move.to
                    moves.append(self._shown(move))
                    if len(moves) == moves_max:
                        break
                    await asyncio.sleep(0)
            skews += [_skew(group.name, skew) for skew in balancing.skews(allocs, to)]
        return JobBalance(job_id=job.id, namespace=job.namespace, moves=tuple(moves), skews=tuple(skews))

    def _skipped(self, key: JobKey, job: Job) -> str:
        if job.stop:
            return "the job is stopped"
        if job.type is not JobType.SERVICE:
            return f"a {job.type.value} job is not moved"
        deployment = self.view.latest_deployment(key)
        return "its deployment is under way" if deployment is not None and deployment.is_active else ""

    def _shown(self, move: Move) -> PlannedMove:
        desired = move.alloc.desired
        return PlannedMove(
            alloc_id=desired.id,
            name=desired.name,
            group=desired.task_group,
            from_node=desired.node_id,
            from_name=desired.node_name,
            to_node=move.to,
            to_name=self.view.nodes[move.to].node.name,
        )


def _skew(group: str, skew: Skew) -> SkewChange:
    return SkewChange(group=group, attribute=skew.attribute, before=skew.before, after=skew.after)
