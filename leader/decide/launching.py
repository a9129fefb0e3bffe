"""Which run of a periodic job is due, which were missed, and when is the next?

    dealt with ──── missed ──── missed ──── last │ now ──── next
                                             └ launched, waits for the one before it, or given up

Moments are seconds since 1970, as the schedule names them: a run is known by its moment, however late it starts. Of
several that are due only the last is ever started; so whatever was missed, a job goes on.
"""

from dataclasses import dataclass

from jobspec.cron import last_launch, launches_between, next_launch
from model.job import PeriodicConfig

# With missed_run = "skip" a run is late when it starts later than a change of leader lets it: a lease runs out within 3
# to 6 s. Half of that would give up the run that was due while the leader changed.
ON_TIME_S = 10
# Counted at once: some 20 us each, and "@every 1s" after a week without a leader is 600,000.
COUNT_MAX = 1000
# Children of which nothing has found a place yet: further runs of the job are given up until one of them has. Without a
# bound "@every 5s" with a constraint that no node meets is 17,280 of them a day.
PENDING_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """dealt_s: every run up to this moment is done with. launch_s: the run to start, the last that is dealt with.
    missed: how many never start, at most 1000 of them counted. waits_s: the run that starts as soon as the one before it
    has ended. wake_s: when to look again, None: never."""

    dealt_s: int
    launch_s: int | None = None
    missed: int = 0
    waits_s: int | None = None
    wake_s: int | None = None


def due(config: PeriodicConfig, *, since_s: int, now_s: int, is_running: bool, pending: int = 0) -> Due:
    """since_s: up to then all is dealt with. is_running: whether a child of the job is not done yet. pending: children
    of which nothing has found a place yet."""
    first = following(config, since_s)
    if first is None or first > now_s:
        return Due(dealt_s=since_s, wake_s=first)
    seen = launches_between(config.all_specs, config.time_zone, since_s, now_s, COUNT_MAX)
    count = len(seen)
    last = max(seen) if count < COUNT_MAX else latest(config, since_s, now_s) or first
    deadline_s = _deadline_s(config)
    after_s = following(config, now_s)
    if deadline_s is not None and now_s - last > deadline_s:
        return Due(dealt_s=last, missed=count, wake_s=after_s)
    if not (config.prohibit_overlap and is_running) and pending < PENDING_MAX:
        return Due(dealt_s=last, launch_s=last, missed=count - 1, wake_s=after_s)
    if config.starting_deadline is None or deadline_s is None:
        return Due(dealt_s=last, missed=count, wake_s=after_s)
    wake_s = min(moment for moment in (after_s, last + deadline_s + 1) if moment is not None)
    return Due(dealt_s=last - 1, missed=count - 1, waits_s=last, wake_s=wake_s)


def following(config: PeriodicConfig, after_s: int) -> int | None:
    """The first run after that moment."""
    return next_launch(config.all_specs, config.time_zone, after_s)


def latest(config: PeriodicConfig, since_s: int, now_s: int) -> int | None:
    """The last run after `since_s` and not after `now_s`."""
    return last_launch(config.all_specs, config.time_zone, since_s, now_s)


def _deadline_s(config: PeriodicConfig) -> int | None:
    if config.starting_deadline is not None:
        return max(1, config.starting_deadline // 1_000_000_000)
    return ON_TIME_S if config.missed_run == "skip" else None
