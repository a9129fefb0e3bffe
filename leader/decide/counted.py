"""Which allocs fill the places of a service or batch group, and what does it lack?

    live allocs ──by place──> best | stand-ins of what moves | canaries | surplus (stopped)
    rolling: outdated ones, max_parallel at a time; moving: what has to leave its node; missing: empty places

A group of count n has the places 0 .. n-1, named in the alloc's name. First everything is sorted (`sort`), for
whether a deployment begins depends on all the groups; then each group takes its next step (`fill`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from leader.decide.changes import runs_current
from leader.decide.draft import Draft, Facts, is_healthy, stopped
from leader.decide.reschedule import next_attempt
from model.alloc import Alloc, AllocId, ClientStatus, DesiredAlloc, RescheduleTracker, Verdict, alloc_name
from model.deployment import Deployment, DeploymentStatus
from model.evaluation import norm_score
from model.job import Job, TaskGroup, disconnect_of
from model.node import NodeId
from model.plan import PlaceRequest

# Nomad's words, shown by `alloc status`.
NOT_NEEDED = "alloc not needed due to job update"
UPDATED = "alloc is being updated due to job update"
MIGRATED = "alloc is being migrated"
ORIGINAL_BACK = "alloc not needed as the original's node returned"
STAND_IN_KEPT = "alloc not needed as its stand-in stays"
CANARY_OVER = "alloc not needed as its deployment's canaries were not promoted"


@dataclass(slots=True, kw_only=True)
class Places:
    """One group's places, by index. standins: replacements of what moves, beside the alloc in `best` that moves.
    outdated: those of `best` that do not run the current version."""

    group: TaskGroup
    allocs: Sequence[Alloc]
    best: dict[int, Alloc]
    standins: dict[int, Alloc]
    canaries: dict[int, Alloc]
    outdated: dict[int, Alloc]

    @property
    def missing(self) -> list[int]:
        return [index for index in range(self.group.count) if index not in self.best]

    def is_settled(self, index: int, job: Job) -> bool:
        """Whether the place is filled by an alloc that passed its health rule."""
        alloc = self.best.get(index)
        return alloc is not None and is_healthy(alloc, job, self.group)


def sort(facts: Facts, group: TaskGroup, allocs: Sequence[Alloc], draft: Draft) -> Places:
    """allocs: all of the group, ended ones included. Stops what fills no place."""
    places = Places(group=group, allocs=allocs, best={}, standins={}, canaries={}, outdated={})
    for alloc in sorted((a for a in allocs if a.is_live), key=lambda a: _preference(a, facts, group)):
        index = alloc.desired.index
        if not alloc.desired.canary or _is_promoted(facts, alloc):
            _take(facts, alloc, places, draft)
        elif _is_wanted_canary(facts, alloc) and index < group.count and index not in places.canaries:
            places.canaries[index] = alloc
        else:
            draft.stop(alloc, CANARY_OVER)
    for index, alloc in places.best.items():
        is_current = runs_current(alloc, facts.job, group, facts.versions)
        if not is_current or (alloc.desired.job_version != facts.job.version and alloc.id in facts.misplaced):
            places.outdated[index] = alloc
    return places


def _is_wanted_canary(facts: Facts, alloc: Alloc) -> bool:
    deployment = facts.deployment
    return (
        deployment is not None
        and deployment.is_active
        and deployment.id == alloc.desired.deployment_id
        and deployment.job_version == facts.job.version
    )


def _is_promoted(facts: Facts, alloc: Alloc) -> bool:
    deployment = facts.deployment
    if deployment is None or deployment.id != alloc.desired.deployment_id:
        return False
    state = deployment.task_groups.get(alloc.desired.task_group)
    return state is not None and state.promoted


def _preference(alloc: Alloc, facts: Facts, group: TaskGroup) -> tuple[bool, bool, int, str]:
    """Sorts the alloc to keep first: current or equal version, running, oldest."""
    return (
        not runs_current(alloc, facts.job, group, facts.versions),
        alloc.client_status is not ClientStatus.RUNNING,
        alloc.create_index,
        alloc.id,
    )


def _take(facts: Facts, alloc: Alloc, places: Places, draft: Draft) -> None:
    index = alloc.desired.index
    known = places.best.get(index)
    if index >= places.group.count:
        draft.stop(alloc, NOT_NEEDED)
    elif known is None:
        places.best[index] = alloc
    elif index not in places.standins and (pair := _pair(facts, known, alloc)) is not None:
        # What moves and its stand-in: both run until the stand-in is healthy.
        places.best[index], places.standins[index] = pair
    elif _stands_in(alloc, known, places.group):
        places.best[index] = alloc
        draft.stop(known, STAND_IN_KEPT)
    else:
        # Two fill one place: the first is better; the other is usually the stand-in of a lost node.
        draft.stop(alloc, ORIGINAL_BACK if alloc.desired.previous_allocation == known.id else NOT_NEEDED)


def _pair(facts: Facts, known: Alloc, alloc: Alloc) -> tuple[Alloc, Alloc] | None:
    """(what moves, its stand-in), if the two are that."""
    for mover, standin in ((known, alloc), (alloc, known)):
        # A move that began goes on, also when its node-to-be takes no further work just now.
        began = mover.desired.migrate_to and standin.desired.previous_allocation == mover.id
        if began or (facts.must_leave(mover) and not facts.must_leave(standin)):
            return mover, standin
    return None


def _stands_in(alloc: Alloc, known: Alloc, group: TaskGroup) -> bool:
    """Whether a stand-in stays though the original's node returned: only where the group's `disconnect` says so, of
    the same version, and never one that does not run yet."""
    rule = disconnect_of(group)
    if (
        rule is None
        or not known.desired.unknown_at
        or alloc.desired.previous_allocation != known.id
        or alloc.desired.job_version != known.desired.job_version
        or alloc.client_status is not ClientStatus.RUNNING
    ):
        return False
    match rule.reconcile:
        case "keep_replacement":
            return True
        case "best_score":
            return norm_score(alloc.desired.scores) > norm_score(known.desired.scores)
        case "longest_running":
            return _started_at(alloc) < _started_at(known)
        case _:
            return False


def _started_at(alloc: Alloc) -> str:
    """When its last task (re)started, as RFC 3339 in UTC, which sorts by time."""
    states = alloc.observed.task_states.values() if alloc.observed is not None else ()
    return max((state.started_at or "" for state in states), default="")


def fill(facts: Facts, places: Places, deployment: Deployment | None, draft: Draft) -> None:
    """The group's next step. deployment: of the current version, ended or not; None without."""
    _Filling(facts, places, deployment, draft).run()


class _Filling:
    def __init__(self, facts: Facts, places: Places, deployment: Deployment | None, draft: Draft) -> None:
        self._facts, self._places, self._draft = facts, places, draft
        self._job, self._group = facts.job, places.group
        self._state = deployment.task_groups.get(places.group.name) if deployment else None
        self._status = deployment.status if deployment is not None and self._state is not None else None
        is_active = self._status is not None and self._status.is_active
        self._deployment_id = deployment.id if deployment is not None and is_active else ""
        self._ended_at: dict[int, list[Alloc]] = {}  # by place: a group may miss 50,000 of them
        for alloc in places.allocs:
            if not alloc.is_live:
                self._ended_at.setdefault(alloc.desired.index, []).append(alloc)

    @property
    def _holds_back(self) -> bool:
        """The current version must not spread: it waits for its canaries' promotion, or has failed."""
        waits = self._status is not None and self._status.is_active and self._state is not None and self._state.needs_promotion
        return waits or self._status is DeploymentStatus.FAILED

    def run(self) -> None:
        self._promote()
        self._take_up()
        if self._status is DeploymentStatus.RUNNING and self._state is not None and self._state.needs_promotion:
            self._place_canaries(self._state.desired_canaries)
        elif not self._holds_back and self._status is not DeploymentStatus.PAUSED:
            self._roll()
        self._fill_missing()
        self._move()  # last: what finds no place elsewhere says nothing about what may be placed anywhere

    # -- versions

    def _promote(self) -> None:
        for alloc in self._places.best.values():
            if alloc.desired.canary:
                current = self._draft.change.get(alloc.id, alloc.desired)
                self._draft.change[alloc.id] = msgspec.structs.replace(current, canary=False)

    def _take_up(self) -> None:
        """In place: what already runs as the current version asks is told its number."""
        for index, alloc in self._places.best.items():
            if index in self._places.outdated or alloc.desired.job_version == self._job.version:
                continue
            current = self._draft.change.get(alloc.id, alloc.desired)
            self._draft.change[alloc.id] = msgspec.structs.replace(
                current,
                job_version=self._job.version,
                deployment_id=self._deployment_id or current.deployment_id,
                health=None if self._deployment_id else current.health,
            )

    def _place_canaries(self, wanted: int) -> None:
        """Beside the outdated ones whose places they will take."""
        taken = set(self._places.canaries)
        for index in sorted(self._places.outdated):
            if len(taken) >= wanted:
                return
            if index in taken:
                continue
            taken.add(index)
            failed = self._last(index, is_canary=True)
            if failed is not None and failed.client_status is ClientStatus.FAILED and not failed.desired.verdict:
                self._reschedule(index, failed, is_canary=True)
            else:
                self._place(index, is_canary=True)

    def _roll(self) -> None:
        """Replaces outdated ones, so that no more than max_parallel places are unsettled at once."""
        outdated, strategy = self._places.outdated, self._group.update
        if not outdated or (strategy is not None and strategy.on_change == "new_only"):
            return
        budget = len(outdated)
        if strategy is not None and strategy.max_parallel > 0:
            unsettled = [
                index
                for index in range(self._group.count)
                if index not in outdated and not self._places.is_settled(index, self._job)
            ]
            budget = max(0, strategy.max_parallel - len(unsettled))
        for index in sorted(outdated.keys() - self._places.standins, key=lambda i: (*self._worth(outdated[i]), i))[:budget]:
            self._replace(index, outdated[index], UPDATED)

    def _worth(self, alloc: Alloc) -> tuple[bool, bool]:
        """Sorts first what has to go anyway, and what serves nobody."""
        return not self._facts.must_leave(alloc), is_healthy(alloc, self._job, self._group)

    # -- moving

    def _move(self) -> None:
        """What has to leave its node: with `surge` its stand-in is healthy first, else one is stopped as the other is
        placed; never more at once than `max_parallel`, counting every place that is not settled."""
        standins = self._places.standins
        movers = {i: a for i, a in self._places.best.items() if i in standins or self._facts.must_leave(a)}
        if not movers:
            return
        strategy = self._group.migrate
        unsettled = [i for i in range(self._group.count) if i not in movers and not self._places.is_settled(i, self._job)]
        budget = max(1, strategy.max_parallel if strategy else 1) - len(unsettled)
        budget -= sum(i in standins for i in movers)
        for index in sorted(movers, key=lambda i: (*self._worth(movers[i]), i)):
            mover, standin = movers[index], standins.get(index)
            if standin is not None and is_healthy(standin, self._job, self._group):
                self._draft.stop(mover, MIGRATED)
                budget += 1
            elif self._facts.must_leave_now(mover):
                self._draft.stop(mover, MIGRATED)
                if standin is None:
                    self._place(index, previous=mover)
            elif standin is not None:
                self._draft.moving.add(mover.id)
            elif self._draft.replaces(mover) or self._will_roll(index):
                continue
            elif budget > 0 or not is_healthy(mover, self._job, self._group):
                budget -= self._begin_move(index, mover)

    def _will_roll(self, index: int) -> bool:
        strategy = self._group.update
        rolls = strategy is None or strategy.on_change != "new_only"
        return rolls and index in self._places.outdated and not self._holds_back and self._status is not DeploymentStatus.PAUSED

    def _begin_move(self, index: int, mover: Alloc) -> int:
        """Returns how many moves it began."""
        strategy = self._group.migrate
        surge = strategy.surge if strategy is not None else None
        target = self._facts.moves_to(mover)
        is_first = target is not None or (self._group.count == 1 if surge is None else surge)
        if not is_first:
            self._replace(index, mover, MIGRATED)
            return 1
        last = self._last(index)
        if last is not None and last.desired.previous_allocation == mover.id and last.client_status is ClientStatus.FAILED:
            begun = self._reschedule(index, last, avoid=mover)
        else:
            self._place(index, previous=mover, avoid=mover, target=target)
            begun = True
        if begun:
            self._draft.moving.add(mover.id)
        return int(begun)

    # -- missing

    def _fill_missing(self) -> None:
        for index in self._places.missing:
            ended = self._ended(index)
            if self._job.is_batch and any(is_result(alloc, self._job) for alloc in ended):
                continue  # done: a batch place is filled once by success
            if self._waits_for_node(ended):
                continue
            last = self._last(index)
            if (
                last is None
                or last.desired.verdict is not Verdict.NONE
                or last.client_status is not ClientStatus.FAILED
                # What failed was another version: the new one has its own attempts.
                or not runs_current(last, self._job, self._group, self._facts.versions)
            ):
                if self._status is DeploymentStatus.PAUSED and last is None:
                    continue
                self._place(index, previous=last, tracker=last.desired.reschedule_tracker if last else None)
            else:
                self._reschedule(index, last)

    def _waits_for_node(self, ended: Sequence[Alloc]) -> bool:
        """Whether what is out of reach is not to be replaced until it is back or lost."""
        rule = disconnect_of(self._group)
        is_away = any(
            alloc.desired.verdict is Verdict.UNKNOWN and not alloc.is_terminal and not alloc.desired.is_stopping
            for alloc in ended
        )
        return rule is not None and not rule.replace and is_away

    def _ended(self, index: int) -> Sequence[Alloc]:
        return self._ended_at.get(index, ())

    def _last(self, index: int, *, is_canary: bool = False) -> Alloc | None:
        """The newest that ended or was given up, without being told to, and that no other has followed yet."""
        deployment = self._deployment_id if is_canary else None
        return max(
            (
                a
                for a in self._ended(index)
                if a.id not in self._facts.followed
                and not self._draft.change.get(a.id, a.desired).is_stopping
                and a.desired.canary == is_canary
                and deployment in (None, a.desired.deployment_id)
            ),
            key=lambda a: (a.create_index, a.id),
            default=None,
        )

    def _reschedule(self, index: int, failed: Alloc, *, is_canary: bool = False, avoid: Alloc | None = None) -> bool:
        """Places it again if its policy lets it now; returns whether it does."""
        policy = self._group.reschedule_policy
        attempt = next_attempt(failed, policy, failed_at_ns(failed)) if policy is not None else None
        if attempt is None:
            return False
        due_ns, tracker = attempt
        if due_ns > self._facts.now_ns:
            self._draft.wake(due_ns)
            return False
        self._place(index, previous=failed, tracker=tracker, is_canary=is_canary, avoid=avoid)
        return True

    # -- requests

    def _replace(self, index: int, old: Alloc, why: str) -> None:
        self._place(index, previous=old, stops=True, why=why)

    def _place(
        self,
        index: int,
        *,
        previous: Alloc | None = None,
        tracker: RescheduleTracker | None = None,
        stops: bool = False,
        why: str = "",
        is_canary: bool = False,
        avoid: Alloc | None = None,
        target: NodeId | None = None,
    ) -> None:
        job, group = (self._job, self._group) if is_canary else self._version_for(previous)
        self._draft.place.append(
            PlaceRequest(
                job=job,
                group=group,
                name=alloc_name(job.id, group.name, index),
                previous=previous,
                tracker=tracker,
                stops=stopped(previous, why) if stops and previous is not None else None,
                node_id=target or "",
                avoid=avoid.desired.node_id if avoid is not None else None,
                deployment_id=self._deployment_id if job.version == self._job.version else "",
                is_canary=is_canary,
            )
        )

    def _version_for(self, previous: Alloc | None) -> tuple[Job, TaskGroup]:
        """The current version; while that must not spread, the one that was there before."""
        if self._holds_back:
            numbers = [self._before(previous), max((v for v in self._facts.stable if v < self._job.version), default=None)]
            numbers += [alloc.desired.job_version for _, alloc in sorted(self._places.outdated.items())]
            for number in numbers:
                job = self._facts.versions.get(number) if number is not None else None
                group = job.group(self._group.name) if job is not None else None
                if job is not None and group is not None and not job.stop:
                    return job, group
        return self._job, self._group

    def _before(self, previous: Alloc | None) -> int | None:
        is_older = previous is not None and previous.desired.job_version != self._job.version
        return previous.desired.job_version if previous is not None and is_older else None


def failed_at_ns(alloc: Alloc) -> int:
    return alloc.observed.modify_time if alloc.observed else alloc.desired.modify_time


def replaced(allocs: Sequence[Alloc]) -> set[AllocId]:
    """Allocs whose place another has taken for good: a stand-in that had to go again has taken none, but what came
    after a failure has, whatever became of it: stopped by a user, it does not bring the failure back."""
    return {
        a.desired.previous_allocation
        for a in allocs
        if a.desired.previous_allocation and (not a.desired.is_stopping or _was_rescheduled(a.desired))
    }


def _was_rescheduled(desired: DesiredAlloc) -> bool:
    tracker = desired.reschedule_tracker
    return tracker is not None and any(e.prev_alloc_id == desired.previous_allocation for e in tracker.events)


def is_result(alloc: Alloc, job: Job) -> bool:
    """Whether it did what this version of a batch job asks for: a changed job runs again, as in Nomad."""
    return (
        alloc.client_status is ClientStatus.COMPLETE
        and not alloc.desired.is_stopping
        and alloc.desired.job_version == job.version
    )
