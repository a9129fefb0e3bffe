"""Commands beside a running task, over a websocket: on its node, from any agent, with pipes and with a terminal."""

import asyncio
import base64
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.api.http import ask
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, is_alive, job, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

THERE = {"Constraints": [{"LTarget": "${node.unique.name}", "RTarget": "two", "Operand": "="}]}


@pytest.fixture(params=["of the node", "of the leader", "of a third"])
def address(request: pytest.FixtureRequest, one: Drover, two: Drover, three: Drover) -> str:
    return {"of the node": two, "of the leader": one, "of a third": three}[request.param].address


@pytest.fixture(scope="module")
def three(one: Drover, two: Drover, consul: ConsulServer) -> Iterator[Drover]:
    with Drover(consul, name="three", server=False) as drover:
        one.wait_ready(3)
        yield drover


@pytest.fixture(scope="module")
def alloc(one: Drover, two: Drover) -> Iterator[str]:
    """Of a task on node two that has its own environment."""
    one.submit(marking_job("shell", Env={"OWN": "its own"}, group=THERE))
    found: str = one.wait_running("shell", 1)[0]["ID"]
    wait("its process", lambda: two.pids(found))
    yield found
    one.stop_job("shell", purge=True)


@dataclass
class Session:
    """One exec as a client sees it."""

    socket: aiohttp.ClientWebSocketResponse
    out: bytes = b""
    err: bytes = b""
    closed: list[str] = field(default_factory=list)
    result: dict[str, Any] | None = None
    end: tuple[int, str] = (0, "")

    async def say(self, message: object) -> None:
        await self.socket.send_str(json.dumps(message))

    async def type(self, data: bytes) -> None:
        await self.say({"stdin": {"data": base64.b64encode(data).decode()}})

    async def close_input(self) -> None:
        await self.say({"stdin": {"close": True}})

    async def read(self) -> bool:
        """One message; False at the end."""
        message = await asyncio.wait_for(self.socket.receive(), 15)
        if message.type is not aiohttp.WSMsgType.TEXT:
            self.end = (int(message.data or 0), str(message.extra or "")) if message.type is aiohttp.WSMsgType.CLOSE else (1006, "")
            return False
        found = json.loads(message.data)
        for name in ("stdout", "stderr"):
            if "data" in found.get(name, {}):
                data = base64.b64decode(found[name]["data"])
                self.out, self.err = (self.out + data, self.err) if name == "stdout" else (self.out, self.err + data)
            elif found.get(name) == {"close": True}:
                self.closed.append(name)
        if found.get("exited"):
            self.result = found["result"]
        return True

    async def until(self, text: bytes) -> None:
        while text not in self.out:
            assert await self.read(), (self.end, self.out, self.err)

    async def finish(self) -> "Session":
        while await self.read():
            pass
        return self


@asynccontextmanager
async def opened(address: str, alloc: str, argv: Sequence[str], *, query: str = "", task: str = "t", **headers: str) -> AsyncIterator[Session]:
    params = {"task": task, "command": json.dumps(list(argv))} | dict(pair.split("=") for pair in query.split("&") if pair)
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(f"http://{address}/v1/client/allocation/{alloc}/exec", params=params, headers=headers) as ws,
    ):
        yield Session(ws)


async def ran(address: str, alloc: str, *argv: str, query: str = "") -> Session:
    async with opened(address, alloc, argv, query=query) as session:
        return await session.finish()


async def test_a_command_has_its_output_and_its_exit_code_told(address: str, alloc: str) -> None:
    done = await ran(address, alloc, "/bin/sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.out, done.err, sorted(done.closed)) == (b"out\n", b"err\n", ["stderr", "stdout"])
    assert (done.result, done.end) == ({"exit_code": 5}, (1000, ""))
    assert (await ran(address, alloc, "true")).result == {}
    assert (await ran(address, alloc, "sh", "-c", "kill -TERM $$")).result == {"exit_code": 143}


async def test_a_command_runs_where_the_task_does(alloc: str, two: Drover) -> None:
    script = 'pwd; echo "$OWN"; echo "$NOMAD_ALLOC_ID"; cat /proc/self/cgroup; echo "end"; id -u'
    done = await ran(two.address, alloc, "sh", "-c", script)
    lines = done.out.decode().splitlines()
    assert lines[:3] == [str(two.task_dir(alloc)), "its own", alloc]
    assert lines[-1] == str(os.geteuid())
    assert lines[3 : lines.index("end")] == Path(f"/proc/{two.pids(alloc)[0]}/cgroup").read_text().splitlines()
    assert two.pids(alloc) == two.pids(alloc)[:1]


async def test_a_command_runs_as_the_tasks_user(one: Drover, two: Drover) -> None:
    if os.geteuid():
        pytest.skip("only root starts tasks of others")
    one.submit(job("nobody", "/bin/sleep", ["1000"], User="nobody", Env={"odd.name": "kept"}, group=THERE))
    alloc = one.wait_running("nobody", 1)[0]["ID"]
    for query in ("", "tty=true"):
        done = await ran(two.address, alloc, "sh", "-c", "id -un; ls -l $(tty) 2>/dev/null | cut -d' ' -f3", query=query)
        assert done.out.decode().split()[0] == "nobody"
    assert done.out.decode().split()[1] == "nobody"
    assert b"odd.name=kept\n" in (await ran(two.address, alloc, "env")).out  # a name that a shell would drop
    one.stop_job("nobody", purge=True)


async def test_input_is_given_in_pieces_and_closed(address: str, alloc: str) -> None:
    async with opened(address, alloc, ["cat"]) as session:
        await session.type(b"one\n")
        await session.until(b"one\n")
        await session.say({})  # a heartbeat
        await session.type(b"two")
        await session.close_input()
        done = await session.finish()
    assert (done.out, done.result, done.end) == (b"one\ntwo", {}, (1000, ""))


async def test_much_goes_through_unharmed_in_both_directions(address: str, alloc: str) -> None:
    data = os.urandom(1 << 21)

    async with opened(address, alloc, ["cat"]) as session:

        async def give() -> None:
            for at in range(0, len(data), 1 << 15):
                await session.type(data[at : at + (1 << 15)])
            await session.close_input()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(give())
            done = await session.finish()
    assert (done.out == data, done.result) == (True, {})


async def test_a_terminal_is_one_and_has_the_size_that_is_told(address: str, alloc: str) -> None:
    async with opened(address, alloc, ["/bin/sh"], query="tty=true") as session:
        await session.say({"tty_size": {"height": 33, "width": 99}})
        await session.type(b"tty; stty size; echo T=$TERM\n")
        await session.until(b"T=xterm")
        assert re.search(rb"/dev/pts/\d+\r\n33 99\r\n", session.out)
        await session.say({"tty_size": {"height": 10, "width": 40}})
        await session.type(b"stty size\n")
        await session.until(b"10 40\r\n")
        await session.type(b"sh -c \"echo beg''un; exec sleep 1000\"\n")
        await session.until(b"begun")
        await session.type(b"\x03")  # ^C reaches what is in the foreground
        await session.type(b"echo after; exit 7\n")
        done = await session.finish()
    assert b"after\r\n" in done.out
    assert (done.err, done.closed, done.result, done.end) == (b"", ["stdout"], {"exit_code": 7}, (1000, ""))


async def test_a_terminals_end_of_input_ends_its_shell(alloc: str, two: Drover) -> None:
    async with opened(two.address, alloc, ["/bin/sh"], query="tty=true") as session:
        await session.type(b"echo there\n")
        await session.until(b"there\r\n")
        await session.close_input()
        assert (await session.finish()).result == {}


@pytest.mark.parametrize(
    ("argv", "task", "query", "end"),
    [
        ([], "t", "", (1008, "command is not present")),
        ([""], "t", "", (1008, "command is not present")),
        (["true"], "", "", (1008, "must provide task name")),
        (["true"], "u", "", (1008, 'unknown task name "u"')),
        (["no-such-command"], "t", "", (1011, "command 'no-such-command' was not found")),
    ],
)
async def test_what_cannot_be_run_is_told_by_the_close_frame(
    argv: list[str], task: str, query: str, end: tuple[int, str], address: str, alloc: str
) -> None:
    async with opened(address, alloc, argv, task=task, query=query) as session:
        done = await session.finish()
    assert (done.end[0], done.end[1][: len(end[1])], done.result) == (*end, None)


async def test_a_browsers_client_shakes_hands_first(address: str, alloc: str) -> None:
    async with opened(address, alloc, ["echo", "hello"], query="ws_handshake=true") as session:
        await session.say({"version": 1, "auth_token": "secret-of-a-browser"})
        assert (await session.finish()).out == b"hello\n"
    async with opened(address, alloc, ["echo", "hello"], query="ws_handshake=true") as session:
        await session.say({"version": 2})
        assert (await session.finish()).end == (1008, "unexpected handshake value: 2")


def test_what_is_wrong_before_the_upgrade_is_told_in_the_plain_way(address: str, alloc: str) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    command = "?task=t&command=[%22true%22]"
    path = "/v1/client/allocation/{}/exec"
    assert ask(address, "GET", path + command, unknown, headers=upgrade).error == (404, f'Unknown allocation "{unknown}"')
    assert ask(address, "GET", path + command, alloc).error == (400, "websocket: the client is not using the websocket protocol")
    assert ask(address, "GET", path + "?task=t&command=x", alloc, headers=upgrade).status == 400
    assert ask(address, "GET", path + command + "&tty=perhaps", alloc, headers=upgrade).error == (400, "tty value is not a boolean")


def test_a_web_page_of_another_origin_runs_nothing(address: str, alloc: str, two: Drover) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    path = "/v1/client/allocation/{}/exec?task=t&command=[%22touch%22,%22made%22]"
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        status, text = ask(address, "GET", path, alloc, headers={**upgrade, "Origin": origin}).error
        assert (status, text.startswith("Permission denied: a web page of another origin")) == (403, True)
    assert not (two.task_dir(alloc) / "made").exists()


async def test_a_page_of_the_agents_own_may(address: str, alloc: str) -> None:
    async with opened(address, alloc, ["echo", "own"], Origin=f"http://{address}") as session:
        assert (await session.finish()).out == b"own\n"


# Prints its pid and those of a child in the background and of one in a process group of its own, and stays.
FAMILY = "sleep 1001 & echo $!; sh -c 'sleep 1002 & echo $!'; echo $$; trap '' HUP TERM INT; while :; do sleep 0.1; done"


@pytest.mark.parametrize("query", ["", "tty=true"])
@pytest.mark.parametrize("leaving", ["with a farewell", "by a broken connection"])
async def test_the_command_and_all_it_started_end_when_its_client_goes(
    query: str, leaving: str, address: str, alloc: str, two: Drover
) -> None:
    async with opened(address, alloc, ["sh", "-c", FAMILY], query=query) as session:
        while len(session.out.split()) < 3:
            assert await session.read()
        pids = [int(pid) for pid in session.out.split()]
        assert all(is_alive(pid) for pid in pids)
        if leaving == "by a broken connection":
            transport = session.socket.get_extra_info("socket")
            transport.shutdown(socket.SHUT_RDWR)
    wait("their end", lambda: not any(is_alive(pid) for pid in pids), 10.0)
    assert is_alive(two.pids(alloc)[0])


async def test_a_client_that_leaves_while_the_command_reads_nothing_is_noticed(address: str, alloc: str) -> None:
    async with opened(address, alloc, ["sh", "-c", "echo $$; exec sleep 1003"]) as session:
        await session.until(b"\n")
        pid = int(session.out)

        async def give() -> None:
            while True:
                await session.type(bytes(1 << 15))

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(give(), 1.0)  # all that is on the way is full
        session.socket.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    wait("its end", lambda: not is_alive(pid), 10.0)


async def test_a_slow_client_holds_up_the_command_and_fills_no_memory(address: str, alloc: str, one: Drover, two: Drover, three: Drover) -> None:
    def memory_kb() -> int:
        return sum(
            int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{agent.pid}/status").read_text())[0]) for agent in (one, two, three)
        )

    before = memory_kb()
    async with opened(address, alloc, ["sh", "-c", "yes | head -c 300000000 | tee /dev/fd/2 >/dev/null; echo done"]) as session:
        await session.read()
        for _ in range(10):
            await asyncio.sleep(0.2)
        assert memory_kb() - before < 30_000
        assert b"done" not in session.out
    assert is_alive(two.pids(alloc)[0])


async def test_background_processes_of_a_command_that_ended_do_not_hold_up_its_end(alloc: str, two: Drover) -> None:
    done = await ran(two.address, alloc, "sh", "-c", "sleep 1004 & echo $!")
    assert done.result == {}
    assert not is_alive(int(done.out))


async def test_a_restart_of_the_task_ends_what_runs_beside_it(one: Drover, two: Drover) -> None:
    one.submit(marking_job("again", group=THERE))
    alloc = one.wait_running("again", 1)[0]["ID"]
    wait("its process", lambda: two.pids(alloc))
    async with opened(two.address, alloc, ["sleep", "1005"]) as session:
        await asyncio.sleep(0.2)
        assert ask(one.address, "PUT", f"/v1/client/allocation/{alloc}/restart").status == 200
        done = await session.finish()
    assert (done.result, done.end[0]) == ({"exit_code": 137}, 1000)
    pids = wait("the next process", lambda: len(pids := two.pids(alloc)) == 2 and pids)
    one.stop_job("again", purge=True)
    wait("its end", lambda: not is_alive(pids[-1]))
    refused = (await ran(two.address, alloc, "true")).end[1]
    assert "not running" in refused or refused == f'Unknown allocation "{alloc}"'


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_an_agent_that_ends_takes_the_sessions_along_and_leaves_the_task(
    how: str, one: Drover, consul: ConsulServer
) -> None:
    with Drover(consul, name=f"ends-{how}", server=False) as ends:
        there = {"Constraints": [{"LTarget": "${node.unique.name}", "RTarget": ends.name, "Operand": "="}]}
        one.submit(marking_job(ends.name, group=there))
        alloc = one.wait_running(ends.name, 1)[0]["ID"]
        task = wait("its process", lambda: ends.pids(alloc))
        async with opened(one.address, alloc, ["sh", "-c", FAMILY]) as session:
            while len(session.out.split()) < 3:
                assert await session.read()
            pids = [int(pid) for pid in session.out.split()]
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, ends.terminate if how == "stopped" else ends.kill)
            done = await session.finish()
        wait("their end", lambda: not any(is_alive(pid) for pid in pids), 10.0)
        assert done.end == ((1001, "the agent is stopping") if how == "stopped" else (1011, "the connection to the node broke off"))
        assert ends.pids(alloc) == task
        assert is_alive(task[0])
        one.stop_job(ends.name, purge=True)


def test_a_node_may_refuse_commands(one: Drover, consul: ConsulServer) -> None:
    with Drover(consul, name="closed", server=False, settings="client { disable_remote_exec = true }") as closed:
        there = {"Constraints": [{"LTarget": "${node.unique.name}", "RTarget": "closed", "Operand": "="}]}
        one.submit(marking_job("closed", group=there))
        alloc = one.wait_running("closed", 1)[0]["ID"]
        assert asyncio.run(ran(closed.address, alloc, "true")).end == (1008, "Permission denied")
        one.stop_job("closed", purge=True)
