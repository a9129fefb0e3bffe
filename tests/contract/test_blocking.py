"""Blocking queries: what wakes them, what does not, and with which index they answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.contract.conftest import Answer, Api

QUIET_S = 0.25  # longer than any wake-up takes (measured: 1.5-3.5 ms)


@asynccontextmanager
async def blocked(api: Api, path: str, index: int, wait: str = "20s") -> AsyncIterator[asyncio.Task[Answer]]:
    """A blocking query that has reached the server, as far as one can tell."""
    mark = "&" if "?" in path else "?"
    async with asyncio.TaskGroup() as tasks:
        query = tasks.create_task(api.get(f"{path}{mark}index={index}&wait={wait}"))
        await asyncio.sleep(0.05)
        yield query
        query.cancel()


async def is_quiet(query: asyncio.Task[Answer]) -> bool:
    done, _ = await asyncio.wait({query}, timeout=QUIET_S)
    return not done


async def woken(query: asyncio.Task[Answer]) -> Answer:
    async with asyncio.timeout(5.0):
        return await asyncio.shield(query)


async def test_an_older_index_or_none_answers_at_once(api: Api) -> None:
    await api.put(api.key, "v")
    index = (await api.get(api.key)).index
    for query in ("", "?index=0", f"?index={index - 1}&wait=20s"):
        assert (await api.get(api.key + query)).index == index


async def test_a_wait_that_ends_answers_with_the_same_index(api: Api) -> None:
    await api.put(api.key, "v")
    before = await api.get(api.key)
    for wait in ("50ms", "0.05s", "1ms"):
        after = await api.get(f"{api.key}?index={before.index}&wait={wait}")
        assert (after.index, after.json) == (before.index, before.json)


async def test_an_index_from_the_future_waits_and_answers_with_the_real_one(api: Api) -> None:
    await api.put(api.key, "v")
    index = (await api.get(api.key)).index
    assert (await api.get(f"{api.key}?index={index + 10_000}&wait=20ms")).index == index


async def test_a_key_wakes_for_its_own_write_and_delete_only(api: Api) -> None:
    await api.put(api.key, "v")
    index = (await api.get(api.key)).index
    async with blocked(api, api.key, index) as query:
        await api.put(api.key + "-other", "v")
        await api.put(api.key, "v")
        assert await is_quiet(query)
        await api.put(api.key, "w")
        assert (await woken(query)).index > index
    index = (await api.get(api.key)).index
    async with blocked(api, api.key, index) as query:
        await api.delete(api.key)
        answer = await woken(query)
        assert (answer.status, answer.index > index) == (404, True)


async def test_a_prefix_wakes_for_its_own_changes_only(api: Api) -> None:
    await api.put(api.key + "/a", "v")
    index = (await api.get(api.key + "/?recurse")).index
    for query_flag in ("?recurse", "?keys"):
        async with blocked(api, api.key + "/" + query_flag, index) as query:
            await api.put(api.key + "-other/a", query_flag)
            await api.put(api.key + "/a", "v")
            await api.delete(api.key + "/none")
            assert await is_quiet(query)
            await api.put(api.key + "/b", query_flag)
            index = (await woken(query)).index
        assert (await api.get(api.key + "/?recurse")).index == index


async def test_a_delete_moves_the_prefixs_index_on_and_never_back(api: Api) -> None:
    await api.put(api.key + "/a", "v")
    await api.put(api.key + "/b", "v")
    index = (await api.get(api.key + "/?recurse")).index
    async with blocked(api, api.key + "/?recurse", index) as query:
        await api.delete(api.key + "/b")
        answer = await woken(query)
        assert (len(answer.json), answer.index > index) == (1, True)
    index = answer.index
    async with blocked(api, api.key + "/?recurse", index) as query:
        await api.delete(api.key + "/?recurse")
        answer = await woken(query)
        assert (answer.status, answer.index > index) == (404, True)


async def test_a_prefix_emptied_a_while_ago_keeps_the_index_of_its_tombstone(api: Api) -> None:
    await api.put(api.key + "/a", "v")
    await api.delete(api.key + "/a")
    index = (await api.get(api.key + "/?recurse")).index
    await api.put(api.key + "-other", "v")
    assert (await api.get(api.key + "/?recurse")).index == index


async def test_a_prefix_never_used_has_the_index_of_the_whole_store(api: Api) -> None:
    await api.put(api.key + "-other", "v")
    index = (await api.get(api.key + "/?recurse")).index
    await api.put(api.key + "-other", "w")
    assert (await api.get(api.key + "/?recurse")).index > index
    assert (await api.get(api.key)).index > index


async def test_a_missing_key_and_an_empty_prefix_wake_when_they_come_to_be(api: Api) -> None:
    for query_flag, key in (("", ""), ("/?recurse", "/x"), ("/?keys", "/y")):
        missing = f"{api.key}{query_flag and '-' + query_flag[2:]}{query_flag}"
        index = (await api.get(missing)).index
        async with blocked(api, missing, index) as query:
            await api.put(missing.removesuffix(query_flag) + key, "v")
            answer = await woken(query)
            assert (answer.status, answer.index > index) == (200, True)


async def test_a_failed_transaction_wakes_nobody_and_one_that_works_wakes_with_all_of_it(api: Api) -> None:
    await api.put(api.key + "/a", "v")
    index = (await api.get(api.key + "/?recurse")).index
    async with blocked(api, api.key + "/?recurse", index) as query:
        await api.txn(
            {"Verb": "set", "Key": f"{api.name}/b", "Value": "eA=="},
            {"Verb": "cas", "Key": f"{api.name}/a", "Index": 1},
        )
        assert await is_quiet(query)
        await api.txn(
            {"Verb": "set", "Key": f"{api.name}/b", "Value": "eA=="},
            {"Verb": "set", "Key": f"{api.name}/c", "Value": "eA=="},
        )
        assert len((await woken(query)).json) == 3


async def test_a_lock_let_go_by_a_dying_session_wakes_who_waits_for_the_key(api: Api) -> None:
    session = await api.session(LockDelay="0s")
    await api.put(f"{api.key}?acquire={session}", "v")
    index = (await api.get(api.key)).index
    async with blocked(api, api.key, index) as query:
        await api.put(f"/v1/session/destroy/{session}")
        assert "Session" not in (await woken(query)).json[0]


async def test_a_services_health_wakes_for_that_service_only(api: Api) -> None:
    mine, other = f"{api.name}-mine", f"{api.name}-other"
    for name in (mine, other):
        check = {"CheckID": f"{name}-ttl", "TTL": "60s", "Status": "passing"}
        await api.service(Name=name, Check=check)
    path = f"/v1/health/service/{mine}?filter=Checks.Status+!=+%22passing%22"
    first = await api.get(path)
    assert first.json == []
    async with blocked(api, path, first.index) as query:
        await api.put(f"/v1/agent/check/fail/{other}-ttl")
        await api.service(Name=other, Tags=["new"])
        await api.put(f"/v1/agent/check/pass/{mine}-ttl?note=same+status")
        await api.put(api.key, "v")
        assert await is_quiet(query)
        await api.put(f"/v1/agent/check/fail/{mine}-ttl")
        answer = await woken(query)
        assert [entry["Service"]["ID"] for entry in answer.json] == [mine]
    for name in (mine, other):
        await api.put(f"/v1/agent/service/deregister/{name}")


async def test_a_services_health_wakes_when_its_node_fails(api: Api) -> None:
    serf = {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing"}
    registration = {"Node": api.name, "Address": "127.0.0.9", "Check": serf}
    await api.node(**registration, Service={"Service": api.name, "Port": 1})
    path = f"/v1/health/service/{api.name}"
    index = (await api.get(path)).index
    async with blocked(api, path, index) as query:
        await api.node(**{**registration, "Check": {**serf, "Status": "critical"}})
        answer = await woken(query)
        assert [check["Status"] for check in answer.json[0]["Checks"]] == ["critical"]
    await api.put("/v1/catalog/deregister", {"Node": api.name})


async def test_a_service_that_comes_to_be_or_vanishes_wakes_who_waits_for_it(api: Api) -> None:
    path = f"/v1/health/service/{api.name}"
    index = (await api.get(path)).index
    async with blocked(api, path, index) as query:
        await api.node(Node=api.name, Address="127.0.0.9", Service={"Service": api.name})
        async with asyncio.timeout(5.0):
            answer = await asyncio.shield(query)
    while not answer.json:  # before any service ever vanished, unrelated changes may wake it first
        answer = await api.get(f"{path}?index={answer.index}&wait=5s")
    async with blocked(api, path, answer.index) as query:
        await api.put("/v1/catalog/deregister", {"Node": api.name})
        gone = await woken(query)
        assert (gone.json, gone.index > answer.index) == ([], True)


async def test_node_and_session_lists_wake_for_their_own_kind(api: Api) -> None:
    nodes, sessions = await api.get("/v1/catalog/nodes"), await api.get("/v1/session/list")
    async with (
        blocked(api, "/v1/catalog/nodes", nodes.index) as for_node,
        blocked(api, "/v1/session/list", sessions.index) as for_session,
    ):
        await api.put(api.key, "v")
        assert await is_quiet(for_node)
        session = await api.session(Name=api.name)
        assert (await woken(for_session)).index > sessions.index
        await api.node(Node=api.name, Address="127.0.0.9")
        assert api.name in [node["Node"] for node in (await woken(for_node)).json]
    await api.put("/v1/catalog/deregister", {"Node": api.name})
    await api.put(f"/v1/session/destroy/{session}")
