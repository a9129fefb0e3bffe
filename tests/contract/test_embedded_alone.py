"""What only the embedded Consul can be made to do: partitions, restores and hours, in virtual time."""

import asyncio
import random
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from catalog.embedded import ConsulAgent, ConsulState, HttpSpec, ProbeResult, Response, Status, TcpSpec


class VirtualSelector(selectors.DefaultSelector):
    """Instead of waiting, moves the loop's clock."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now_s += max(timeout or 0.0, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.virtual = VirtualSelector()
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now_s


def virtual(test: Callable[[], Awaitable[Any]]) -> Any:
    """The result of `test` on a loop whose hours pass at once."""

    async def run() -> Any:
        return await test()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


class FixedProber:
    """Answers every probe the same; a simulator's is as simple."""

    status = Status.PASSING

    async def probe(self, spec: HttpSpec | TcpSpec) -> ProbeResult:
        return ProbeResult(status=self.status, output=f"probed {self.status}")


@asynccontextmanager
async def cluster(*names: str, seed: int = 1) -> AsyncIterator[tuple[ConsulState, list[ConsulAgent]]]:
    state = ConsulState(loop=asyncio.get_running_loop(), rng=random.Random(seed))
    agents = [
        ConsulAgent(state, name, f"10.0.0.{number}", prober=FixedProber())
        for number, name in enumerate(names, start=1)
    ]
    try:
        for agent in agents:
            await agent.__aenter__()
        yield state, agents
    finally:
        for agent in agents:
            await agent.__aexit__(None, None, None)
        state.close()


async def put(agent: ConsulAgent, path: str, body: bytes = b"", **params: str) -> Response:
    return await agent.request("PUT", path, params, body=body)


async def get(agent: ConsulAgent, path: str, **params: str) -> Response:
    return await agent.request("GET", path, params)


SERVICE = b'{"Name":"web","Check":{"CheckID":"c","TTL":"60s","Status":"passing"}}'


def test_an_agent_cut_off_answers_its_own_calls_only_and_catches_up_when_it_returns() -> None:
    async def run() -> None:
        async with cluster("a", "b") as (_, [a, b]):
            a.is_connected = False
            for path in ("/v1/kv/x", "/v1/catalog/nodes", "/v1/session/list", "/v1/status/leader"):
                answer = await get(a, path)
                assert (answer.status, answer.body) == (500, b"No cluster leader")
            assert (await put(a, "/v1/kv/x", b"v")).status == 500
            assert (await put(a, "/v1/agent/service/register", SERVICE)).status == 200
            assert (await put(a, "/v1/agent/check/warn/c")).status == 200
            assert list((await get(a, "/v1/agent/checks")).json()) == ["c"]
            assert (await get(b, "/v1/health/service/web")).json() == []
            a.is_connected = True
            await asyncio.sleep(3.0)
            [entry] = (await get(b, "/v1/health/service/web")).json()
            assert [check["Status"] for check in entry["Checks"]] == ["passing", "warning"]

    virtual(run)


def test_a_blocked_query_ends_with_500_when_the_link_or_the_leader_goes() -> None:
    async def run() -> None:
        async with cluster("a", "b") as (state, [a, b]), asyncio.TaskGroup() as tasks:
            queries = [tasks.create_task(get(agent, "/v1/kv/x", index="100", wait="60s")) for agent in (a, b)]
            await asyncio.sleep(1.0)
            a.is_connected = False
            await asyncio.sleep(1.0)
            assert [query.done() for query in queries] == [True, False]
            assert queries[0].result().status == 500
            state.is_leaderless = True
            assert (await queries[1]).status == 500

    virtual(run)


def test_without_a_leader_only_stale_reads_answer_and_say_so() -> None:
    async def run() -> None:
        async with cluster("a") as (state, [a]):
            await put(a, "/v1/kv/x", b"v")
            state.is_leaderless = True
            await asyncio.sleep(2.0)
            assert (await get(a, "/v1/kv/x")).status == 500
            answer = await get(a, "/v1/kv/x", stale="")
            assert (answer.status, answer.headers["X-Consul-Knownleader"]) == (200, "false")
            assert answer.headers["X-Consul-Lastcontact"] == "2000"
            assert (await get(a, "/v1/status/leader")).json() == ""
            assert (await put(a, "/v1/agent/service/register", SERVICE)).status == 200
            state.is_leaderless = False
            assert (await get(a, "/v1/health/service/web")).json() == []
            await asyncio.sleep(30.0)
            assert len((await get(a, "/v1/health/service/web")).json()) == 1

    virtual(run)


def test_a_new_leader_starts_session_ttls_afresh() -> None:
    async def run() -> None:
        async with cluster("a") as (state, [a]):
            id = (await put(a, "/v1/session/create", b'{"TTL":"10s"}')).json()["ID"]
            await asyncio.sleep(12.0)
            state.is_leaderless = True
            state.is_leaderless = False
            await asyncio.sleep(19.0)
            assert len((await get(a, f"/v1/session/info/{id}")).json()) == 1
            await asyncio.sleep(2.0)
            assert (await get(a, f"/v1/session/info/{id}")).json() == []

    virtual(run)


def test_a_restore_brings_old_data_with_lower_indexes_and_ends_every_wait() -> None:
    async def run() -> None:
        async with cluster("a") as (state, [a]):
            await put(a, "/v1/kv/x", b"old")
            old = await get(a, "/v1/kv/x")
            snapshot = state.snapshot()
            await put(a, "/v1/kv/x", b"new")
            await put(a, "/v1/kv/y", b"new")
            new = await get(a, "/v1/kv/x")
            async with asyncio.TaskGroup() as tasks:
                query = tasks.create_task(get(a, "/v1/kv/x", index=new.headers["X-Consul-Index"], wait="60s"))
                await asyncio.sleep(1.0)
                state.restore(snapshot)
                answer = await query
            assert (answer.headers["X-Consul-Index"], answer.json()) == (
                old.headers["X-Consul-Index"],
                old.json(),
            )
            assert (await get(a, "/v1/kv/y")).status == 404
            await put(a, "/v1/kv/x", b"newer")
            newest = await get(a, "/v1/kv/x")
            assert int(newest.headers["X-Consul-Index"]) > int(new.headers["X-Consul-Index"])

    virtual(run)


def test_tombstones_are_forgotten_after_15_minutes_and_the_prefixs_index_changes() -> None:
    async def run() -> list[int]:
        async with cluster("a") as (_, [a]):
            indexes = []
            for key in ("d/1", "d/2"):
                await put(a, f"/v1/kv/{key}", b"v")
            await a.request("DELETE", "/v1/kv/d/2")
            for wait_s in (0.0, 800.0, 200.0):
                await asyncio.sleep(wait_s)
                indexes.append(int((await get(a, "/v1/kv/d/", recurse="")).headers["X-Consul-Index"]))
            return indexes

    before, during, after = virtual(run)
    assert before == during > after


def test_a_failed_node_loses_its_bound_sessions_and_comes_back_by_the_gossip() -> None:
    async def run() -> None:
        async with cluster("a", "b") as (state, [a, b]):
            await put(a, "/v1/agent/service/register", SERVICE)
            id = (await put(a, "/v1/session/create", b'{"LockDelay":"0s"}')).json()["ID"]
            await put(a, "/v1/kv/lock", b"v", acquire=id)
            state.node_failed("a")
            assert "Session" not in (await get(b, "/v1/kv/lock")).json()[0]
            assert (await get(b, "/v1/health/service/web", passing="")).json() == []
            assert [member["Status"] for member in (await get(b, "/v1/agent/members")).json()] == [4, 1]
            state.node_recovered("a")
            assert len((await get(b, "/v1/health/service/web", passing="")).json()) == 1
            assert (await get(b, "/v1/session/list")).json() == []

    virtual(run)


def test_an_agent_that_leaves_takes_its_node_along_and_brings_its_services_back() -> None:
    async def run() -> None:
        async with cluster("a", "b") as (_, [a, b]):
            await put(a, "/v1/agent/service/register", SERVICE)
            a.leave()
            assert [node["Node"] for node in (await get(b, "/v1/catalog/nodes")).json()] == ["b"]
            assert (await get(b, "/v1/health/service/web")).json() == []
            a.join()
            [entry] = (await get(b, "/v1/health/service/web")).json()
            assert [check["CheckID"] for check in entry["Checks"]] == ["serfHealth", "c"]

    virtual(run)


def test_anti_entropy_undoes_what_others_did_to_the_agents_node() -> None:
    async def run() -> None:
        async with cluster("a") as (_, [a]):
            await put(a, "/v1/agent/service/register", b'{"Name":"mine"}')
            await put(a, "/v1/catalog/deregister", b'{"Node":"a","ServiceID":"mine"}')
            foreign = b'{"Node":"a","Address":"10.9.9.9","Service":{"Service":"foreign"}}'
            await put(a, "/v1/catalog/register", foreign)
            assert "foreign" in (await get(a, "/v1/catalog/services")).json()
            await asyncio.sleep(120.0)
            assert (await get(a, "/v1/catalog/services")).json() == {"mine": []}
            [node] = (await get(a, "/v1/catalog/nodes")).json()
            assert node["Address"] == "10.0.0.1"

    virtual(run)


def test_a_prober_decides_http_and_tcp_checks_and_a_critical_one_ends_its_service_in_time() -> None:
    async def run() -> None:
        async with cluster("a") as (_, [a]):
            body = (
                b'{"Name":"web","Check":{"CheckID":"c","HTTP":"http://x/","Interval":"10s",'
                b'"DeregisterCriticalServiceAfter":"90s"}}'
            )
            await put(a, "/v1/agent/service/register", body)
            assert (await get(a, "/v1/agent/checks")).json()["c"]["Status"] == "critical"
            await asyncio.sleep(11.0)
            assert (await get(a, "/v1/agent/checks")).json()["c"]["Output"] == "probed passing"
            FixedProber.status = Status.CRITICAL
            try:
                await asyncio.sleep(90.0)
                assert "web" in (await get(a, "/v1/agent/services")).json()
                await asyncio.sleep(15.0)
                assert (await get(a, "/v1/agent/services")).json() == {}
            finally:
                FixedProber.status = Status.PASSING

    virtual(run)


def test_a_changed_output_alone_reaches_the_catalog_within_minutes() -> None:
    async def run() -> None:
        async with cluster("a") as (_, [a]):
            await put(a, "/v1/agent/check/register", b'{"ID":"c","Name":"c","TTL":"1h","Status":"passing"}')
            await put(a, "/v1/agent/check/pass/c", note="new")
            for wait_s, output in ((100.0, ""), (400.0, "new")):
                await asyncio.sleep(wait_s)
                checks = {check["CheckID"]: check for check in (await get(a, "/v1/health/node/a")).json()}
                assert checks["c"]["Output"] == output

    virtual(run)


def test_joined_datacenters_forward_by_dc_until_the_link_is_cut() -> None:
    async def run() -> None:
        async with cluster("a") as (state, [a]):
            other = ConsulState(loop=state.loop, rng=random.Random(2), datacenter="dc2")
            other.join_wan(state)
            await put(a, "/v1/kv/x", b"far", dc="dc2")
            assert (await get(a, "/v1/kv/x")).status == 404
            assert (await get(a, "/v1/kv/x", dc="dc2", raw="")).body == b"far"
            assert (await get(a, "/v1/catalog/datacenters")).json() == ["dc1", "dc2"]
            state.part_wan("dc2")
            answer = await get(a, "/v1/kv/x", dc="dc2")
            assert (answer.status, answer.body) == (500, b"No path to datacenter")
            other.close()

    virtual(run)


def test_the_same_seed_gives_the_same_answers() -> None:
    async def run() -> list[bytes]:
        async with cluster("a", "b", seed=7) as (_, [a, b]):
            await put(a, "/v1/agent/service/register", SERVICE)
            await put(b, "/v1/session/create", b'{"TTL":"10s"}')
            await asyncio.sleep(300.0)
            return [
                (await get(b, path)).body
                for path in ("/v1/health/service/web", "/v1/health/state/any", "/v1/catalog/nodes")
            ]

    assert virtual(run) == virtual(run)


def test_an_error_in_the_body_of_an_agents_context_is_raised_as_it_is() -> None:
    async def run() -> None:
        state = ConsulState(loop=asyncio.get_running_loop(), rng=random.Random(1))
        try:
            async with ConsulAgent(state, "a", "10.0.0.1"):
                raise LookupError("mine")
        finally:
            state.close()

    with pytest.raises(LookupError, match="mine"):
        virtual(run)
