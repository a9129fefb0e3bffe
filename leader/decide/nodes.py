"""When is a node ready, suspect or lost?

    initializing ──passing──> ready ──not passing──> (suspect: still shown ready) ──too long──> down
                                ^───────────────────────passing────────────────────────────────┘

Silence (gossip lost the machine) is waited for `heartbeat_grace`; a machine that is alive with only
drover's own check failing keeps its work for `agent_down_after`, for its tasks run on.
"""

from collections.abc import Mapping

import msgspec

from model.node import Drain, Eligibility, LastDrain, NodeControl, NodeEvent, NodeStatus
from model.snapshot import NodeView, Reach, Settings

# Kubernetes and Swarm look at minutes too (Swarm: 5 failures in 5 minutes weigh a node down).
_FLAP_WINDOW_S = 600
_PENALTY_S, _PENALTY_MAX_S = 30, 600


def judge(
    view: NodeView, *, now_s: float, now_ns: int, stamp: str, settings: Settings, is_answering: bool
) -> NodeControl | None:
    """The node's new control document if its status changes, else None.

    now_s: loop time, as view.reach_since_s. stamp: `now_ns` as RFC 3339. is_answering: the agent answered
    a direct call though gossip lost it.
    """
    status = view.control.status
    if view.reach is Reach.PASSING:
        if status is NodeStatus.READY:
            return None
        if status is NodeStatus.INITIALIZING:
            return _become(view.control, NodeStatus.READY, "Node registered", now_ns, stamp)
        return _flapped(_become(view.control, NodeStatus.READY, "Node re-registered", now_ns, stamp), now_ns, settings)
    if status in (NodeStatus.DOWN, NodeStatus.INITIALIZING):
        return None
    if now_s >= lost_at_s(view, settings, is_answering=is_answering):
        return _become(view.control, NodeStatus.DOWN, "Node heartbeat missed", now_ns, stamp)
    return None


def _flapped(control: NodeControl, now_ns: int, settings: Settings) -> NodeControl:
    """It came back: once too often, and it gets no new work for a while that doubles."""
    now = now_ns // 1_000_000_000
    flaps = (*(at for at in control.flaps if now - at < _FLAP_WINDOW_S), now)
    beyond = len(flaps) - settings.brake.flaps_max
    until = now + min(_PENALTY_MAX_S, _PENALTY_S * 2 ** min(beyond - 1, 10)) if beyond > 0 else 0
    return msgspec.structs.replace(control, flaps=flaps, penalized_until=until)


def unpenalized(control: NodeControl, now_ns: int) -> NodeControl | None:
    """The document once the penalty is over, else None."""
    if control.penalized_until and now_ns >= control.penalized_until * 1_000_000_000:
        return msgspec.structs.replace(control, penalized_until=0)
    return None


def lost_at_s(view: NodeView, settings: Settings, *, is_answering: bool) -> float:
    """Loop time at which a node that stays as it is will be held lost."""
    if view.reach is Reach.AGENT_DOWN or is_answering:
        return view.reach_since_s + settings.agent_down_after_s
    return view.reach_since_s + settings.heartbeat_grace_s + settings.lost_after_s


def drain_set(
    control: NodeControl, drain: Drain, now_ns: int, stamp: str, meta: Mapping[str, str] = {}
) -> NodeControl:
    """The node takes no new work, and what it has leaves."""
    known = control.drain
    drain = msgspec.structs.replace(drain, started_at=known.started_at if known is not None else now_ns)
    before = control.last_drain if known is not None else None
    started, said = (before.started_at, before.meta) if before is not None else (stamp, None)
    return msgspec.structs.replace(
        control,
        drain=drain,
        last_drain=LastDrain(started_at=started, updated_at=stamp, status="draining", meta=_said(said, meta)),
        scheduling_eligibility=Eligibility.INELIGIBLE,
        events=_with_event(control, "Node drain strategy set", stamp),
    )


def drain_called_off(
    control: NodeControl, now_ns: int, stamp: str, *, mark_eligible: bool, meta: Mapping[str, str] = {}
) -> NodeControl:
    eligibility = Eligibility.ELIGIBLE if mark_eligible else control.scheduling_eligibility
    if control.drain is None:
        return msgspec.structs.replace(control, scheduling_eligibility=eligibility)
    return msgspec.structs.replace(
        control,
        drain=None,
        last_drain=_ended(control.last_drain, "canceled", stamp, meta),
        scheduling_eligibility=eligibility,
        events=_with_event(control, "Node drain disabled", stamp),
    )


def drain_finished(control: NodeControl, stamp: str) -> NodeControl:
    """Nothing that had to leave is there any more; the node stays without new work until it is made eligible."""
    return msgspec.structs.replace(
        control,
        drain=None,
        last_drain=_ended(control.last_drain, "complete", stamp),
        events=_with_event(control, "Node drain complete", stamp),
    )


def _ended(drain: LastDrain | None, status: str, stamp: str, meta: Mapping[str, str] = {}) -> LastDrain:
    drain = drain or LastDrain(started_at=stamp)
    return msgspec.structs.replace(drain, status=status, updated_at=stamp, meta=_said(drain.meta, meta))


def _said(before: Mapping[str, str] | None, meta: Mapping[str, str]) -> Mapping[str, str] | None:
    return {**(before or {}), **meta} or None


def _with_event(control: NodeControl, message: str, stamp: str) -> tuple[NodeEvent, ...]:
    return (*control.events, NodeEvent(message=message, timestamp=stamp, subsystem="Drain"))[-10:]


def heartbeat_ttl_ns(nodes: int, settings: Settings) -> int:
    """The TTL of every agent's check: long enough that all agents together stay below the wanted rate."""
    return round(max(settings.min_heartbeat_ttl_s, nodes / settings.max_heartbeats_per_second) * 1e9)


def _become(control: NodeControl, status: NodeStatus, message: str, now_ns: int, stamp: str) -> NodeControl:
    return msgspec.structs.replace(
        control,
        status=status,
        status_description=message,
        status_updated_at=now_ns // 1_000_000_000,
        events=(*control.events, NodeEvent(message=message, timestamp=stamp))[-10:],
    )
