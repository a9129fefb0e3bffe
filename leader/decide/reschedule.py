"""When is a failed alloc tried again, if at all?

The series are Nomad's (reschedule block): constant d, d, d; exponential d, 2d, 4d; fibonacci d, d, 2d,
3d, 5d; capped by max_delay; `attempts` within `interval` unless unlimited.
"""

from model.alloc import Alloc, RescheduleEvent, RescheduleTracker
from model.job import ReschedulePolicy


def delay_ns(policy: ReschedulePolicy, attempt: int) -> int:
    """The delay before reschedule number `attempt` (0 is the first)."""
    first = policy.delay
    match policy.delay_function:
        case "exponential":
            # 2^62 ns is 146 years: larger shifts only make large numbers.
            raw = first << min(attempt, 62)
        case "fibonacci":
            previous, raw = 0, int(first)
            for _ in range(min(attempt, 90)):
                previous, raw = raw, previous + raw
        case _:
            return first
    return min(raw, policy.max_delay) if policy.max_delay else raw


def next_attempt(
    alloc: Alloc, policy: ReschedulePolicy, failed_at_ns: int
) -> tuple[int, RescheduleTracker] | None:
    """When (ns since the epoch) the failed alloc may be replaced, and the replacement's tracker; None: never."""
    events = alloc.desired.reschedule_tracker.events if alloc.desired.reschedule_tracker else ()
    if not policy.unlimited:
        if policy.attempts <= 0:
            return None
        recent = [e for e in events if failed_at_ns - e.reschedule_time < policy.interval]
        if len(recent) >= policy.attempts:
            return None
    delay = delay_ns(policy, len(events))
    due = failed_at_ns + delay
    event = RescheduleEvent(
        reschedule_time=due, prev_alloc_id=alloc.id, prev_node_id=alloc.desired.node_id, delay=delay
    )
    # Only as many as a later decision can still ask for: attempts within an interval, or the delay's growth.
    return due, RescheduleTracker(events=(*events, event)[-100:])
