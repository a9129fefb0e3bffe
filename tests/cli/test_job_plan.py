"""`job plan` and `job why` in the situations a user meets: what is printed, word for word, in tests/cli/golden/.

After a wanted change: DROVER_GOLDEN=write pytest tests/cli/test_job_plan.py, then read the difference.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from cli.job_plan import coloured, job_diff, plain
from tests.cli.command import Done, drover, keys, mask, masked
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

GOLDEN = Path(__file__).parent / "golden"

# One leader and four more nodes: name, datacenter, virtual datacenter, class, memory in MB, has raw_exec.
NODES = (
    ("n1", "dc1", "", "small", 1000, True),
    ("n2", "dc1", "", "big", 2000, True),
    ("n3", "dc2", "", "small", 1000, True),
    ("n4", "dc3", "edge", "small", 1000, True),
    ("n5", "dc4", "", "small", 1000, False),
)


def agent(consul: ConsulServer, name: str, dc: str, virtual: str, node_class: str, memory_mb: int, has_driver: bool) -> Drover:
    volume = 'host_volume "data" {\n    path      = "/"\n    read_only = true\n  }'
    settings = f"""
datacenter = "{dc}"
client {{
  virtual_datacenter = "{virtual}"
  node_class = "{node_class}"
  memory_total_mb = {memory_mb}
  cpu_total_compute = 1000
  reservable_cores = "{min(os.sched_getaffinity(0))}"
  {volume if name == "n3" else ""}
}}
plugin "raw_exec" {{
  config {{ enabled = {str(has_driver).lower()} }}
}}
"""
    return Drover(consul, name=name, server=name == "n1", settings=settings)


@pytest.fixture(scope="module")
def consul() -> Iterator[ConsulServer]:
    """One of its own: the answers name every node that there is."""
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.fixture(scope="module")
def fleet(consul: ConsulServer) -> Iterator[Drover]:
    """The leader of a cluster of five."""
    with contextlib.ExitStack() as stack:
        agents = [stack.enter_context(agent(consul, *node)) for node in NODES]
        agents[0].wait_ready(len(NODES))
        yield agents[0]


# Runs commands against the fleet; each leaves its lines in the protocol that the golden file holds.
Say = Callable[..., Done]


@pytest.fixture
def protocol() -> list[str]:
    return []


@pytest.fixture
def say(fleet: Drover, tmp_path: Path, protocol: list[str]) -> Iterator[Say]:
    def one(*argv: str) -> Done:
        done = drover(*argv, cwd=tmp_path, address=fleet.address)
        protocol.extend([f"$ drover {' '.join(argv)}", *map(numbered, masked(done.out)), *map(mask, done.err)])
        protocol.extend([*([f"(exit {done.code})"] if done.code else []), ""])
        return done

    yield one
    for job in fleet.get("/v1/jobs"):
        fleet.stop_job(quote(job["ID"]), purge=True)
    ended = ("complete", "failed", "lost")
    wait("an empty cluster", lambda: all(a["ClientStatus"] in ended for a in fleet.get("/v1/allocations")))


def numbered(line: str) -> str:
    """Consul's indexes differ from run to run, but for 0: no such job yet."""
    return re.sub(r"(Modify Index: |-check-index )[1-9]\d*", r"\1<index>", line)


def golden(name: str, protocol: list[str]) -> None:
    path = GOLDEN / f"{name}.txt"
    text = "\n".join(protocol)
    if os.environ.get("DROVER_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def job_file(
    folder: Path,
    *,
    name: str = "web",
    datacenters: str = '"dc1"',
    in_job: str = "",
    in_group: str = "",
    count: int = 1,
    memory: int = 16,
    cores: int = 0,
    type: str = "service",
) -> str:
    (folder / f"{name}.hcl").write_text(
        f"""job "{name}" {{
  type        = "{type}"
  datacenters = [{datacenters}]
  {in_job}
  group "g" {{
    count = {count}
    {in_group}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "/bin/sleep"
        args    = ["100000"]
      }}
      resources {{
        {f"cores  = {cores}" if cores else "cpu    = 10"}
        memory = {memory}
      }}
    }}
  }}
}}
"""
    )
    return f"{name}.hcl"


def both(say: Say, path: str) -> None:
    """Plan, submit, and ask why."""
    say("job", "plan", path)
    say("job", "run", "-detach", path)
    say("job", "why", path.removesuffix(".hcl"))


SITUATIONS = {
    "datacenter": {"datacenters": '"dc9"'},
    "constraint": {
        "in_job": 'constraint {\n    attribute = "${node.class}"\n    value     = "huge"\n  }',
        "datacenters": '"dc1", "dc2"',
    },
    "memory": {"count": 2, "memory": 1500},
    "distinct_hosts": {"count": 3, "in_group": "constraint {\n      distinct_hosts = true\n    }"},
    "max_skew": {
        "count": 6,
        "memory": 600,
        "datacenters": '"dc1", "dc2"',
        "in_job": 'spread {\n    attribute = "${node.datacenter}"\n    max_skew  = 1\n  }',
    },
    "driver": {"datacenters": '"dc4"'},
    "virtual_datacenter": {"datacenters": '"dc3"'},
    "volume": {"in_group": 'volume "data" {\n      type   = "host"\n      source = "data"\n    }', "datacenters": '"dc1", "dc2"'},
    "host_network": {"in_group": 'network {\n      port "http" {\n        host_network = "public"\n      }\n    }'},
    "cores": {"cores": 9},
    "all_at_once": {"count": 5, "memory": 600, "in_job": "all_at_once = true"},
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_finds_no_place_is_told_with_the_reason_and_what_would_help(
    name: str, say: Say, protocol: list[str], tmp_path: Path
) -> None:
    both(say, job_file(tmp_path, **SITUATIONS[name]))  # type: ignore[arg-type]  # a table of keywords
    golden(f"unplaced/{name}", protocol)


def test_a_port_that_is_taken_is_told_with_who_holds_it(
    say: Say, fleet: Drover, protocol: list[str], tmp_path: Path
) -> None:
    port = 'network {\n      port "http" {\n        static = 18080\n      }\n    }'
    say("job", "run", "-detach", job_file(tmp_path, name="proxy", type="system", in_group=port))
    fleet.wait_running("proxy", 2)
    protocol.clear()
    both(say, job_file(tmp_path, in_group=port))
    golden("unplaced/ports", protocol)


def test_a_plan_names_what_it_would_push_away(say: Say, fleet: Drover, protocol: list[str], tmp_path: Path) -> None:
    on_n1 = 'constraint {\n    attribute = "${node.unique.name}"\n    value     = "n1"\n  }'
    say("job", "run", "-detach", job_file(tmp_path, name="filler", memory=900, in_job=f"priority = 20\n  {on_n1}"))
    fleet.wait_running("filler", 1)
    protocol.clear()
    service = job_file(tmp_path, name="service", memory=500, in_job=f"priority = 80\n  {on_n1}")
    say("job", "why", "-file", service)
    low = job_file(tmp_path, name="equal", memory=500, type="system", in_job=f"priority = 25\n  {on_n1}")
    say("job", "why", "-file", low)
    high = job_file(tmp_path, name="urgent", memory=500, type="system", in_job=f"priority = 80\n  {on_n1}")
    say("job", "plan", high)
    say("job", "why", "-file", high)
    assert say("job", "run", "-detach", high).code == 0
    fleet.wait_running("urgent", 1)
    say("job", "why", "filler")
    golden("unplaced/preemption", protocol)


def test_a_change_is_told_with_what_it_forces(say: Say, fleet: Drover, protocol: list[str], tmp_path: Path) -> None:
    say("job", "plan", "-verbose", job_file(tmp_path, count=2))
    assert say("job", "run", "-detach", "web.hcl").code == 0
    fleet.wait_running("web", 2)
    assert say("job", "plan", "web.hcl").code == 0
    assert say("job", "plan", job_file(tmp_path, count=3)).code == 1
    assert say("job", "plan", job_file(tmp_path, count=1)).code == 1
    assert say("job", "plan", job_file(tmp_path, count=2, memory=32)).code == 1
    path = job_file(tmp_path, count=2, in_job='priority = 60\n  meta {\n    owner = "us"\n  }')
    assert say("job", "plan", path).code == 1
    path = job_file(tmp_path, count=2, in_job="priority = 60")
    assert say("job", "plan", path).code == 0
    assert say("job", "plan", "-diff=false", path).code == 0
    golden("plan/changes", protocol)


def written(consul: ConsulServer) -> dict[str, int]:
    """What leaders write; agents may still tell of what has just ended."""
    return {key: index for key, index in keys(consul).items() if "/inbox/" not in key and "/observed/" not in key}


def test_a_plan_and_a_why_write_nothing(say: Say, fleet: Drover, consul: ConsulServer, tmp_path: Path) -> None:
    path = job_file(tmp_path, count=5, memory=600)
    wait("purged jobs that are forgotten", lambda: fleet.get("/v1/allocations") == [])
    before = written(consul)
    for _ in range(3):
        assert say("job", "plan", path).code == 1
        assert say("job", "why", "-file", path).code == 0
    # What purged jobs left may still go; nothing comes, and nothing changes.
    assert written(consul).items() <= before.items()
    assert fleet.get("/v1/jobs") == []


@pytest.mark.parametrize(
    "argv",
    [("-nope", "web.hcl"), ("nowhere.hcl",), ("broken.hcl",), ("-address", "http://127.0.0.1:9", "web.hcl")],
    ids=["flag", "file", "faults", "agent"],
)
def test_a_plan_that_fails_is_no_plan_with_changes(argv: tuple[str, ...], tmp_path: Path) -> None:
    job_file(tmp_path)
    (tmp_path / "broken.hcl").write_text('job "x" {')
    done = drover("job", "plan", *argv, cwd=tmp_path)
    assert (done.code, done.out) == (255, [])


def test_a_job_that_is_placed_says_so(say: Say, fleet: Drover, protocol: list[str], tmp_path: Path) -> None:
    say("job", "run", "-detach", job_file(tmp_path, count=2))
    fleet.wait_running("web", 2)
    protocol.clear()
    say("job", "why", "web")
    assert say("job", "why", "web", "-verbose").code == 0
    golden("why/placed", protocol)


def test_on_a_terminal_markers_and_what_is_forced_have_colours() -> None:
    edited = {"Type": "Edited", "Name": "Count", "Old": "1", "New": "2", "Annotations": ["forces create"]}
    group = {"Type": "Edited", "Name": "g", "Fields": [edited], "Objects": [], "Tasks": [], "Updates": {"create": 1}}
    diff = {"Type": "Edited", "ID": "web", "Fields": [], "Objects": [], "TaskGroups": [group]}
    assert job_diff(diff, coloured, is_verbose=False).splitlines() == [
        '\033[33m+/-\033[0m \033[1mJob: "web"\033[0m',
        '\033[33m+/-\033[0m \033[1mTask Group: "g"\033[0m (\033[32m1 create\033[0m)',
        '  \033[33m+/-\033[0m Count: "1" => "2" (\033[32mforces create\033[0m)',
    ]
    assert "\033" not in job_diff(diff, plain, is_verbose=False)


def test_what_would_print_as_something_else_is_escaped() -> None:
    added = {"Type": "Added", "Name": "Env[A]", "Old": "", "New": 'a"b\\c\n\033[31m', "Annotations": None}
    diff = {"Type": "Edited", "ID": "web", "Fields": [added], "Objects": [], "TaskGroups": []}
    assert job_diff(diff, plain, is_verbose=False).splitlines()[1] == '+ Env[A]: "a\\"b\\\\c\\n\\x1b[31m"'
