"""A docker job on a real engine: healthy in Consul, the same container after drover was killed, gone when stopped."""

import base64
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.test_exec import opened, ran
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import NS, Drover, call, job, restart, stays, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul, pytest.mark.docker]


@pytest.fixture
def one() -> Iterator[Drover]:
    with or_skip(lambda: ConsulServer().__enter__()) as consul, Drover(consul) as drover:
        drover.wait_ready()
        yield drover
        # Whatever a failed test left: containers outlive drover by design.
        for alloc in drover.allocs("web"):
            subprocess.run(["docker", "rm", "-f", *containers(alloc["ID"])], capture_output=True, check=False)


def containers(alloc_id: str) -> list[str]:
    listed = subprocess.run(
        ["docker", "ps", "-q", "--no-trunc", "--filter", f"label=drover.alloc={alloc_id}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


def web(image: str) -> dict[str, object]:
    check = {"Name": "alive", "Type": "http", "Path": "/", "Interval": NS, "Timeout": NS}
    made = job("web", "", [], group={"Networks": [{"DynamicPorts": [{"Label": "http", "To": 8080}]}], "RestartPolicy": restart()})
    task = made["TaskGroups"][0]["Tasks"][0]
    task["Driver"] = "docker"
    task["Config"] = {
        "image": image,
        "command": "/bin/sh",
        "args": ["-c", "echo serving; mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 8080 -h /www"],
        "ports": ["http"],
    }
    task["Services"] = [{"Name": "web", "PortLabel": "http", "Checks": [check]}]
    return made


def test_a_container_becomes_a_healthy_service_and_outlives_drover(one: Drover, docker_image: str) -> None:
    one.submit(web(docker_image))
    alloc = one.wait_running("web", 1, 60.0)[0]["ID"]
    passing = wait("it passes", lambda: call(one.consul.http_addr, "GET", "/v1/health/service/web?passing=1"), 60.0)
    service = passing[0]["Service"]
    assert call(f"{service['Address']}:{service['Port']}", "GET", "/") == "hello\n"
    wait("its log", lambda: one.get(f"/v1/client/fs/logs/{alloc}?task=t&type=stdout&plain=true") == "serving\n")
    container = containers(alloc)
    assert len(container) == 1
    one.kill()
    stays("the container runs on", lambda: containers(alloc) == container, 1.0)
    one.start()
    one.wait_running("web", 1)
    stays("it is the same, and the only one", lambda: containers(alloc) == container, 2.0)
    subprocess.run(["docker", "kill", *container], capture_output=True, check=True)
    again = wait("a restart in its place", lambda: (c := containers(alloc)) and c != container and c)
    assert len(again) == 1
    one.stop_job("web")
    wait("it is gone", lambda: not containers(alloc))
    wait("so is its service", lambda: not call(one.consul.http_addr, "GET", "/v1/health/service/web"))


async def test_commands_run_in_the_container_and_end_when_their_client_goes(one: Drover, docker_image: str) -> None:
    one.submit(web(docker_image))
    alloc = one.wait_running("web", 1, 60.0)[0]["ID"]
    async with opened(one.address, alloc, ["sh", "-c", "echo $NOMAD_TASK_NAME; cat; echo err >&2; exit 4"]) as session:
        await session.type(b"given\n")
        await session.close_input()
        done = await session.finish()
    assert (done.out, done.err, done.result, done.end) == (b"t\ngiven\n", b"err\n", {"exit_code": 4}, (1000, ""))
    async with opened(one.address, alloc, ["sh"], query="tty=true") as session:
        await session.say({"tty_size": {"height": 33, "width": 99}})
        await session.type(b"tty; busybox stty size; exit 6\n")
        done = await session.finish()
    assert b"33 99\r\n" in done.out
    assert (done.closed, done.result) == (["stdout"], {"exit_code": 6})
    for query in ("", "tty=true"):
        async with opened(one.address, alloc, ["sh", "-c", "echo there; trap '' HUP; sleep 1234; sleep 1235"], query=query) as session:
            await session.until(b"there")
            wait("it runs", lambda: b"sleep 1234" in top(alloc))
        wait("its end", lambda: b"sleep 123" not in top(alloc))
    assert b"httpd" in top(alloc)
    done = await ran(one.address, alloc, "no-such-command")
    assert done.result != {}
    one.stop_job("web")
    wait("it is gone", lambda: not containers(alloc))
    assert "Traceback" not in one.log


def top(alloc: str) -> bytes:
    return subprocess.run(["docker", "top", *containers(alloc)], capture_output=True, check=True).stdout


def test_a_containers_templates_are_at_the_places_that_it_knows(one: Drover, docker_image: str) -> None:
    def put(value: str) -> None:
        ops = [{"KV": {"Verb": "set", "Key": "color", "Value": base64.b64encode(value.encode()).decode()}}]
        assert one.consul.call("PUT", "/v1/txn", ops)[0] == 200

    def seen(path: str) -> str:
        return str(one.get(f"/v1/client/fs/cat/{alloc}?path=t/local/{path}"))

    put("blue")
    quick = {"Splay": 0, "Wait": {"Min": 0, "Max": 0}}
    made: dict[str, Any] = web(docker_image)
    task = made["TaskGroups"][0]["Tasks"][0]
    task["Config"]["args"] = ["-c", "trap 'cp /local/out /local/heard' HUP; env > /local/env; cat /secrets/s >> /local/env; while :; do sleep 0.1; done"]
    task["Services"] = []
    script = {"Command": "/bin/sh", "Args": ["-c", "cp ${NOMAD_TASK_DIR}/script /local/ran"]}
    task["Templates"] = [
        {"EmbeddedTmpl": '{{ key "color" }}', "DestPath": "${NOMAD_TASK_DIR}/out", "ChangeMode": "signal", "ChangeSignal": "SIGHUP", **quick},
        {"EmbeddedTmpl": '{{ key "color" }}', "DestPath": "/local/script", "ChangeMode": "script", "ChangeScript": script, **quick},
        {"EmbeddedTmpl": "FROM=a template", "DestPath": "secrets/s", "Envvars": True, **quick},
    ]
    one.submit(made)
    alloc = one.wait_running("web", 1, 60.0)[0]["ID"]
    assert wait("its environment", lambda: seen("env")).count("FROM=a template") == 2
    put("red")
    wait("the signal", lambda: seen("heard") == "red")
    wait("the script", lambda: seen("ran") == "red")
    assert len(containers(alloc)) == 1
    one.stop_job("web")
    wait("it is gone", lambda: not containers(alloc))
