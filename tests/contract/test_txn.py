"""Transactions: all operations or none, and what each verb says when it cannot."""

import base64
from typing import Any

import pytest

from tests.contract.conftest import Api


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def faults(answer: Any) -> list[tuple[int, str]]:
    return [(fault["OpIndex"], fault["What"]) for fault in answer.json["Errors"]]


async def test_all_operations_happen_at_one_index_and_answer_without_values(api: Api) -> None:
    a, b = f"{api.name}/a", f"{api.name}/b"
    answer = await api.txn(
        {"Verb": "set", "Key": a, "Value": b64("1")},
        {"Verb": "cas", "Key": b, "Value": b64("2"), "Index": 0, "Flags": 3},
        {"Verb": "get", "Key": a},
        {"Verb": "get-tree", "Key": f"{api.name}/"},
    )
    assert answer.status == 200
    assert list(answer.json) == ["Results", "Errors"]
    pairs = [result["KV"] for result in answer.json["Results"]]
    assert [(pair["Key"], pair["Value"], pair["Flags"]) for pair in pairs] == [
        (a, None, 0),
        (b, None, 3),
        (a, b64("1"), 0),
        (a, b64("1"), 0),
        (b, b64("2"), 3),
    ]
    assert len({pair["ModifyIndex"] for pair in pairs}) == 1


async def test_one_failure_undoes_everything_and_is_409_with_its_number(api: Api) -> None:
    a, b, c = (f"{api.name}/{letter}" for letter in "abc")
    await api.put(f"/v1/kv/{a}", "old")
    await api.put(f"/v1/kv/{b}", "old")
    before = (await api.get(api.key + "?recurse")).json
    answer = await api.txn(
        {"Verb": "set", "Key": a, "Value": b64("new")},
        {"Verb": "set", "Key": c, "Value": b64("new")},
        {"Verb": "delete", "Key": b},
        {"Verb": "delete-tree", "Key": api.name},
        {"Verb": "cas", "Key": b, "Value": b64("new"), "Index": 1},
    )
    assert answer.status == 409
    assert answer.json == {
        "Results": None,
        "Errors": [{"OpIndex": 4, "What": f'failed to set key "{b}", index is stale'}],
    }
    after = await api.get(api.key + "?recurse")
    assert after.json == before
    assert after.index == max(pair["ModifyIndex"] for pair in before)


async def test_every_fault_is_named_not_only_the_first(api: Api) -> None:
    key, gone = api.name, f"{api.name}-gone"
    await api.put(api.key, "v")
    index = (await api.get(api.key)).index
    answer = await api.txn(
        {"Verb": "check-index", "Key": key, "Index": 1},
        {"Verb": "check-index", "Key": key, "Index": index},
        {"Verb": "check-index", "Key": gone, "Index": 0},
        {"Verb": "get", "Key": gone},
        {"Verb": "bogus", "Key": key},
        {"Verb": "check-not-exists", "Key": key},
        {"Verb": "check-not-exists", "Key": gone},
    )
    assert answer.status == 409
    assert faults(answer) == [
        (0, f'failed index check for key "{key}", current modify index {index} != 1'),
        (2, f'failed to check index, key "{gone}" doesn\'t exist'),
        (3, f'key "{gone}" doesn\'t exist'),
        (4, 'unknown KV verb "bogus"'),
        (5, f'key "{key}" exists'),
    ]


async def test_a_transaction_that_only_reads_answers_with_the_querys_meta_data(api: Api) -> None:
    await api.put(api.key, "v")
    answer = await api.txn({"Verb": "get", "Key": api.name})
    assert {name: answer.json[name] for name in answer.json if name != "Results"} == {
        "Errors": None,
        "Index": 0,
        "LastContact": 0,
        "KnownLeader": True,
        "ConsistencyLevel": "",
    }
    assert answer.headers["X-Consul-Knownleader"] == "true"
    assert (await api.txn({"Verb": "get-tree", "Key": f"{api.name}-none"})).json["Results"] == []


async def test_an_equal_set_in_a_transaction_keeps_the_index(api: Api) -> None:
    first = await api.txn({"Verb": "set", "Key": api.name, "Value": b64("v")})
    again = await api.txn({"Verb": "set", "Key": api.name, "Value": b64("v")})
    assert first.json == again.json


async def test_deletes_answer_nothing_and_delete_cas_needs_the_index(api: Api) -> None:
    key = api.name
    await api.put(api.key, "v")
    index = (await api.get(api.key)).index
    for stale in (0, index + 1):
        answer = await api.txn({"Verb": "delete-cas", "Key": key, "Index": stale})
        assert faults(answer) == [(0, f'failed to delete key "{key}", index is stale')]
    answer = await api.txn(
        {"Verb": "delete-cas", "Key": key, "Index": index},
        {"Verb": "delete-cas", "Key": f"{key}-none", "Index": 5},
        {"Verb": "delete", "Key": f"{key}-none"},
        {"Verb": "delete-tree", "Key": f"{key}-none"},
    )
    assert (answer.status, answer.json) == (200, {"Results": [], "Errors": None})
    assert (await api.get(api.key)).status == 404


async def test_a_set_after_a_delete_in_one_transaction_makes_a_new_key(api: Api) -> None:
    await api.put(api.key, "v")
    before = (await api.get(api.key)).json[0]["CreateIndex"]
    await api.txn({"Verb": "delete", "Key": api.name}, {"Verb": "set", "Key": api.name, "Value": b64("v")})
    assert (await api.get(api.key)).json[0]["CreateIndex"] > before


async def test_lock_and_check_session_fence_a_transaction(api: Api) -> None:
    mine, other = await api.session(LockDelay="0s"), await api.session(LockDelay="0s")
    key, epoch = api.name, f"{api.name}-epoch"
    answer = await api.txn(
        {"Verb": "lock", "Key": key, "Value": b64("me"), "Session": mine},
        {"Verb": "cas", "Key": epoch, "Value": b64("1"), "Index": 0},
    )
    assert [result["KV"].get("Session") for result in answer.json["Results"]] == [mine, None]
    assert answer.json["Results"][0]["KV"]["LockIndex"] == 1
    fenced = await api.txn(
        {"Verb": "check-session", "Key": key, "Session": mine}, {"Verb": "set", "Key": f"{key}/x"}
    )
    assert fenced.status == 200
    deposed = await api.txn(
        {"Verb": "check-session", "Key": key, "Session": other}, {"Verb": "set", "Key": f"{key}/y"}
    )
    assert faults(deposed) == [
        (0, f'failed session check for key "{key}", current session "{mine}" != "{other}"')
    ]
    assert (await api.get(f"/v1/kv/{key}/y")).status == 404
    taken = await api.txn({"Verb": "lock", "Key": key, "Session": other})
    assert faults(taken) == [(0, f'failed to lock key "{key}", lock is already held')]
    wrong = await api.txn({"Verb": "unlock", "Key": key, "Session": other})
    assert faults(wrong) == [
        (0, f'failed to unlock key "{key}", lock isn\'t held, or is held by another session')
    ]


async def test_a_failed_epoch_cas_gives_the_lock_back(api: Api) -> None:
    session = await api.session(LockDelay="0s")
    answer = await api.txn(
        {"Verb": "lock", "Key": api.name, "Session": session},
        {"Verb": "cas", "Key": f"{api.name}-epoch", "Value": b64("2"), "Index": 77},
    )
    assert answer.status == 409
    assert (await api.get(api.key)).status == 404
    await api.put(f"/v1/session/destroy/{session}")


@pytest.mark.parametrize(
    ("op", "what"),
    [
        ({"Verb": "set", "Key": ""}, "Must provide key"),
        ({"Verb": "lock", "Key": "k"}, "missing session"),
        (
            {"Verb": "lock", "Key": "k", "Session": "x"},
            "failed session lookup: index error: UUID must be 36 characters",
        ),
        (
            {"Verb": "lock", "Key": "k", "Session": "11111111-2222-3333-4444-555555555555"},
            'invalid session "11111111-2222-3333-4444-555555555555"',
        ),
        (
            {"Verb": "check-session", "Key": "no-such-key", "Session": "x"},
            'failed to check session, key "no-such-key" doesn\'t exist',
        ),
        ({"Verb": "get-or-empty", "Key": "k"}, 'unknown KV verb "get-or-empty"'),
    ],
)
async def test_an_operation_that_cannot_be_done_says_why(api: Api, op: dict[str, Any], what: str) -> None:
    answer = await api.txn(op)
    assert (answer.status, faults(answer)) == (409, [(0, what)])


async def test_64_operations_are_the_most(api: Api) -> None:
    ops = [{"Verb": "set", "Key": f"{api.name}/{number}"} for number in range(65)]
    answer = await api.txn(*ops)
    assert (answer.status, answer.text) == (413, "Transaction contains too many operations (65 > 64)")
    assert (await api.txn(*ops[:64])).status == 200


async def test_a_body_of_512_kib_is_the_most(api: Api) -> None:
    body = f'[{{"KV":{{"Verb":"set","Key":"{api.name}"}}}}]'
    assert (await api.put("/v1/txn", body.ljust(524_288))).status == 200
    answer = await api.put("/v1/txn", body.ljust(524_289))
    assert (answer.status, answer.text) == (
        413,
        "Request body(524289 bytes) too large, max size: 524288 bytes. "
        "See https://www.consul.io/docs/agent/options.html#txn_max_req_len.",
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("", "Failed to parse body: EOF"),
        ("{}", "Failed to parse body: json: cannot unmarshal object into Go value of type api.TxnOps"),
        (
            '[{"KV":{"Verb":"set","Key":"k","Value":"***"}}]',
            "Failed to parse body: illegal base64 data at input byte 0",
        ),
        ('[{"Session":{}}]', 'Failed to parse body: json: unknown field "Session"'),
    ],
)
async def test_a_body_that_does_not_parse_is_400(api: Api, body: str, text: str) -> None:
    answer = await api.put("/v1/txn", body)
    assert (answer.status, answer.text) == (400, text)


async def test_nothing_to_do_is_done(api: Api) -> None:
    for body in ("[]", "[{}]"):
        assert (await api.put("/v1/txn", body)).json["Results"] == []
