"""drover comes to a fleet with Consul, is upgraded and configured anew under running work, and goes again without a trace.

One story: each test goes on where the one before ended. `make test-ansible` runs it; `-s` tells times and counts.
"""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dnslib import DNSRecord

from tests.ansible.fleet import Fleet, Host, Played, environment, tool, wheel
from tests.ansible.image import PROJECT
from tests.e2e.drover import NS, wait

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.timeout(1500)]

COUNT = 6
SERVE = "exec python3 -m http.server --bind 0.0.0.0 $NOMAD_PORT_http"
# What an uninstall must not touch: a process, a file, a unit and a service like drover's, but not drover's.
FOREIGN = ("/opt/drover-notes", "/etc/drover-like.conf")


def service(name: str = "web", count: int = COUNT) -> dict[str, Any]:
    check = {"Name": "alive", "Type": "http", "Path": "/", "Interval": NS, "Timeout": NS}
    group = {
        "Name": "g",
        "Count": count,
        "Networks": [{"DynamicPorts": [{"Label": "http"}]}],
        "Services": [{"Name": name, "PortLabel": "http", "Checks": [check]}],
        "Spreads": [{"Attribute": "${node.unique.name}", "Weight": 100}],
        "Tasks": [
            {
                "Name": "t",
                "Driver": "raw_exec",
                "Config": {"command": "/bin/sh", "args": ["-c", SERVE]},
                "Resources": {"CPU": 20, "MemoryMB": 32},
            }
        ],
    }
    return {"Job": {"ID": name, "Name": name, "Datacenters": ["dc1"], "Type": "service", "TaskGroups": [group]}}


class Lookups:
    """Asks one host's Consul for the service's addresses, ten times a second."""

    def __init__(self, host: Host, name: str = "web") -> None:
        self._host, self._name = host, f"{name}.service.consul"
        self._is_over = threading.Event()
        self.asked, self.empty, self.fewest = 0, 0, COUNT

    def run(self) -> None:
        while not self._is_over.wait(0.1):
            self.asked += 1
            try:
                reply = DNSRecord.parse(DNSRecord.question(self._name, "SRV").send(self._host.address, 8600, tcp=True, timeout=3.0))
                found = len(reply.rr)
            except OSError:
                found = 0
            self.empty += found == 0
            self.fewest = min(self.fewest, found)


@contextmanager
def looked_up(host: Host) -> Iterator[Lookups]:
    lookups = Lookups(host)
    thread = threading.Thread(target=lookups.run, daemon=True)
    thread.start()
    try:
        yield lookups
    finally:
        lookups._is_over.set()
        thread.join(10)
        print(f"DNS at {host.name}: asked {lookups.asked} times, {lookups.empty} empty, never fewer than {lookups.fewest}")


def served(fleet: Fleet) -> dict[str, set[int]]:
    """The job's processes on each host."""
    return {name: host.pids("http.server --bind") for name, host in fleet.hosts.items()}


def consuls(fleet: Fleet) -> dict[str, set[int]]:
    return {name: host.pids("consul agent -config-dir") for name, host in fleet.hosts.items()}


def versions(fleet: Fleet) -> dict[str, str]:
    return {name: host.run("/usr/local/bin/drover", "version").split()[-1] for name, host in fleet.hosts.items()}


def unchanged(played: Played) -> bool:
    return set(played.ok().changed.values()) == {0}


def test_the_collection_is_clean_for_production() -> None:
    done = subprocess.run(
        [tool("ansible-lint"), "--offline", "--profile", "production", "-q", PROJECT / "ansible"],
        env=environment(), cwd=PROJECT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_mode_on_bare_hosts_changes_nothing(fleet: Fleet, first: Path) -> None:
    fleet.play("site", "--check", variables={"drover_wheel": str(first)}).ok()
    for host in fleet.hosts.values():
        assert host.run("ls", "/opt/drover", "/etc/drover.d", "/var/lib/drover", check=False) == ""


def test_it_is_rolled_out_and_a_second_run_changes_nothing(fleet: Fleet, first: Path) -> None:
    before = consuls(fleet)
    played = fleet.play("site", variables={"drover_wheel": str(first)}).ok()
    assert min(played.changed.values()) > 5
    one = fleet.hosts["one"]
    wait("four nodes", lambda: [n["Status"] for n in one.drover("GET", "/v1/nodes")] == ["ready"] * 4, 120.0)
    assert set(versions(fleet).values()) == {"v0.1.1"}
    assert consuls(fleet) == before
    assert unchanged(fleet.play("site", variables={"drover_wheel": str(first)}))


def test_a_job_runs_and_is_found(fleet: Fleet) -> None:
    one = fleet.hosts["one"]
    one.drover("PUT", "/v1/jobs", service())
    passing = "/v1/health/service/web?passing=1"
    wait("all of it passes", lambda: len(fleet.hosts["four"].consul("GET", passing)) == COUNT, 120.0)
    assert sum(len(pids) for pids in served(fleet).values()) == COUNT
    assert all(served(fleet).values())


def test_an_upgrade_restarts_no_task_and_dns_is_never_empty(fleet: Fleet, second: Path) -> None:
    before = served(fleet)
    with looked_up(fleet.hosts["one"]) as at_server, looked_up(fleet.hosts["four"]) as at_client:
        played = fleet.play("upgrade", variables={"drover_wheel": str(second)}).ok()
    assert set(versions(fleet).values()) == {"v0.1.2"}
    assert served(fleet) == before
    assert (at_server.empty, at_client.empty) == (0, 0)
    assert min(at_server.asked, at_client.asked) > played.took_s
    # Clients first, leaders last.
    order = [line.rsplit("[", 1)[1].split("]")[0] for line in played.output.splitlines() if line.startswith("changed: [")]
    assert list(dict.fromkeys(order)) == ["four", "one", "two", "three"]


def test_a_damaged_wheel_is_refused_and_nothing_is_lost(fleet: Fleet, home: Path, second: Path) -> None:
    before = served(fleet)
    damaged = home / "drover-0.1.3-py3-none-any.whl"
    damaged.write_bytes(second.read_bytes()[:20_000])
    played = fleet.play("upgrade", variables={"drover_wheel": str(damaged)})
    assert played.code != 0
    assert sum(played.failed.values()) == 1  # the first one alone: it stops there
    assert (set(versions(fleet).values()), served(fleet)) == ({"v0.1.2"}, before)


def test_a_version_that_does_not_start_is_taken_back(fleet: Fleet, home: Path) -> None:
    def breaks(sources: Path) -> None:
        path = sources / "cli" / "agent.py"
        path.write_text(path.read_text().replace("async def _until_signalled(", "raise SystemExit(7)\n\n\nasync def _until_signalled(", 1))

    before = served(fleet)
    broken = wheel("0.1.4", home, breaks)
    played = fleet.play("upgrade", variables={"drover_wheel": str(broken), "drover_health_retries": 10})
    assert played.code != 0
    assert (set(versions(fleet).values()), served(fleet)) == ({"v0.1.2"}, before)
    one = fleet.hosts["one"]
    wait("all are ready", lambda: [n["Status"] for n in one.drover("GET", "/v1/nodes")] == ["ready"] * 4, 120.0)


def test_it_is_configured_anew_under_running_work(fleet: Fleet, second: Path) -> None:
    before = served(fleet)
    anew = {"drover_wheel": str(second), "drover_meta": {"rack": "r7"}}
    assert min(fleet.play("site", variables=anew).ok().changed.values()) > 0
    one = fleet.hosts["one"]

    def racks() -> list[str]:
        return [one.drover("GET", f"/v1/node/{n['ID']}")["Meta"].get("rack") for n in one.drover("GET", "/v1/nodes")]

    wait("all know their rack", lambda: racks() == ["r7"] * 4, 60.0)
    assert served(fleet) == before
    assert unchanged(fleet.play("site", variables=anew))


def test_a_host_that_leaves_hands_its_work_over(fleet: Fleet, second: Path) -> None:
    one, four = fleet.hosts["one"], fleet.hosts["four"]
    fleet.play("uninstall", "--limit", "four", variables={"drover_wheel": str(second)}).ok()
    assert four.pids("http.server --bind") == set()
    left = [fleet.hosts[name] for name in ("one", "two", "three")]
    wait("all of it runs on the others", lambda: sum(len(h.pids("http.server --bind")) for h in left) == COUNT, 180.0)
    wait("and passes", lambda: len(one.consul("GET", "/v1/health/service/web?passing=1")) == COUNT, 60.0)
    wait("it is no node any more", lambda: len([n for n in one.drover("GET", "/v1/nodes") if n["Status"] == "ready"]) == 3, 60.0)


def test_it_is_removed_and_nothing_else(fleet: Fleet, second: Path) -> None:
    before = consuls(fleet)
    one = fleet.hosts["one"]
    foreign = {"ID": "drover-like", "Name": "drover-like", "Port": 1}
    one.consul("PUT", "/v1/agent/service/register", foreign)
    for host in fleet.hosts.values():
        for path in FOREIGN:
            host.write(path, "theirs")
    fleet.play("uninstall", variables={"drover_wheel": str(second)}).ok()
    for host in fleet.hosts.values():
        assert host.pids("http.server --bind") | host.pids("/opt/drover/") == set()
        left = host.run("sh", "-c", "ls -d /opt/drover /etc/drover.d /var/lib/drover /usr/local/bin/drover /etc/systemd/system/*drover* /sys/fs/cgroup/*/drover* 2>/dev/null; grep drover /proc/mounts", check=False)
        assert left == "", host.name
        assert all(host.run("cat", path) == "theirs" for path in FOREIGN)
    assert set(one.consul("GET", "/v1/catalog/services")) == {"consul", "drover-like"}
    assert [p["Name"] for p in one.consul("GET", "/v1/acl/policies") if p["Name"].startswith("drover")] == []
    assert consuls(fleet) == before
    again = fleet.play("uninstall", variables={"drover_wheel": str(second)})
    assert unchanged(again)
