"""What an agent's token can write may be nonsense, or lies about others: it costs that agent's node and nobody else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, call, is_alive, marking_job, stays, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

NOBODY = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


def there(name: str) -> dict[str, Any]:
    return {"Constraints": [{"LTarget": "${node.unique.name}", "Operand": "=", "RTarget": name}]}


def test_an_agents_nonsense_costs_its_own_node_alone(consul: ConsulServer) -> None:
    def write(key: str, value: object) -> None:
        call(consul.http_addr, "PUT", f"/v1/kv/drover/state/{key}", value)

    def told(node: str, *names: str) -> None:
        write(f"inbox/{node}", {"Names": list(names), "IsAll": False, "Nonce": "n"})

    with Drover(consul) as one, Drover(consul, name="two", server=False) as two:
        one.wait_ready(2)
        nodes = {node["Name"]: node["ID"] for node in one.get("/v1/nodes")}
        one.submit(marking_job("here", group=there("one")))
        one.submit(marking_job("there", group=there("two")))
        (mine,), (other,) = one.wait_running("here", 1), one.wait_running("there", 1)
        pids = [wait("a process", lambda: one.pids(mine["ID"]))[-1], wait("a process", lambda: two.pids(other["ID"]))[-1]]

        # A report that is none, an inbox that is none, and a report about another node's alloc.
        write(f"observed/{nodes['two']}/{NOBODY}", "no document")
        told(nodes["two"], NOBODY)
        forged = one.get(f"/v1/allocation/{mine['ID']}")
        write(f"observed/{nodes['two']}/{mine['ID']}", {
            "ID": mine["ID"], "NodeID": nodes["two"], "ClientStatus": "failed", "ModifyTime": forged["ModifyTime"] + 1,
        })
        told(nodes["two"], mine["ID"])
        wait("they were looked at", lambda: "cannot be read and is passed over" in one.log)
        one.submit(marking_job("after", group=there("one")))
        one.wait_running("after", 1)
        stays("nothing is believed of it", lambda: one.get(f"/v1/allocation/{mine['ID']}")["ClientStatus"] == "running", 1.0)
        call(consul.http_addr, "PUT", f"/v1/kv/drover/state/inbox/{nodes['two']}", [1])
        wait("it is emptied", lambda: not _has(consul, f"drover/state/inbox/{nodes['two']}"))

        # A node's own document that is none, or that speaks of another, under the next leader.
        document = call(consul.http_addr, "GET", f"/v1/kv/drover/state/nodes/{nodes['one']}?raw")
        for nonsense in ("no document", document | {"HTTPAddr": "127.0.0.1:1"}):
            write(f"nodes/{nodes['two']}", nonsense)
            one.kill()
            one.start()
            one.wait_ready()
            one.submit(marking_job(f"next-{isinstance(nonsense, str)}", group=there("one")))
            one.wait_running(f"next-{isinstance(nonsense, str)}", 1)
            assert one.get(f"/v1/node/{nodes['one']}")["HTTPAddr"] == one.address
            stays("what runs there counts", lambda: [a["ID"] for a in one.running("there")] == [other["ID"]], 2.0)
        assert all(is_alive(pid) for pid in pids)
        assert "Traceback" not in one.log


def _has(consul: ConsulServer, key: str) -> bool:
    return key in json.dumps(call(consul.http_addr, "GET", "/v1/kv/drover/state/inbox/?keys"))
