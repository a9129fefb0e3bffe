"""What do the servers of one datacenter know, and what does every event do to it?

A pure synchronous state machine: each write is one raft entry, happens at once, and wakes the blocking
queries that watch what it changed. Time is the running loop's (`loop.time()`, `loop.call_later`), so a
loop with a virtual clock runs it in virtual time; chance is the rng that is passed in. Nothing here
reads a wall clock or opens a socket.

    agent.request() ─> ConsulState.kv / .registry / .sessions ─> changed topics ─> Watches ─> blocked queries

What a simulator does to it: `is_leaderless`, node_failed(), node_recovered(), node_left(),
snapshot() and restore(). What happens to one agent's link to the servers is ConsulAgent.is_connected.
"""

import asyncio
import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from catalog.embedded.answers import Refused, go_duration_s
from catalog.embedded.kv import LOCK_DELAY_S_MAX, TOMBSTONE_TTL_S, KvPair, KvSnapshot, KvTable
from catalog.embedded.records import (
    SERF_ALIVE,
    SERF_FAILED,
    SERF_HEALTH,
    Check,
    Node,
    Service,
    Session,
    Status,
)
from catalog.embedded.registry import Registry, RegistrySnapshot
from catalog.embedded.watches import Kind, Topic, Watches

SESSION_TTL_S_MIN = 10.0  # session_ttl_min
SESSION_TTL_S_MAX = 86_400.0
SESSION_TTL_FACTOR = 2.0  # consul expires at twice the TTL (measured: 20.1 s for 10 s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that raft replicates, at one moment."""

    kv: KvSnapshot
    registry: RegistrySnapshot
    sessions: dict[str, Session]
    sessions_index: int


class ConsulState:
    """The servers of one datacenter. Several ConsulAgents may share it."""

    def __init__(
        self, *, loop: asyncio.AbstractEventLoop, rng: random.Random, datacenter: str = "dc1"
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.datacenter = datacenter
        self.leader_address = "127.0.0.1:8300"
        self.watches = Watches()
        self.kv = KvTable()
        self.registry = Registry()
        self.generation = 0  # moves when blocked queries must answer at once
        self.raft_index = 1  # consul's own first entries; a table never written answers with 1
        self.sessions_index = 0
        self._sessions: dict[str, Session] = {}
        self._session_timers: dict[str, asyncio.TimerHandle] = {}
        self._reaper: asyncio.TimerHandle | None = None
        self._leaderless_since_s: float | None = None
        self._wan: dict[str, ConsulState] = {datacenter: self}

    # The cluster

    @property
    def is_leaderless(self) -> bool:
        return self._leaderless_since_s is not None

    @is_leaderless.setter
    def is_leaderless(self, value: bool) -> None:
        """Losing the leader ends every blocked query; a new one starts all session TTLs afresh (measured)."""
        if value == self.is_leaderless:
            return
        self._leaderless_since_s = self.loop.time() if value else None
        if value:
            self.wake_all()
        self._start_session_timers()

    @property
    def leaderless_s(self) -> float:
        """How long there has been no leader; 0 with one."""
        return 0.0 if self._leaderless_since_s is None else self.loop.time() - self._leaderless_since_s

    def join_wan(self, other: "ConsulState") -> None:
        """From now on `?dc=` reaches the other datacenter, and the other way round."""
        everyone = {**self._wan, **other._wan}
        for state in everyone.values():
            state._wan = everyone

    def part_wan(self, datacenter: str) -> None:
        """The WAN link to that datacenter is cut, both ways."""
        other = self._wan.get(datacenter)
        if other is None or other is self:
            return
        other._wan = {datacenter: other}
        for state in self._wan.values():
            state._wan = {name: peer for name, peer in self._wan.items() if name != datacenter}

    def in_datacenter(self, name: str) -> "ConsulState":
        """The state of a datacenter by name, our own for "". Raises Refused(500)."""
        state = self._wan.get(name or self.datacenter)
        if state is None:
            raise Refused(500, "No path to datacenter")
        return state

    @property
    def datacenters(self) -> list[str]:
        return sorted(self._wan)

    def new_id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def close(self) -> None:
        """Cancels all timers; the state can still be read."""
        for timer in self._session_timers.values():
            timer.cancel()
        self._session_timers.clear()
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None

    # Keys

    def put(self, pair: KvPair) -> None:
        self.kv.put(self._next_index(), pair)
        self._publish()

    def put_cas(self, pair: KvPair, expected: int) -> bool:
        done = self.kv.put_cas(self._next_index(), pair, expected)
        self._publish()
        return done is not None

    def lock(self, pair: KvPair) -> bool:
        if self.kv.is_delayed(pair.key, self.loop.time()):
            return False
        index = self._next_index()
        self.require_session(pair)
        done = self.kv.lock(index, pair)
        self._publish()
        return done is not None

    def unlock(self, pair: KvPair) -> bool:
        done = self.kv.unlock(self._next_index(), pair)
        self._publish()
        return done is not None

    def delete(self, key: str) -> None:
        self.kv.delete(self._next_index(), key, self.loop.time())
        self._publish()

    def delete_cas(self, key: str, expected: int) -> bool:
        done = self.kv.delete_cas(self._next_index(), key, expected, self.loop.time())
        self._publish()
        return done

    def delete_tree(self, prefix: str) -> None:
        self.kv.delete_tree(self._next_index(), prefix, self.loop.time())
        self._publish()

    def require_session(self, pair: KvPair) -> None:
        """Raises Refused(500) unless the pair names a session that lives."""
        if pair.session is UNSET or not pair.session:
            raise Refused(500, "missing session")
        if self.session(pair.session) is None:
            raise Refused(500, f'invalid session "{pair.session}"')

    def begin(self) -> int:
        """Opens a transaction on the keys; returns its index. End it with commit() or rollback()."""
        self.kv.begin()
        return self._next_index()

    def commit(self) -> None:
        self.kv.commit()
        self._publish()

    def rollback(self) -> None:
        self.kv.rollback()

    # Sessions

    def sessions(self) -> list[Session]:
        return [self._sessions[id] for id in sorted(self._sessions)]

    def session(self, id: str) -> Session | None:
        """Raises Refused(500) when it is no session id at all."""
        if len(id) != 36:
            raise Refused(500, "failed session lookup: index error: UUID must be 36 characters")
        return self._sessions.get(id)

    def create_session(self, wanted: Session) -> Session:
        """Raises Refused(500) when the node, a check or the TTL will not do."""
        if wanted.behavior not in ("release", "delete"):
            raise Refused(500, f"Invalid Behavior setting '{wanted.behavior}'")
        if wanted.ttl:
            _check_ttl(wanted.ttl)
        index = self._next_index()
        if self.registry.node(wanted.node) is None:
            raise Refused(500, "Missing node registration")
        for check_id in _bound_checks(wanted):
            check = self.registry.check(wanted.node, check_id)
            if check is None:
                raise Refused(500, f"Missing check '{check_id}' registration")
            if check.status == Status.CRITICAL:
                raise Refused(500, f"Check '{check_id}' is in critical state")
        session = msgspec.structs.replace(wanted, id=self.new_id(), create_index=index, modify_index=index)
        self._sessions[session.id] = session
        self._start_session_timer(session)
        self._touch_sessions(index, session)
        return session

    def destroy_session(self, id: str) -> None:
        """Also its locks; of an unknown one nothing."""
        session = self.session(id)
        if session is not None:
            self._end_session(self._next_index(), session)
            self._publish()

    def renew_session(self, id: str) -> Session | None:
        """The session with its TTL started afresh; None when there is no such session."""
        session = self.session(id)
        if session is not None:
            self._start_session_timer(session)
        return session

    # The catalog

    def register(
        self, node: Node | None, node_name: str, service: Service | None, checks: Iterable[Check]
    ) -> None:
        """One catalog registration. node None: the node's own record stays. Raises Refused(500)."""
        checks = tuple(checks)
        self._check_registration(node_name, node, service, checks)
        index = self._next_index()
        if node is not None:
            self.registry.put_node(index, node)
        if service is not None:
            self.registry.put_service(index, node_name, service)
        for check in checks:
            stored = self.registry.put_check(index, check)
            if stored.status == Status.CRITICAL:
                self._end_sessions_bound_to(index, node_name, stored.check_id)
        self._publish()

    def deregister_node(self, node: str) -> None:
        index = self._next_index()
        self.registry.drop_node(index, node)
        for session in self.sessions():
            if session.node.lower() == node.lower():
                self._end_session(index, session)
        self._publish()

    def deregister_service(self, node: str, service_id: str) -> None:
        index = self._next_index()
        for check_id in self.registry.drop_service(index, node, service_id):
            self._end_sessions_bound_to(index, node, check_id)
        self._publish()

    def deregister_check(self, node: str, check_id: str) -> None:
        index = self._next_index()
        if self.registry.drop_check(index, node, check_id):
            self._end_sessions_bound_to(index, node, check_id)
        self._publish()

    def node_failed(self, name: str) -> None:
        """The gossip lost the node: serfHealth turns critical, and with it go the sessions bound to it."""
        self._set_serf_health(name, Status.CRITICAL, SERF_FAILED)

    def node_recovered(self, name: str) -> None:
        """The gossip sees the node again."""
        self._set_serf_health(name, Status.PASSING, SERF_ALIVE)

    def node_left(self, name: str) -> None:
        """The agent left on purpose (SIGTERM of a client): the node and all that is on it vanish."""
        self.deregister_node(name)

    def _set_serf_health(self, name: str, status: Status, output: str) -> None:
        if self.registry.node(name) is not None:
            self.register(None, name, None, [serf_check(name, status, output)])

    def _check_registration(
        self, node_name: str, node: Node | None, service: Service | None, checks: tuple[Check, ...]
    ) -> None:
        """Refuses before anything is written: a registration happens whole or not at all."""
        if node is None and self.registry.node(node_name) is None:
            raise Refused(500, "failed inserting service: Missing node registration")
        if service is not None and not (service.id and service.service):
            raise Refused(
                500, "failed inserting service: failed inserting service: object missing primary index"
            )
        known = {*self.registry.services_of(node_name), *([service.id] if service else [])}
        for check in checks:
            if check.service_id and check.service_id not in known:
                raise Refused(
                    500, f'failed inserting check: Missing service registration on node "{node_name}"'
                )

    # Snapshots

    def snapshot(self) -> Snapshot:
        return Snapshot(
            kv=self.kv.snapshot(),
            registry=self.registry.snapshot(),
            sessions=dict(self._sessions),
            sessions_index=self.sessions_index,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """As `consul snapshot restore`: every read's index goes back, the next write's goes on upwards."""
        self.kv = KvTable.restored(snapshot.kv)
        self.registry = Registry.restored(snapshot.registry)
        self._sessions = dict(snapshot.sessions)
        self.sessions_index = snapshot.sessions_index
        self._next_index()
        self._start_session_timers()
        self._schedule_reaping()
        self.wake_all()

    # Inside

    def wake_all(self) -> None:
        """Every blocked query answers at once, whatever its index."""
        self.generation += 1
        self.watches.touch((Topic(Kind.EVERYTHING),))

    def _next_index(self) -> int:
        self.raft_index += 1
        return self.raft_index

    def _publish(self) -> None:
        """Wakes whoever watches what changed since the last time."""
        for key in self.kv.changed:
            self.watches.touch_key(key)
        if self.kv.changed:
            self.kv.changed.clear()
            if self._reaper is None:
                self._schedule_reaping()
        if self.registry.touched:
            self.watches.touch(self.registry.touched)
            self.registry.touched.clear()

    def _schedule_reaping(self) -> None:
        if self._reaper is not None:
            self._reaper.cancel()
        due_at_s = self.kv.reap(self.loop.time())
        self._reaper = None
        if due_at_s is not None:
            self._reaper = self.loop.call_at(
                min(due_at_s, self.loop.time() + TOMBSTONE_TTL_S), self._schedule_reaping
            )

    def _touch_sessions(self, index: int, session: Session) -> None:
        self.sessions_index = index
        self.watches.touch(
            (
                Topic(Kind.SESSIONS),
                Topic(Kind.SESSION_NODE, session.node.lower()),
                Topic(Kind.SESSION, session.id),
            )
        )

    def _end_sessions_bound_to(self, index: int, node: str, check_id: str) -> None:
        for session in self.sessions():
            if session.node.lower() == node.lower() and check_id in _bound_checks(session):
                self._end_session(index, session)

    def _end_session(self, index: int, session: Session) -> None:
        """Lets its locks go; held keys are barred for the lock-delay, to the one that held them as well."""
        del self._sessions[session.id]
        timer = self._session_timers.pop(session.id, None)
        if timer is not None:
            timer.cancel()
        now_s = self.loop.time()
        delay_s = min(session.lock_delay / 1e9, LOCK_DELAY_S_MAX)
        for key in self.kv.held_by(session.id):
            self.kv.release(
                index,
                key,
                delay_until_s=now_s + delay_s if delay_s > 0 else None,
                delete=session.behavior == "delete",
                now_s=now_s,
            )
        self._touch_sessions(index, session)

    def _start_session_timers(self) -> None:
        for id in list(self._session_timers):
            self._session_timers.pop(id).cancel()
        for session in self.sessions():
            self._start_session_timer(session)

    def _start_session_timer(self, session: Session) -> None:
        """Only the leader runs them, and a TTL counts twice."""
        running = self._session_timers.pop(session.id, None)
        if running is not None:
            running.cancel()
        if session.ttl and not self.is_leaderless:
            span_s = go_duration_s(session.ttl) * SESSION_TTL_FACTOR
            self._session_timers[session.id] = self.loop.call_later(span_s, self._expire_session, session.id)

    def _expire_session(self, id: str) -> None:
        session = self._sessions.get(id)
        if session is not None:
            self._end_session(self._next_index(), session)
            self._publish()


def serf_check(node: str, status: Status = Status.PASSING, output: str = SERF_ALIVE) -> Check:
    """The check that the gossip keeps for a node."""
    return Check(node=node, check_id=SERF_HEALTH, name="Serf Health Status", status=status, output=output)


def _bound_checks(session: Session) -> tuple[str, ...]:
    return (*(session.node_checks or ()), *(check.id for check in session.service_checks or ()))


def _check_ttl(text: str) -> None:
    try:
        ttl_s = go_duration_s(text)
    except ValueError as error:
        raise Refused(500, f"Session TTL '{text}' invalid: {error}") from error
    if ttl_s and not SESSION_TTL_S_MIN <= ttl_s <= SESSION_TTL_S_MAX:
        raise Refused(500, f"Invalid Session TTL '{round(ttl_s * 1e9)}', must be between [10s=24h0m0s]")
