"""A machine that leads and works, and gets next to no time for it: with the good-network profile nothing is restarted
and nothing moves.

DROVER_TEST_STARVE_S="300" runs it at full length; `make test` has it short.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import configs
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, is_alive, marking_job, stays, wait

STARVE_S = float(os.environ.get("DROVER_TEST_STARVE_S", "20"))
STOP_S = 20.0

pytestmark = [pytest.mark.e2e, pytest.mark.consul, pytest.mark.timeout(300 + 2 * STARVE_S)]


@dataclass(frozen=True)
class Pair:
    one: Drover
    two: Drover

    def placed(self) -> dict[str, tuple[str, str]]:
        """Every alloc there ever was."""
        return {a["ID"]: (a["NodeName"], a["ClientStatus"]) for a in self.two.allocs("web")}

    def pids(self) -> dict[str, list[int]]:
        homes = {"one": self.one, "two": self.two}
        return {alloc: homes[name].pids(alloc) for alloc, (name, _) in self.placed().items()}

    def lead(self) -> tuple[str, int]:
        found = self.two.get("/v1/operator/lock")["Leader"] or {}
        return str(found.get("Name", "")), int(found.get("Epoch", 0))

    def queued_s(self) -> float:
        """How long the leader's threads, ready to run, have waited for a core so far."""
        threads = Path(f"/proc/{self.one.pid}/task").glob("*/schedstat")
        return sum(int(t.read_text().split()[1]) for t in threads) / 1e9


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The leader, a node too, and another candidate with room for all that the first has."""
    text = (Path(configs.__file__).parent / "profiles" / "good-network.hcl").read_text()
    body = text[text.index("server {") + len("server {") : text.rindex("}")]
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        other = stack.enter_context(ConsulServer.client(server, node_name="other"))
        one = stack.enter_context(Drover(server, name="one", server_settings=body))
        one.wait_ready()
        two = stack.enter_context(Drover(other, name="two", server_settings=body))
        one.wait_ready(2)
        yield Pair(one, two)


@contextmanager
def starved() -> Iterator[None]:
    """Busy loops on eight times the cores. Each has a session of its own, or the kernel's autogroups would give all of
    them together no more than one drover."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        for _ in range(8 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def running(pair: Pair) -> tuple[dict[str, tuple[str, str]], dict[str, list[int]]]:
    job = marking_job("web", count=4)
    job["Spreads"] = [{"Attribute": "${node.unique.name}", "Weight": 100}]
    pair.one.submit(job)
    pair.one.wait_running("web", 4)
    assert {name for name, _ in pair.placed().values()} == {"one", "two"}
    return pair.placed(), wait("the task files", lambda: (p := pair.pids()) and all(p.values()) and p)


def assert_untouched(pair: Pair, placed: dict[str, tuple[str, str]], pids: dict[str, list[int]]) -> None:
    wait("both are ready", lambda: all(n["Status"] == "ready" for n in pair.two.get("/v1/nodes")), 60.0)
    stays("nothing moves afterwards", lambda: pair.placed() == placed, 5.0)
    assert pair.pids() == pids
    assert all(is_alive(pid) for of_one in pids.values() for pid in of_one)
    assert "is down" not in pair.one.log + pair.two.log


def test_a_starved_leader_restarts_and_moves_nothing(pair: Pair) -> None:
    placed, pids = running(pair)
    before, queued_s, waits_s, faults = pair.lead(), pair.queued_s(), [0.0], 0
    end_s = time.monotonic() + STARVE_S
    with starved():
        while (asked_s := time.monotonic()) < end_s:
            try:
                assert pair.placed() == placed
            except OSError:
                faults += 1
            waits_s.append(time.monotonic() - asked_s)
            stays("every task runs", lambda: all(is_alive(p[0]) for p in pids.values()), 0.5)
        queued_s = pair.queued_s() - queued_s
    assert_untouched(pair, placed, pids)
    print(
        f"{STARVE_S:g} s starved, {queued_s:.1f} s of them queued for a core; leader and epoch {before} -> {pair.lead()}; {len(waits_s) - 1} API calls,"
        f" {faults} refused, the longest {max(waits_s):.2f} s"
    )


def test_a_leader_that_is_stopped_for_20_s_restarts_and_moves_nothing(pair: Pair) -> None:
    placed, pids = running(pair)
    before = pair.lead()
    assert before[0] == "one"
    with stopped(pair.one.pid):
        wait("the other takes over", lambda: pair.lead()[0] == "two", STOP_S)
        stays("nothing moves meanwhile", lambda: pair.placed() == placed, STOP_S)
    assert_untouched(pair, placed, pids)
    print(f"{STOP_S:g} s stopped: leader and epoch {before} -> {pair.lead()}")
