"""Sessions and the locks they hold."""

import asyncio
from typing import Any

import pytest

from tests.components.consul import ConsulServer
from tests.contract.conftest import Answer, Api, Target, eventually, real_target

NOBODY = "11111111-2222-3333-4444-555555555555"


async def holder(api: Api, key: str) -> str | None:
    answer = await api.get(f"/v1/kv/{key}")
    return answer.json[0].get("Session") if answer.status == 200 else None


async def held_by(api: Api, session: str) -> None:
    assert (await api.put(f"{api.key}?acquire={session}", "held")).text == "true"


def errors(answer: Answer) -> list[str]:
    return [error["What"] for error in answer.json["Errors"]]


async def test_a_session_is_bound_to_its_node_and_serfhealth_unless_told_otherwise(api: Api) -> None:
    id = (await api.put("/v1/session/create")).json["ID"]
    answer = await api.get(f"/v1/session/info/{id}")
    [session] = answer.json
    assert {name: session[name] for name in session if not name.endswith("Index")} == {
        "ID": id,
        "Name": "",
        "Node": api.target.node_name,
        "LockDelay": 15_000_000_000,
        "Behavior": "release",
        "TTL": "",
        "NodeChecks": ["serfHealth"],
        "ServiceChecks": None,
    }
    assert answer.index >= session["ModifyIndex"]
    assert (await api.put(f"/v1/session/destroy/{id}")).text == "true"
    assert (await api.get(f"/v1/session/info/{id}")).json == []


async def test_what_is_asked_for_is_kept(api: Api) -> None:
    id = await api.session(Name=api.name, TTL="15s", LockDelay="0s", Behavior="delete", NodeChecks=[])
    [session] = [found for found in (await api.get("/v1/session/list")).json if found["ID"] == id]
    assert (session["Name"], session["TTL"], session["LockDelay"]) == (api.name, "15s", 0)
    assert (session["Behavior"], session["NodeChecks"]) == ("delete", [])
    nodes = (await api.get(f"/v1/session/node/{api.target.node_name}")).json
    assert id in [found["ID"] for found in nodes]
    await api.put(f"/v1/session/destroy/{id}")


@pytest.mark.parametrize(
    ("given", "kept_ns"),
    [("7s", 7_000_000_000), (5, 5_000_000_000), (7_000_000_000, 7_000_000_000), ("0s", 0)],
)
async def test_a_bare_lock_delay_is_seconds_when_small_and_nanoseconds_when_large(
    api: Api, given: object, kept_ns: int
) -> None:
    id = await api.session(LockDelay=given)
    assert (await api.get(f"/v1/session/info/{id}")).json[0]["LockDelay"] == kept_ns
    await api.put(f"/v1/session/destroy/{id}")


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"TTL": "9s"}, 500, "Invalid Session TTL '9000000000', must be between [10s=24h0m0s]"),
        ({"TTL": "x"}, 500, "Session TTL 'x' invalid: time: invalid duration \"x\""),
        ({"LockDelay": "x"}, 400, 'Request decode failed: time: invalid duration "x"'),
        ({"Behavior": "foo"}, 500, "Invalid Behavior setting 'foo'"),
        ({"Node": "no-such-node"}, 500, "Missing node registration"),
        ({"NodeChecks": ["serfHealth", "nope"]}, 500, "Missing check 'nope' registration"),
        ({"Checks": ["nope"]}, 500, "Missing check 'nope' registration"),
        ({"ServiceChecks": [{"ID": "nope"}]}, 500, "Missing check 'nope' registration"),
    ],
)
async def test_a_session_that_cannot_be_is_refused(
    api: Api, fields: dict[str, Any], status: int, text: str
) -> None:
    answer = await api.put("/v1/session/create", fields)
    assert (answer.status, answer.text) == (status, text)


async def test_what_is_not_a_session_is_told_apart_from_one_that_is_gone(api: Api) -> None:
    not_an_id = "failed session lookup: index error: UUID must be 36 characters"
    for path in ("renew/foo", "destroy/foo"):
        answer = await api.put(f"/v1/session/{path}")
        assert (answer.status, answer.text) == (500, not_an_id)
    answer = await api.put(f"/v1/session/renew/{NOBODY}")
    assert (answer.status, answer.text) == (404, f"Session id '{NOBODY}' not found")
    assert (await api.put(f"/v1/session/destroy/{NOBODY}")).text == "true"
    assert (await api.get(f"/v1/session/info/{NOBODY}")).json == []
    answer = await api.put(f"{api.key}?acquire={NOBODY}", "x")
    assert (answer.status, answer.text) == (500, f'invalid session "{NOBODY}"')
    for path in ("renew/", "destroy/"):
        answer = await api.put(f"/v1/session/{path}")
        assert (answer.status, answer.text) == (400, "Missing session")


async def test_renewing_answers_with_the_session(api: Api) -> None:
    id = await api.session(TTL="10s")
    [session] = (await api.put(f"/v1/session/renew/{id}")).json
    assert (session["ID"], session["TTL"]) == (id, "10s")
    await api.put(f"/v1/session/destroy/{id}")


async def test_only_one_session_holds_a_key_and_taking_it_again_is_fine(api: Api) -> None:
    mine, other = await api.session(LockDelay="0s"), await api.session(LockDelay="0s")
    await held_by(api, mine)
    [pair] = (await api.get(api.key)).json
    assert (pair["Session"], pair["LockIndex"]) == (mine, 1)
    await held_by(api, mine)
    assert (await api.get(api.key)).json == [pair]
    assert (await api.put(f"{api.key}?acquire={other}", "x")).text == "false"
    assert (await api.put(f"{api.key}?release={other}", "x")).text == "false"
    assert (await api.put(f"{api.key}?release={mine}", "free")).text == "true"
    [pair] = (await api.get(api.key)).json
    assert "Session" not in pair
    assert pair["LockIndex"] == 1
    assert (await api.put(f"{api.key}?acquire={other}", "x")).text == "true"
    assert (await api.get(api.key)).json[0]["LockIndex"] == 2
    for id in (mine, other):
        await api.put(f"/v1/session/destroy/{id}")


async def test_a_plain_write_keeps_the_holder_but_resets_the_lock_index(api: Api) -> None:
    session = await api.session(LockDelay="0s")
    await held_by(api, session)
    assert (await api.put(api.key, "other")).text == "true"
    [pair] = (await api.get(api.key)).json
    assert (pair["Session"], pair["LockIndex"]) == (session, 0)
    await api.put(f"/v1/session/destroy/{session}")


async def test_destroying_frees_the_key_at_once_without_a_lock_delay(api: Api) -> None:
    mine, other = await api.session(LockDelay="0s"), await api.session(LockDelay="0s")
    await held_by(api, mine)
    before = (await api.get(api.key)).index
    await api.put(f"/v1/session/destroy/{mine}")
    [pair] = (await api.get(api.key)).json
    assert "Session" not in pair
    assert (pair["LockIndex"], pair["ModifyIndex"] > before) == (1, True)
    await held_by(api, other)
    await api.put(f"/v1/session/destroy/{other}")


async def test_destroying_while_holding_bars_the_key_for_the_lock_delay_also_in_transactions(
    api: Api,
) -> None:
    mine, other = await api.session(LockDelay="1s"), await api.session(LockDelay="0s")
    await held_by(api, mine)
    await api.put(f"/v1/session/destroy/{mine}")
    assert (await api.put(f"{api.key}?acquire={other}", "x")).text == "false"
    answer = await api.txn({"Verb": "lock", "Key": api.name, "Session": other})
    assert errors(answer) == [f'failed to lock key "{api.name}" due to lock delay']
    assert (await api.put(api.key, "plain writes pass")).text == "true"

    async def is_free() -> bool:
        return (await api.put(f"{api.key}?acquire={other}", "x")).text == "true"

    await eventually(is_free)
    await api.put(f"/v1/session/destroy/{other}")


async def test_releasing_first_avoids_the_lock_delay(api: Api) -> None:
    mine, other = await api.session(LockDelay="10s"), await api.session(LockDelay="0s")
    await held_by(api, mine)
    await api.put(f"{api.key}?release={mine}", "bye")
    await api.put(f"/v1/session/destroy/{mine}")
    await held_by(api, other)
    await api.put(f"/v1/session/destroy/{other}")


async def test_behavior_delete_removes_what_the_session_held(api: Api) -> None:
    session = await api.session(LockDelay="0s", Behavior="delete")
    await held_by(api, session)
    await api.put(f"/v1/session/destroy/{session}")
    assert (await api.get(api.key)).status == 404


async def test_a_critical_bound_check_ends_the_session_and_its_locks(api: Api) -> None:
    check = f"{api.name}-ttl"
    await api.service(Name=api.name, Check={"CheckID": check, "TTL": "60s", "Status": "passing"})
    session = await api.session(NodeChecks=["serfHealth", check], LockDelay="0s")
    await held_by(api, session)
    await api.put(f"/v1/agent/check/warn/{check}")
    await api.put(f"/v1/agent/check/fail/{check}?note=gone")

    async def is_gone() -> bool:
        return (await api.get(f"/v1/session/info/{session}")).text == "[]"

    await eventually(is_gone)
    assert await holder(api, api.name) is None
    answer = await api.put("/v1/session/create", {"NodeChecks": [check]})
    assert (answer.status, answer.text) == (500, f"Check '{check}' is in critical state")
    await api.put(f"/v1/agent/service/deregister/{api.name}")


async def test_a_ttl_check_that_nobody_feeds_frees_the_lock_within_its_ttl(api: Api) -> None:
    check = f"{api.name}-ttl"
    await api.service(Name=api.name, Check={"CheckID": check, "TTL": "1s", "Status": "passing"})
    session = await api.session(ServiceChecks=[{"ID": check}], LockDelay="0s")
    await held_by(api, session)

    async def is_free() -> bool:
        return await holder(api, api.name) is None

    await eventually(is_free)
    await api.put(f"/v1/agent/service/deregister/{api.name}")


async def test_deregistering_a_bound_check_ends_the_session(api: Api) -> None:
    check = f"{api.name}-ttl"
    await api.service(Name=api.name, Check={"CheckID": check, "TTL": "60s", "Status": "passing"})
    session = await api.session(NodeChecks=[check], LockDelay="0s")
    await held_by(api, session)
    await api.put(f"/v1/agent/service/deregister/{api.name}")

    async def is_gone() -> bool:
        return (await api.get(f"/v1/session/info/{session}")).text == "[]"

    await eventually(is_gone)
    assert await holder(api, api.name) is None


async def test_a_node_that_fails_or_is_deregistered_takes_its_sessions_along(api: Api) -> None:
    serf = {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing"}
    for end in ("critical", "deregistered"):
        node = f"{api.name}-{end}"
        await api.node(Node=node, Address="127.0.0.9", Check=serf)
        session = await api.session(Node=node, LockDelay="0s")
        await held_by(api, session)
        if end == "critical":
            await api.node(Node=node, Address="127.0.0.9", Check={**serf, "Status": "critical"})
        else:
            await api.put("/v1/catalog/deregister", {"Node": node})
        assert (await api.get(f"/v1/session/info/{session}")).json == []
        assert await holder(api, api.name) is None
        await api.put("/v1/catalog/deregister", {"Node": node})


async def test_a_session_without_checks_outlives_its_nodes_failure(api: Api) -> None:
    serf = {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing"}
    await api.node(Node=api.name, Address="127.0.0.9", Check=serf)
    session = await api.session(Node=api.name, NodeChecks=[])
    await api.node(Node=api.name, Address="127.0.0.9", Check={**serf, "Status": "critical"})
    assert (await api.get(f"/v1/session/info/{session}")).json[0]["ID"] == session
    await api.put("/v1/catalog/deregister", {"Node": api.name})


@pytest.mark.consul
async def test_a_ttl_that_nobody_renews_ends_the_session_after_twice_its_span(
    embedded_consul: Target, real_consul: ConsulServer
) -> None:
    """The one slow test: 20 s, for no TTL below 10 s is allowed. So both Consuls wait side by side."""
    async with (
        Api(embedded_consul) as embedded,
        Api(real_target(real_consul)) as real,
        asyncio.TaskGroup() as tasks,
    ):
        for api in (embedded, real):
            tasks.create_task(_outlive_ttl(api))


async def _outlive_ttl(api: Api) -> None:
    session = await api.session(TTL="10s", LockDelay="0s")
    await held_by(api, session)
    loop = asyncio.get_running_loop()
    started_s, index = loop.time(), (await api.get(api.key)).index
    answer = await api.get(f"{api.key}?index={index}&wait=30s")
    assert "Session" not in answer.json[0]
    assert 18.0 < loop.time() - started_s < 23.0
