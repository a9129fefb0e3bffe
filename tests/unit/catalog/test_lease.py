"""Who may act as leader, and until when: the lease on the embedded Consul, in virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from catalog.client import Client
from catalog.keys import Keys
from catalog.kv import Entry, Kv, Op, Verb, put
from catalog.lease import Candidate, Lease, Term
from catalog.services import Candidates
from catalog.transport import Transport
from model.cluster import Epoch, Leader
from model.errors import SessionLost, StoreUnavailable
from model.node import NodeId
from model.wire import decode, encode
from tests import clock
from tests.embedded import Embedded, Wire

TTL_S = 3.0
KEYS = Keys()


class Beat:
    """Passes the checks four times a TTL while `is_beating`: catalog.heartbeat without a thread."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire
        self.ttls: dict[str, float] = {}
        self.is_beating = True

    def add(self, check_id: str, ttl_s: float) -> None:
        self.ttls[check_id] = ttl_s

    def remove(self, check_id: str) -> None:
        self.ttls.pop(check_id, None)

    async def run(self) -> None:
        while True:
            for check_id in list(self.ttls) if self.is_beating else ():
                try:
                    await self._wire.request("PUT", f"/v1/agent/check/pass/{check_id}", timeout_s=1.0)
                except StoreUnavailable:
                    continue
            await asyncio.sleep(TTL_S / 4)


class Someone:
    """A candidate: its lease, its pulse, and its way to Consul."""

    def __init__(self, consul: Embedded, agent: str, name: str, seed: int) -> None:
        self.wire: Wire = consul.wire(agent)
        self.beat = Beat(consul.wire(agent))
        self.kv = Kv(self.wire)
        leader = Leader(node_id=NodeId(name), name=name, http_addr="10.0.0.1:4646", epoch=0, since=0, nonce="")
        self.lease = Lease(
            client=Client(self.wire),
            kv=self.kv,
            keys=KEYS,
            pulse=self.beat,
            candidate=Candidate(leader=leader, datacenter=f"dc of {name}", version="1.2.3", ttl_s=TTL_S),
            now_ns=lambda: 7,
            rng=random.Random(seed),
        )


class World:
    def __init__(self, consul: Embedded, tasks: asyncio.TaskGroup) -> None:
        self.consul, self.tasks = consul, tasks
        self._seeds = iter(range(1, 100))
        self.kv = Kv(consul.wire())
        self.beats: list[asyncio.Task[None]] = []

    async def candidate(self, name: str, *, agent: str = "server-1") -> Someone:
        await self.consul.join(agent)
        someone = Someone(self.consul, agent, name, next(self._seeds))
        self.beats.append(self.tasks.create_task(someone.beat.run(), name=f"beat of {name}"))
        return someone

    async def holder(self) -> Entry:
        entry = await self.kv.get(KEYS.leader)
        assert entry is not None
        return entry

    async def leads(self) -> str:
        """The name of who holds the lock, empty when nobody does."""
        entry = await self.holder()
        return decode(entry.value, Leader).name if entry.session else ""


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with Embedded() as consul, asyncio.TaskGroup() as tasks:
        made = World(consul, tasks)
        try:
            yield made
        finally:
            for beat in made.beats:
                beat.cancel()


def story(told: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """A test in virtual time."""

    def run() -> None:
        async def main() -> None:
            async with world() as made:
                await told(made)

        clock.run(main())

    run.__name__ = told.__name__  # type: ignore[attr-defined]
    return run


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def took(waiting: Awaitable[Term]) -> tuple[Term, float]:
    begun = now_s()
    return await waiting, now_s() - begun


@story
async def test_the_first_candidate_leads_at_once_in_epoch_1(w: World) -> None:
    one = await w.candidate("one")
    term, took_s = await took(one.lease.acquire())
    assert took_s < 1.0
    assert term.epoch == 1
    entry = await w.holder()
    leader = decode(entry.value, Leader)
    assert (leader.name, leader.epoch, leader.since, entry.session) == ("one", 1, 7, term.fence.session)
    epoch = await w.kv.get(KEYS.epoch)
    assert epoch is not None
    assert decode(epoch.value, Epoch).epoch == 1
    assert one.beat.ttls == {"service:_drover-server-one": TTL_S}


@story
async def test_a_second_candidate_waits_and_takes_over_at_once_when_the_first_lets_go(w: World) -> None:
    one, two = await w.candidate("one"), await w.candidate("two")
    await one.lease.acquire()
    waiting = w.tasks.create_task(took(two.lease.acquire()))
    await asyncio.sleep(200.0)  # longer than a blocking read: it goes on waiting
    assert not waiting.done()
    released = now_s()
    await one.lease.release()
    term, _ = await waiting
    assert now_s() - released < 0.3
    assert (term.epoch, await w.leads()) == (2, "two")
    assert one.beat.ttls == {}


@story
async def test_a_leader_that_falls_silent_is_followed_within_a_ttl_and_a_little(w: World) -> None:
    one, two = await w.candidate("one"), await w.candidate("two")
    await one.lease.acquire()
    waiting = w.tasks.create_task(two.lease.acquire())
    await asyncio.sleep(10.0)
    one.beat.is_beating = False
    fell_silent = now_s()
    term = await waiting
    assert TTL_S * 0.75 <= now_s() - fell_silent < TTL_S + 0.5
    assert term.epoch == 2
    with pytest.raises(SessionLost):
        await one.lease.confirm()


@story
async def test_the_epoch_rises_with_each_term(w: World) -> None:
    someone = [await w.candidate("one"), await w.candidate("two")]
    epochs = []
    for number in range(6):
        epochs.append((await someone[number % 2].lease.acquire()).epoch)
        await someone[number % 2].lease.release()
    assert epochs == [1, 2, 3, 4, 5, 6]


@story
async def test_only_one_of_many_candidates_leads_however_they_come(w: World) -> None:
    all_ = [await w.candidate(f"c{number}", agent=f"agent-{number % 3}") for number in range(6)]
    for someone in all_:
        await someone.lease.register()
    waiting = [w.tasks.create_task(someone.lease.acquire()) for someone in all_]
    terms: list[Term] = []
    for _ in all_:
        await asyncio.sleep(2.0)
        done = [number for number, task in enumerate(waiting) if task.done()]
        assert len(done) == len(terms) + 1
        newest = next(n for n in done if waiting[n].result() not in terms)
        terms.append(waiting[newest].result())
        assert await w.leads() == f"c{newest}"
        await all_[newest].lease.release()
    assert [term.epoch for term in terms] == [1, 2, 3, 4, 5, 6]


# -- the deadline


@story
async def test_the_deadline_counts_from_before_the_call_that_took_the_lock(w: World) -> None:
    one = await w.candidate("one")
    sent: list[float] = []

    async def before(method: str, path: str) -> None:
        if path == "/v1/txn":
            sent.append(now_s())
            await asyncio.sleep(0.5)  # a slow way there

    one.wire.before = before
    await one.lease.acquire()
    assert one.lease.deadline_s == pytest.approx(sent[0] + TTL_S)


@story
async def test_a_confirmation_moves_the_deadline_from_before_it_was_asked(w: World) -> None:
    one = await w.candidate("one")
    await one.lease.acquire()
    await asyncio.sleep(1.0)

    async def before(method: str, path: str) -> None:
        await asyncio.sleep(0.7)

    one.wire.before = before
    asked = now_s()
    await one.lease.confirm()
    assert now_s() - asked > 0.7
    assert one.lease.deadline_s == pytest.approx(asked + TTL_S)


@story
async def test_a_pass_that_the_local_agent_took_is_no_confirmation(w: World) -> None:
    one = await w.candidate("one")
    await one.lease.acquire()
    deadline_s = one.lease.deadline_s
    await asyncio.sleep(TTL_S / 2)  # the check is passed meanwhile
    assert one.lease.deadline_s == deadline_s
    one.wire.is_cut = True
    with pytest.raises(StoreUnavailable):
        await one.lease.confirm()
    assert one.lease.deadline_s == deadline_s


@story
async def test_the_deadline_never_goes_back(w: World) -> None:
    one = await w.candidate("one")
    await one.lease.acquire()
    one.lease.extend(now_s() + 5.0)
    later = one.lease.deadline_s
    one.lease.extend(now_s() - 5.0)
    assert one.lease.deadline_s == later


@story
async def test_whoever_lost_the_lock_is_told_and_can_write_nothing(w: World) -> None:
    one, two = await w.candidate("one"), await w.candidate("two")
    term = await one.lease.acquire()
    await one.kv.commit([put("k", b"mine")], fence=term.fence)
    await one.lease.client.session.destroy(term.fence.session)
    await two.lease.acquire()
    with pytest.raises(SessionLost):
        await one.lease.confirm()
    with pytest.raises(SessionLost):
        await one.kv.commit([put("k", b"still mine")], fence=term.fence)
    entry = await w.kv.get("k")
    assert entry is not None
    assert entry.value == b"mine"


# -- answers that were lost, and earlier lives


@story
async def test_a_take_over_whose_answer_was_lost_is_recognised_as_ours(w: World) -> None:
    one = await w.candidate("one")
    await one.lease.register()

    async def before(method: str, path: str) -> None:
        if path == "/v1/txn" and not any(p == "/v1/txn" for _, p in one.wire.calls[:-1]):
            one.wire.lose = 1

    one.wire.before = before
    term = await one.lease.acquire()
    assert (term.epoch, await w.leads()) == (1, "one")
    assert (await w.holder()).session == term.fence.session
    await one.lease.confirm()
    await one.kv.commit([put("k", b"v")], fence=term.fence)


@story
async def test_a_candidate_that_comes_back_ends_its_predecessors_session_at_once(w: World) -> None:
    before = await w.candidate("one")
    old = await before.lease.acquire()
    # Killed: its session stays, and its check is passed on by the next life, under the same name.
    after = await w.candidate("one")
    term, took_s = await took(after.lease.acquire())
    assert took_s < 1.0
    assert (term.epoch, term.fence.session != old.fence.session) == (2, True)


@story
async def test_nobody_ends_the_session_of_somebody_else(w: World) -> None:
    one, two = await w.candidate("one"), await w.candidate("two")
    term = await one.lease.acquire()
    waiting = w.tasks.create_task(two.lease.acquire())
    await asyncio.sleep(30.0)
    assert (await w.holder()).session == term.fence.session
    assert not waiting.done()
    assert ("PUT", f"/v1/session/destroy/{term.fence.session}") not in two.wire.calls
    waiting.cancel()


@story
async def test_a_waiting_candidate_whose_own_session_lapsed_still_takes_over(w: World) -> None:
    one, two = await w.candidate("one"), await w.candidate("two")
    await one.lease.acquire()
    waiting = w.tasks.create_task(two.lease.acquire())
    await asyncio.sleep(1.0)
    two.beat.is_beating = False
    await asyncio.sleep(3 * TTL_S)
    two.beat.is_beating = True
    await asyncio.sleep(1.0)
    released = now_s()
    await one.lease.release()
    assert (await waiting).epoch == 2
    assert now_s() - released < 3.0


@story
async def test_each_candidate_is_known_with_its_own_datacenter_and_version(w: World) -> None:
    for name in ("one", "two"):
        await (await w.candidate(name, agent=f"of-{name}")).lease.register()
    found = await Candidates(Client(w.consul.wire("of-one")), KEYS.root).read()
    assert [(m.name, m.datacenter, m.version) for m in found] == [
        ("one", "dc of one", "1.2.3"),
        ("two", "dc of two", "1.2.3"),
    ]


@story
async def test_a_consul_that_is_away_is_waited_for(w: World) -> None:
    one = await w.candidate("one")
    one.wire.is_cut = True
    waiting = w.tasks.create_task(one.lease.acquire())
    await asyncio.sleep(60.0)
    assert not waiting.done()
    one.wire.is_cut = False
    assert (await waiting).epoch == 1


@story
async def test_letting_go_twice_or_without_consul_is_no_error(w: World) -> None:
    one = await w.candidate("one")
    await one.lease.acquire()
    one.wire.is_cut = True
    await one.lease.release()
    one.wire.is_cut = False
    await one.lease.release()
    assert one.beat.ttls == {}


@story
async def test_a_write_by_hand_leaves_the_lock_with_its_holder_and_a_deleted_lock_is_lost(w: World) -> None:
    one = await w.candidate("one")
    await one.lease.acquire()
    await w.kv.commit([Op(Verb.SET, KEYS.leader, encode({"who": "knows"}))])
    await one.lease.confirm()
    await w.kv.commit([Op(Verb.DELETE, KEYS.leader)])
    with pytest.raises(SessionLost):
        await one.lease.confirm()
