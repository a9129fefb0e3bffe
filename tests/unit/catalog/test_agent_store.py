"""What an agent writes is named in its inbox until the leader has read it, whoever is faster."""

import asyncio
import random
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.agent_store import AgentStore, merge_inbox
from catalog.keys import Keys
from catalog.kv import Kv, delete_at, put
from catalog.transport import Endpoint, HttpTransport, Response, unreachable
from model.alloc import AllocId, ClientStatus, ObservedAlloc
from model.cluster import INBOX_NAMES_MAX, Inbox, Leader
from model.errors import StoreUnavailable, WriteConflict
from model.job import JobId, Namespace
from model.node import NodeControl, NodeId
from model.wire import decode, encode
from tests import clock
from tests.build import alloc, job, node
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.embedded import Embedded, Wire
from tests.pieces import OnePiece

NODE = NodeId("n1")
KEYS = Keys()


def observed(name: str, status: ClientStatus = ClientStatus.RUNNING, more: int = 0) -> ObservedAlloc:
    return ObservedAlloc(id=AllocId(name), node_id=NODE, client_status=status, modify_time=more)


def store_of(kv: Kv, seed: int = 1) -> AgentStore:
    return AgentStore(kv, KEYS, random.Random(seed))


class Late(OnePiece):
    """A wire that keeps a write on its way, unanswered, while it holds, and delivers it when asked."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._held: list[tuple[str, str, dict[str, Any]]] = []
        self.is_holding = False

    async def request(self, method: str, path: str, **how: Any) -> Response:
        if self.is_holding and method == "PUT":
            self._held.append((method, path, how))
            raise unreachable(method, path, "no answer")
        return await self._wire.request(method, path, **how)

    async def deliver(self) -> Response:
        method, path, how = self._held.pop(0)
        return await self._wire.request(method, path, **how)

    async def close(self) -> None:
        """Nothing is open."""


# -- contact


@pytest.mark.consul
async def test_an_agent_of_consul_that_answers_without_its_servers_is_no_contact() -> None:
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        near = await asyncio.to_thread(lambda: stack.enter_context(ConsulServer.client(server)))
        transport = HttpTransport(Endpoint(address=near.http_addr))
        store = store_of(Kv(transport))
        try:
            await store.reach(5.0)
            server.pause()
            with pytest.raises(StoreUnavailable):
                await store.reach(1.0)
            server.resume()
            await asyncio.to_thread(server.stop, kill=True)
            with pytest.raises(StoreUnavailable):
                await store.reach(1.0)
        finally:
            await transport.close()


# -- merging


def test_an_inbox_gains_names_once_and_in_their_order() -> None:
    inbox = merge_inbox(None, ["a", "b", "a"], "n1")
    assert inbox == Inbox(names=("a", "b"), nonce="n1")
    assert merge_inbox(inbox, ["b", "c"], "n2") == Inbox(names=("a", "b", "c"), nonce="n2")


def test_too_many_names_are_all() -> None:
    fits = merge_inbox(None, map(str, range(INBOX_NAMES_MAX)), "n")
    assert (len(fits.names), fits.is_all) == (INBOX_NAMES_MAX, False)
    over = merge_inbox(fits, ["one more"], "n")
    assert over == Inbox(names=(), is_all=True, nonce="n")
    assert merge_inbox(over, ["a"], "n") == over


# -- reporting


async def consume(kv: Kv, read: set[str]) -> None:
    """The leader's side: read the inbox, read what it names, delete it at the index it was read at."""
    entry = await kv.get(KEYS.inbox(NODE))
    if entry is None:
        return
    inbox = decode(entry.value, Inbox)
    assert not inbox.is_all
    facts = await kv.read_many([KEYS.observed_alloc(NODE, AllocId(name)) for name in inbox.names])
    read.update(f"{decode(e.value, ObservedAlloc).id}@{decode(e.value, ObservedAlloc).modify_time}" for e in facts.values())
    try:
        await kv.commit([delete_at(KEYS.inbox(NODE), entry.modify_index), put(KEYS.inboxes + ".sentinel", b"x")])
    except WriteConflict:
        return


def test_documents_and_their_names_are_written_together() -> None:
    async def story() -> None:
        async with Embedded() as consul:
            kv = Kv(consul.wire())
            await store_of(kv).report(NODE, [observed("a"), observed("b")], node("n1"))
            inbox = await kv.get(KEYS.inbox(NODE))
            fact = await kv.get(KEYS.observed_alloc(NODE, AllocId("a")))
            assert inbox is not None
            assert fact is not None
            assert decode(inbox.value, Inbox).names == ("node", "a", "b")
            assert inbox.modify_index == fact.modify_index
            assert decode(fact.value, ObservedAlloc) == observed("a")

    clock.run(story())


def test_what_is_forgotten_is_named_as_well() -> None:
    async def story() -> None:
        async with Embedded() as consul:
            kv = Kv(consul.wire())
            store = store_of(kv)
            await store.report(NODE, [observed("a")], None)
            await consume(kv, set())
            await store.delete_observed(NODE, [AllocId("a")])
            inbox = await kv.get(KEYS.inbox(NODE))
            assert inbox is not None
            assert decode(inbox.value, Inbox).names == ("a",)
            assert await kv.get(KEYS.observed_alloc(NODE, AllocId("a"))) is None

    clock.run(story())


def test_a_report_too_large_for_one_transaction_names_everything_in_the_end() -> None:
    async def story() -> None:
        async with Embedded() as consul:
            kv = Kv(consul.wire())
            names = [f"a{number:03}" for number in range(200)]
            await store_of(kv).report(NODE, [observed(name) for name in names], None)
            inbox = await kv.get(KEYS.inbox(NODE))
            assert inbox is not None
            assert decode(inbox.value, Inbox).names == tuple(names)
            assert len((await kv.list(KEYS.observed_of(NODE))).entries) == 200

    clock.run(story())


def test_an_answer_that_was_lost_is_told_and_the_report_may_be_repeated() -> None:
    async def story() -> None:
        async with Embedded() as consul:
            wire = consul.wire()
            kv, store = Kv(wire), store_of(Kv(wire))
            wire.lose = 1
            try:
                await store.report(NODE, [observed("a")], None)
            except StoreUnavailable:
                await store.report(NODE, [observed("a")], None)
            else:
                raise AssertionError("a lost answer was no error")
            inbox = await kv.get(KEYS.inbox(NODE))
            assert inbox is not None
            assert decode(inbox.value, Inbox).names == ("a",)

    clock.run(story())


def test_a_report_that_was_given_up_does_not_come_after_a_newer_one() -> None:
    async def story() -> None:
        async with Embedded() as consul:
            wire = consul.wire()
            kv = Kv(wire)
            late = Late(wire)
            store = store_of(Kv(late))
            await store.report(NODE, [], node("n1"))
            await consume(kv, set())
            late.is_holding = True
            with pytest.raises(StoreUnavailable):
                await store.report(NODE, [observed("a", ClientStatus.PENDING, 1)], None)
            late.is_holding = False
            await store.report(NODE, [observed("a", ClientStatus.COMPLETE, 2)], None)
            await consume(kv, set())
            assert (await late.deliver()).status == 409
            fact = await kv.get(KEYS.observed_alloc(NODE, AllocId("a")))
            assert fact is not None
            assert decode(fact.value, ObservedAlloc).client_status is ClientStatus.COMPLETE
            await store.report(NODE, [observed("b")], None)  # and all goes on as before

    clock.run(story())


@settings(max_examples=150, deadline=None)
@given(
    pauses=st.lists(st.sampled_from((0.0, 0.001, 0.002, 0.003, 0.005)), min_size=30, max_size=60),
    reports=st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=4), min_size=1, max_size=8),
)
def test_no_fact_is_ever_lost_between_an_agent_that_reports_and_a_leader_that_consumes(
    pauses: list[float], reports: list[list[str]]
) -> None:
    async def story() -> None:
        async with Embedded() as consul:
            slow = iter(pauses * 50)

            async def before(method: str, path: str) -> None:
                await asyncio.sleep(next(slow))

            agent, leader = consul.wire(), consul.wire()
            agent.before = leader.before = before
            read: set[str] = set()
            ended = asyncio.Event()

            async def report() -> None:
                store = store_of(Kv(agent))
                for number, names in enumerate(reports):
                    await store.report(NODE, [observed(name, more=number) for name in dict.fromkeys(names)], None)
                ended.set()

            async def lead() -> None:
                kv = Kv(leader)
                while not ended.is_set():
                    await consume(kv, read)
                await consume(kv, read)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(report())
                tasks.create_task(lead())
            newest = {name: number for number, names in enumerate(reports) for name in names}
            assert {f"{name}@{number}" for name, number in newest.items()} <= read
            assert await Kv(consul.wire()).get(KEYS.inbox(NODE)) is None

    clock.run(story())


# -- reading


def test_desired_is_watched_whole_and_unchanged_documents_stay_the_same_objects() -> None:
    async def story() -> None:
        async with Embedded() as consul:
            kv, store = Kv(consul.wire()), store_of(Kv(consul.wire()))
            one, two = alloc(0, identity="a1").desired, alloc(1, identity="a2").desired
            await kv.commit([put(KEYS.desired_of(NODE) + ".sentinel", b"{}"), put(KEYS.desired_alloc(NODE, one.id), encode(one))])
            first = await store.watch_desired(NODE, 0, 10.0)
            assert first.allocs == {one.id: one}
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(store.watch_desired(NODE, first.index, 10.0))
                await asyncio.sleep(0.1)
                assert not watching.done()
                await kv.commit([put(KEYS.desired_alloc(NodeId("n2"), two.id), encode(two))])
                await asyncio.sleep(0.1)
                assert not watching.done()
                await kv.commit([put(KEYS.desired_alloc(NODE, two.id), encode(two))])
            second = watching.result()
            assert second.allocs == {one.id: one, two.id: two}
            assert second.allocs[one.id] is first.allocs[one.id]
            assert second.index > first.index

    clock.run(story())


def test_versions_control_and_leader_are_none_where_there_is_none() -> None:
    async def story() -> None:
        async with Embedded() as consul:
            kv, store = Kv(consul.wire()), store_of(Kv(consul.wire()))
            assert await store.read_job(Namespace("default"), JobId("j"), 0) is None
            assert await store.read_control(NODE) is None
            assert await store.read_leader() is None
            leader = Leader(node_id=NODE, name="one", http_addr="127.0.0.1:1", epoch=1, since=0, nonce="n")
            await kv.commit([put(KEYS.leader, encode(leader)), put(KEYS.version(Namespace("default"), JobId("j"), 0), encode(job()))])
            assert await store.read_leader() is None  # nobody holds the lock
            assert await store.read_job(Namespace("default"), JobId("j"), 0) == job()

    clock.run(story())


def test_metadata_that_the_leader_set_comes_with_what_is_desired_and_is_read_only_when_it_moved() -> None:
    async def story() -> None:
        async with Embedded() as consul:
            kv, store = Kv(consul.wire()), store_of(Kv(consul.wire()))
            sentinel = KEYS.desired_of(NODE) + ".sentinel"
            await kv.commit([put(sentinel, b"{}")])
            first = await store.watch_desired(NODE, 0, 10.0)
            assert first.meta == {}
            control = NodeControl(node_id=NODE, meta={"role": "web", "rack": None})
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(store.watch_desired(NODE, first.index, 10.0))
                await asyncio.sleep(0.1)
                await kv.commit([put(KEYS.control(NODE), encode(control)), put(sentinel, b'{"Nonce":"1"}')])
            second = watching.result()
            assert second.meta == {"role": "web", "rack": None}
            # Without the sentinel nothing is read again: other facts of that document are no concern of tasks.
            await kv.commit([put(KEYS.control(NODE), encode(NodeControl(node_id=NODE)))])
            assert (await store.watch_desired(NODE, 0, 10.0)).meta is second.meta

    clock.run(story())
