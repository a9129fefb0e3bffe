from msgspec.structs import replace

from agent.drivers.base import SeenDirs
from agent.env import SECRET_VARIABLES, TaskEnv, inherited, task_env
from model.alloc import AllocatedPort, TaskCores
from model.job import Completion, Job, Network, Port, Resources
from model.node import Node, NodeId, NodeResources
from tests.agent.doubles import a_job, a_task, an_alloc

NODE = Node(
    id=NodeId("node-1"),
    name="worker",
    datacenter="dc7",
    node_class="big",
    attributes={"kernel.name": "linux", "unique.hostname": "worker.example"},
    meta={"rack": "r1"},
)
DIRS = SeenDirs(alloc="/a/alloc", local="/a/main/local", secrets="/a/main/secrets")


def env_of(job: Job, task: int = 0, extra: dict[str, str] | None = None, node: Node = NODE, **alloc: object) -> TaskEnv:
    group = job.task_groups[0]
    return task_env(
        desired=an_alloc(3, job, **alloc),
        job=job,
        group=group,
        task=group.tasks[task],
        node=node,
        dirs=DIRS,
        extra=extra,
    )


def test_every_variable_of_a_plain_task_is_nomads() -> None:
    job = a_job(a_task(resources=Resources(cpu=250, memory_mb=128, memory_max_mb=256)))
    assert env_of(job).variables == {
        "NOMAD_ALLOC_ID": "00000003-0000-4000-8000-000000000000",
        "NOMAD_SHORT_ALLOC_ID": "00000003",
        "NOMAD_ALLOC_NAME": "web.app[3]",
        "NOMAD_ALLOC_INDEX": "3",
        "NOMAD_TASK_NAME": "main",
        "NOMAD_GROUP_NAME": "app",
        "NOMAD_JOB_ID": "web",
        "NOMAD_JOB_NAME": "web",
        "NOMAD_NAMESPACE": "default",
        "NOMAD_DC": "dc7",
        "NOMAD_REGION": "global",
        "NOMAD_CPU_LIMIT": "250",
        "NOMAD_MEMORY_LIMIT": "128",
        "NOMAD_MEMORY_MAX_LIMIT": "256",
        "NOMAD_ALLOC_DIR": "/a/alloc",
        "NOMAD_TASK_DIR": "/a/main/local",
        "NOMAD_SECRETS_DIR": "/a/main/secrets",
    }


def test_a_task_with_cores_of_its_own_is_told_which_and_what_they_count_for() -> None:
    job = a_job(a_task(resources=Resources(cpu=0, cores=3, memory_mb=128)))
    node = replace(NODE, resources=NodeResources(cpu_mhz=10_000, total_cores=4))
    variables = env_of(job, node=node, cores=(TaskCores(task="main", ids=(0, 2, 3)),)).variables
    assert (variables["NOMAD_CPU_CORES"], variables["NOMAD_CPU_LIMIT"]) == ("0,2-3", "7500")


def test_ports_are_named_by_host_and_by_what_the_task_sees() -> None:
    ports = (
        AllocatedPort(label="http", value=20000, host_ip="10.0.0.5"),
        AllocatedPort(label="admin-ui", value=20001, to=8080, host_ip="fd00::1"),
    )
    found = env_of(a_job(), ports=ports).variables
    assert {name: value for name, value in found.items() if name.endswith(("http", "admin_ui"))} == {
        "NOMAD_IP_http": "10.0.0.5",
        "NOMAD_PORT_http": "20000",
        "NOMAD_ADDR_http": "10.0.0.5:20000",
        "NOMAD_HOST_IP_http": "10.0.0.5",
        "NOMAD_HOST_PORT_http": "20000",
        "NOMAD_HOST_ADDR_http": "10.0.0.5:20000",
        "NOMAD_IP_admin_ui": "fd00::1",
        "NOMAD_PORT_admin_ui": "8080",
        "NOMAD_ADDR_admin_ui": "[fd00::1]:20001",
        "NOMAD_HOST_IP_admin_ui": "fd00::1",
        "NOMAD_HOST_PORT_admin_ui": "20001",
        "NOMAD_HOST_ADDR_admin_ui": "[fd00::1]:20001",
    }


def test_a_port_of_another_task_carries_that_tasks_name() -> None:
    own = Resources(networks=(Network(dynamic_ports=(Port(label="db"),)),))
    job = a_job(a_task(), a_task("cache", resources=own))
    ports = (AllocatedPort(label="db", value=21000, host_ip="10.0.0.5"),)
    assert env_of(job, ports=ports).variables["NOMAD_ADDR_cache_db"] == "10.0.0.5:21000"
    assert "NOMAD_ADDR_db" not in env_of(job, ports=ports).variables
    assert env_of(job, task=1, ports=ports).variables["NOMAD_ADDR_db"] == "10.0.0.5:21000"


def test_meta_is_there_as_written_and_in_capitals_the_nearest_winning() -> None:
    job = a_job(a_task(meta={"color": "red"}), meta={"color": "blue", "my-key": "x"})
    found = env_of(job).variables
    assert (found["NOMAD_META_color"], found["NOMAD_META_COLOR"]) == ("red", "red")
    assert (found["NOMAD_META_my_key"], found["NOMAD_META_MY_KEY"]) == ("x", "x")


def test_env_is_interpolated_and_config_sees_env_and_node_and_what_nobody_knows_stays() -> None:
    job = a_job(
        a_task(env={"HOST": "${attr.unique.hostname}", "AT": "${NOMAD_ALLOC_INDEX}", "X": "${nobody}"})
    )
    env = env_of(job, extra={"TOKEN": "t"})
    assert [env.variables[name] for name in ("HOST", "AT", "X", "TOKEN")] == [
        "worker.example",
        "3",
        "${nobody}",
        "t",
    ]
    assert env.values["meta.rack"] == "r1"
    assert env.values["node.class"] == "big"


def test_what_hooks_found_wins_over_the_job_file() -> None:
    job = a_job(a_task(env={"A": "job"}))
    assert env_of(job, extra={"A": "hook"}).variables["A"] == "hook"


def test_no_task_inherits_the_agents_secrets() -> None:
    environ = {
        "PATH": "/bin",
        "CONSUL_HTTP_TOKEN": "s",
        "CONSUL_HTTP_TOKEN_FILE": "s",
        "VAULT_TOKEN": "s",
        "NOMAD_TOKEN": "s",
        "CONSUL_HTTP_ADDR": "127.0.0.1:8500",
    }
    assert inherited(environ) == {"PATH": "/bin", "CONSUL_HTTP_ADDR": "127.0.0.1:8500"}
    assert SECRET_VARIABLES.match("CONSUL_TOKEN")


def test_an_indexed_completion_is_told_its_index() -> None:
    indexed = a_job(completion=Completion(completions=9, restart_policy="never", indexed=True))
    variables = env_of(indexed).variables
    assert (variables["DROVER_COMPLETION_INDEX"], variables["NOMAD_ALLOC_INDEX"]) == ("3", "3")
    plain = a_job(completion=Completion(completions=9, restart_policy="never"))
    assert "DROVER_COMPLETION_INDEX" not in env_of(plain).variables
