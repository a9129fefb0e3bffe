"""Which driver config is refused at submit, and is what is taken known to the driver?"""

from typing import Any

import pytest

from agent.drivers import docker_config, raw_exec
from jobspec.driver_config import DRIVERS, config_faults
from jobspec.signals import NAMES, signal_fault
from tests.unit.jobspec.builders import faults_of, job_text, messages_of

IMAGE = {"image": "redis:7"}


def faults(driver: str, config: dict[str, Any]) -> list[str]:
    return [str(fault) for fault in config_faults(driver, config, "config")]


REFUSED: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "misspelt": ("raw_exec", {"command": "x", "arg": []}, ['config.arg: the raw_exec driver has no option "arg" (did you mean "args"?)']),
    "misspelt and needed": ("raw_exec", {"commnd": "x"}, ['config: the raw_exec driver needs "command"', 'config.commnd: the raw_exec driver has no option "commnd" (did you mean "command"?)']),
    "unknown": ("docker", {**IMAGE, "zzz": 1}, ['config.zzz: the docker driver has no option "zzz"']),
    "empty": ("docker", {"image": ""}, ['config: the docker driver needs "image"']),
    "one of two": ("java", {}, ['config: the java driver needs "jar_path" or "class"']),
    "list for a text": ("exec", {"command": ["x"]}, ["config.command: must be a string"]),
    "text for a list": ("docker", {**IMAGE, "ports": "http"}, ["config.ports: must be a list of strings"]),
    "list in a list": ("docker", {**IMAGE, "args": [["a"]]}, ["config.args: must be a list of strings"]),
    "flag": ("docker", {**IMAGE, "privileged": "perhaps"}, ["config.privileged: must be true or false"]),
    "number": ("docker", {**IMAGE, "shm_size": "64m"}, ["config.shm_size: must be a whole number"]),
    "fraction": ("docker", {**IMAGE, "shm_size": 1.5}, ["config.shm_size: must be a whole number"]),
    "flag for a number": ("docker", {**IMAGE, "shm_size": True}, ["config.shm_size: must be a whole number"]),
    "text for a map": ("docker", {**IMAGE, "labels": "a=b"}, ["config.labels: must be a block of strings"]),
    "list in a map": ("docker", {**IMAGE, "labels": [{"a": ["b"]}]}, ["config.labels: must be a block of strings"]),
    "text as a port": ("docker", {**IMAGE, "port_map": [{"http": "x"}]}, ["config.port_map: must be a block of numbers"]),
    "two of one": ("docker", {**IMAGE, "auth": [{}, {}]}, ["config.auth: must be a block"]),
    "inside a block": ("docker", {**IMAGE, "auth": [{"user_name": "a"}]}, ['config.auth.user_name: auth has no option "user_name" (did you mean "username"?)']),
    "inside the second": ("docker", {**IMAGE, "mount": [{}, {"read_only": True}]}, ['config.mount[1].read_only: mount has no option "read_only" (did you mean "readonly"?)']),
    "two below": ("docker", {**IMAGE, "mounts": [{"tmpfs_options": [{"size": "x"}]}]}, ["config.mounts[0].tmpfs_options.size: must be a whole number"]),
    "not here yet": ("docker", {**IMAGE, "load": "a.tar"}, ["config.load: load is not supported by drover yet (load the image on the nodes, or name a registry's)"]),
}  # fmt: skip


@pytest.mark.parametrize(("driver", "config", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_config_that_no_driver_takes_is_refused(
    driver: str, config: dict[str, Any], expected: list[str]
) -> None:
    assert faults(driver, config) == expected


TAKEN: dict[str, tuple[str, dict[str, Any]]] = {
    "what Nomad converts": ("docker", {**IMAGE, "privileged": "true", "shm_size": "512", "args": [1, 2.5, True], "command": 5}),
    "references": ("docker", {"image": "${meta.image}", "privileged": "${meta.p}", "shm_size": "${meta.s}", "port_map": [{"a": "${NOMAD_PORT_a}"}]}),
    "nothing": ("docker", {**IMAGE, "args": None, "labels": [], "mount": [], "auth": {}}),
    "blocks of either form": ("docker", {**IMAGE, "labels": {"a": 1}, "sysctl": [{"a": "1"}], "auth": {"username": "x"}}),
    "an entrypoint of one word": ("docker", {**IMAGE, "entrypoint": "/run"}),
    "a class of java": ("java", {"class": "A", "jvm_options": ["-Xmx1g"]}),
    "qemu": ("qemu", {"image_path": "a.img", "graceful_shutdown": True, "port_map": [{"ssh": 22}]}),
    "a driver nobody knows": ("podman", {"anything": {"at": ["all"]}}),
}  # fmt: skip


@pytest.mark.parametrize(("driver", "config"), TAKEN.values(), ids=TAKEN)
def test_a_config_that_nomad_takes_is_taken(driver: str, config: dict[str, Any]) -> None:
    assert faults(driver, config) == []


def test_what_is_taken_at_submit_is_what_the_drivers_know() -> None:
    assert set(docker_config.options()) == DRIVERS["docker"].supported
    for name in DRIVERS["raw_exec"].supported - {"args", "command"}:
        raw_exec.parse_config("raw_exec", {"command": "x", name: "y"})
    for name in DRIVERS["exec"].supported - {"args", "command"}:
        raw_exec.parse_config("exec", {"command": "x", name: "y"})


def test_a_fault_names_the_line_of_the_option() -> None:
    text = job_text(config='command = "x"\n                work_dri = "/"')
    (message,) = messages_of(text)
    assert message.startswith("web.hcl:11:17: job.web.group.cache.task.redis.config.work_dri: the raw_exec driver has")


@pytest.mark.parametrize("name", ["SIGFOO", "SIGTREM", "9", "SIGRTMIN+3", "TERM "])
def test_a_signal_that_no_process_can_be_sent_is_refused(name: str) -> None:
    (fault,) = faults_of(job_text(task=f'kill_signal = "{name}"'))
    assert fault.path == "job.web.group.cache.task.redis.kill_signal"
    assert fault.message.startswith(f'there is no signal "{name}"')


def test_the_signal_that_was_meant_is_named() -> None:
    assert signal_fault("SIGTREM", "docker") == 'there is no signal "SIGTREM" (did you mean "SIGTERM"?)'


@pytest.mark.parametrize("name", [*NAMES, "TERM", "sigint", "${meta.signal}", ""])
def test_every_signal_of_linux_is_taken_under_either_name(name: str) -> None:
    assert signal_fault(name, "raw_exec") == ""


@pytest.mark.parametrize("name", ["9", "SIGRTMIN+3", "RTMAX-1"])
def test_an_engine_takes_what_is_its_own(name: str) -> None:
    assert signal_fault(name, "docker") == ""
