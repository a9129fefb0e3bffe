"""The checks that Consul makes over gRPC, and those that drover feeds for a task: on real Consul, with a real
gRPC server as the task."""

import contextlib
import http.client
import json
import sys
from typing import Any

import pytest

from tests.components.consul import ConsulServer
from tests.e2e.drover import NS, Drover, is_alive, job, marking_job, restart, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

# Answers grpc.health.v1.Health/Check as the file `mode` says, P serving and F not; each question's service is
# a line in `asked`. The messages are small enough to be written by hand: field 1 is the name, or the status.
HEALTH = """
import concurrent.futures, os, pathlib, grpc
with open("starts", "a") as file: file.write(f"{os.getpid()}\\n")
def check(request, context):
    mode = pathlib.Path("mode").read_text() if pathlib.Path("mode").exists() else "P"
    with open("asked", "a") as file: file.write(f"{os.getpid()} {mode} {request[2:].decode()}\\n")
    return bytes((8, 1 if mode == "P" else 2))
methods = {"Check": grpc.unary_unary_rpc_method_handler(check)}
server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods),))
server.add_insecure_port("127.0.0.1:" + os.environ["NOMAD_PORT_rpc"])
server.start()
server.wait_for_termination()
"""


def checks(consul: ConsulServer, service: str) -> list[dict[str, Any]]:
    connection = http.client.HTTPConnection(consul.http_addr, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", f"/v1/health/checks/{service}")
        found: list[dict[str, Any]] = json.loads(connection.getresponse().read())
    return found


def has_status(consul: ConsulServer, service: str, status: str) -> bool:
    return [check["Status"] for check in checks(consul, service)] == [status]


def test_a_grpc_check_passes_and_restarts_the_task_when_it_fails(one: Drover, consul: ConsulServer) -> None:
    check = {
        "Name": "${NOMAD_TASK_NAME} rpc", "Type": "grpc", "GRPCService": "shop.Cart", "Interval": NS, "Timeout": NS,
        "CheckRestart": {"Limit": 3, "Grace": NS},
    }  # fmt: skip
    group = {
        "Networks": [{"DynamicPorts": [{"Label": "rpc"}]}],
        "RestartPolicy": restart(),
        "Services": [{"Name": "cart", "PortLabel": "rpc", "Checks": [check]}],
    }
    one.submit(job("cart", sys.executable, ["-c", HEALTH], group=group))
    alloc = one.wait_running("cart", 1)[0]["ID"]
    home = one.task_dir(alloc)

    def asked(pid: int) -> list[str]:
        lines = (home / "asked").read_text().splitlines() if (home / "asked").exists() else []
        return [line.split(" ", 1)[1] for line in lines if line.split(" ", 1)[0] == str(pid)]

    pid = wait("its start", lambda: one.pids(alloc))[0]
    wait("the passing check", lambda: has_status(consul, "cart", "passing"))
    wait("checks after the grace", lambda: len(asked(pid)) >= 3)
    assert set(asked(pid)) == {"P shop.Cart"}
    (home / "mode").write_text("F")
    wait("the failing check", lambda: has_status(consul, "cart", "critical"))
    wait("the restart", lambda: len(one.pids(alloc)) == 2)
    assert not is_alive(pid)
    assert asked(pid).count("F shop.Cart") >= 3
    said = [event["DisplayMessage"] for event in events(one, alloc) if event["Type"] == "Restart Signaled"]
    assert said == ['check "t rpc" failed 3 times in a row']
    (home / "mode").write_text("P")
    wait("the passing check of the new process", lambda: has_status(consul, "cart", "passing"))
    one.stop_job("cart", purge=True)
    wait("its end", lambda: not checks(consul, "cart"))


def events(one: Drover, alloc: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one.alloc(alloc)["TaskStates"]["t"]["Events"]
    return found


def test_a_ttl_check_passes_while_its_task_runs_and_goes_with_it(one: Drover, consul: ConsulServer) -> None:
    check = {"Name": "beat", "Type": "ttl", "Interval": NS, "Timeout": NS}
    services = [{"Name": "beating", "Checks": [check]}]
    one.submit(marking_job("beating", Services=services))
    alloc = one.wait_running("beating", 1)[0]["ID"]
    wait("the passing check", lambda: has_status(consul, "beating", "passing"))
    (found,) = checks(consul, "beating")
    assert (found["Name"], found["Type"]) == ("beat", "ttl")

    fail(consul, found["CheckID"])
    wait("the check to be fed again", lambda: has_status(consul, "beating", "passing"))
    assert len(one.pids(alloc)) == 1
    one.stop_job("beating", purge=True)
    wait("its end", lambda: not checks(consul, "beating"))


def fail(consul: ConsulServer, check_id: str) -> None:
    connection = http.client.HTTPConnection(consul.http_addr, timeout=10)
    with contextlib.closing(connection):
        connection.request("PUT", f"/v1/agent/check/fail/{check_id}")
        assert connection.getresponse().status == 200
