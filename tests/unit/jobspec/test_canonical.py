"""Which defaults does a job get? Those of Nomad."""

import json

import pytest

import jobspec
from model.errors import JobspecError
from model.job import (
    CheckRestart,
    EphemeralDisk,
    Job,
    LogConfig,
    MigrateStrategy,
    Network,
    Port,
    ReschedulePolicy,
    Resources,
    RestartPolicy,
    UpdateStrategy,
)
from model.wire import encode
from tests.unit.jobspec.builders import job_text

S = 1_000_000_000


def canonical(text: bytes) -> Job:
    return jobspec.canonicalize(jobspec.parse(text, file="web.hcl"))


def test_a_service_job_gets_every_default() -> None:
    job = canonical(job_text())
    assert (job.id, job.name, job.namespace, job.region, job.type, job.priority) == (
        "web",
        "web",
        "default",
        "global",
        "service",
        50,
    )
    group = job.task_groups[0]
    assert group.count == 1
    assert group.restart_policy == RestartPolicy(attempts=2, interval=1800 * S, delay=15 * S, mode="fail")
    assert group.reschedule_policy == ReschedulePolicy(
        attempts=0, interval=0, delay=30 * S, delay_function="exponential", max_delay=3600 * S, unlimited=True
    )
    assert group.update == UpdateStrategy() == job.update
    assert group.migrate == MigrateStrategy()
    assert group.ephemeral_disk == EphemeralDisk(size_mb=300)
    task = group.tasks[0]
    assert task.kill_timeout == 5 * S
    assert task.log_config == LogConfig(max_files=10, max_file_size_mb=10)
    assert task.resources == Resources(cpu=100, memory_mb=300)
    assert task.restart_policy == group.restart_policy


def test_a_batch_job_restarts_and_reschedules_otherwise_and_has_no_update() -> None:
    job = canonical(job_text(job='type = "batch"'))
    group = job.task_groups[0]
    assert group.restart_policy == RestartPolicy(attempts=3, interval=86400 * S, delay=15 * S, mode="fail")
    assert group.reschedule_policy == ReschedulePolicy(
        attempts=1, interval=86400 * S, delay=5 * S, delay_function="constant", max_delay=0, unlimited=False
    )
    assert (job.update, group.update, group.migrate) == (None, None, None)


@pytest.mark.parametrize("kind", ["system", "sysbatch"])
def test_a_system_job_is_never_rescheduled(kind: str) -> None:
    group = canonical(job_text(job=f'type = "{kind}"')).task_groups[0]
    assert (group.reschedule_policy, group.migrate) == (None, None)


def test_a_group_takes_from_the_job_what_it_does_not_set_itself() -> None:
    job = """
      update {
        max_parallel = 3
        canary       = 1
      }
      reschedule { attempts = 5 }
      migrate { max_parallel = 4 }
    """
    group = canonical(job_text(job=job, group="update { canary = 2 }")).task_groups[0]
    assert group.update == UpdateStrategy(max_parallel=3, canary=2)
    assert group.reschedule_policy is not None
    assert group.reschedule_policy.attempts == 5
    assert group.migrate == MigrateStrategy(max_parallel=4)


def test_a_task_takes_the_groups_restart_policy_where_it_sets_nothing() -> None:
    group = 'restart {\n attempts = 7\n delay = "1s"\n}'
    task = canonical(job_text(group=group, task='restart { delay = "2s" }')).task_groups[0].tasks[0]
    assert task.restart_policy == RestartPolicy(attempts=7, delay=2 * S)


def test_a_network_is_the_hosts_unless_it_says_otherwise() -> None:
    group = 'network {\n port "a" { static = 80 }\n port "b" {}\n}'
    assert canonical(job_text(group=group)).task_groups[0].networks == (
        Network(
            mode="host",
            reserved_ports=(Port(label="a", value=80, host_network="default"),),
            dynamic_ports=(Port(label="b", host_network="default"),),
        ),
    )


def test_ports_in_a_tasks_resources_stay_there() -> None:
    task = canonical(job_text(task='resources {\n network {\n port "a" {}\n}\n}')).task_groups[0].tasks[0]
    assert task.resources.networks == (Network(dynamic_ports=(Port(label="a"),)),)


def test_services_and_checks_get_names() -> None:
    group = canonical(
        job_text(
            group='service {\n check {}\n}\nservice { name = "${JOB}-${TASKGROUP}-${NOMAD_DC}" }',
            task='service {}\nservice { name = "${BASE}-${TASK}" }',
        )
    ).task_groups[0]
    assert [service.name for service in group.services] == ["web-cache", "web-cache-${NOMAD_DC}"]
    assert [service.name for service in group.tasks[0].services] == [
        "web-cache-redis",
        "web-cache-redis-redis",
    ]
    assert group.services[0].checks[0].name == 'service: "web-cache" check'
    assert (group.services[0].task_name, group.tasks[0].services[0].task_name) == ("", "redis")


def test_a_check_takes_what_it_does_not_set_from_its_service() -> None:
    service = """service {
      on_update = "ignore"
      check_restart {
        limit = 3
        grace = "90s"
      }
      check {}
      check {
        on_update = "ignore_warnings"
        check_restart { limit = 5 }
      }
    }"""
    checks = canonical(job_text(group=service)).task_groups[0].services[0].checks
    assert [check.on_update for check in checks] == ["ignore", "ignore_warnings"]
    assert checks[0].check_restart == CheckRestart(limit=3, grace=90 * S)
    assert checks[1].check_restart == CheckRestart(limit=5, grace=90 * S)


def test_check_restart_waits_a_second_by_default() -> None:
    service = "service {\n check {\n check_restart { limit = 1 }\n}\n}"
    check = canonical(job_text(group=service)).task_groups[0].services[0].checks[0]
    assert check.check_restart == CheckRestart(limit=1, grace=1 * S)


def test_asking_for_cores_asks_for_no_mhz() -> None:
    task = canonical(job_text(task="resources { cores = 2 }")).task_groups[0].tasks[0]
    assert (task.resources.cpu, task.resources.cores) == (0, 2)


def test_a_canonical_job_is_its_own_canonical_form() -> None:
    job = canonical(job_text(group='network {\n port "a" {}\n}\nservice { port = "a" }'))
    document = json.loads(encode(job))
    assert jobspec.canonicalize(document) == job
    assert jobspec.canonicalize({"Job": document}) == job


def test_a_json_body_may_hold_nulls_duration_texts_odd_case_and_unknown_keys() -> None:
    body = {
        "id": "x",
        "Name": None,
        "Datacenters": ["dc1"],
        "Bogus": 1,
        "TaskGroups": [
            {
                "name": "g",
                "Count": 2.0,
                "ShutdownDelay": "5s",
                "Tasks": [None, {"Name": "t", "Driver": "raw_exec"}],
            }
        ],
    }
    job = jobspec.canonicalize(body)
    assert (job.id, job.name) == ("x", "x")
    group = job.task_groups[0]
    assert (group.name, group.count, group.shutdown_delay, len(group.tasks)) == ("g", 2, 5 * S, 1)


BODIES = {
    "no id": ({}, '"ID" is missing'),
    "wrong type": ({"ID": 5}, "expected a string, found a number"),
    "group that is none": ({"ID": "x", "TaskGroups": ["g"]}, "job.x.group[0]: expected an object, found a string"),
    "count in words": ({"ID": "x", "TaskGroups": [{"Name": "g", "Count": "2"}]}, "job.x.group.g.count: expected a whole number, found a string"),
    "half a count": ({"ID": "x", "TaskGroups": [{"Name": "g", "Count": 1.5}]}, "1.5 is no whole number"),
    "bad duration": ({"ID": "x", "TaskGroups": [{"Name": "g", "ShutdownDelay": "1hr"}]}, 'did you mean "1h"?'),
    "unknown type": ({"ID": "x", "Type": "serivce"}, 'unknown job type "serivce"'),
    "endless number": ({"ID": "x", "Priority": float("inf")}, "expected a whole number"),
    "wrapper around nothing": ({"Job": None}, '"ID" is missing'),
}  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES.keys())
def test_a_wrong_body_is_refused_with_its_path(body: dict, expected: str) -> None:
    with pytest.raises(JobspecError) as caught:
        jobspec.canonicalize(body)
    assert expected in str(caught.value)


def test_deep_driver_config_is_refused() -> None:
    config: object = 1
    for _ in range(500):
        config = {"a": config}
    body = {"ID": "x", "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "t", "Config": config}]}]}
    with pytest.raises(JobspecError, match="nested too deeply"):
        jobspec.canonicalize(body)


def test_faults_of_a_body_that_came_from_hcl_name_its_line() -> None:
    document = jobspec.parse(job_text(), file="web.hcl")
    document["TaskGroups"][0]["Count"] = "two"
    with pytest.raises(JobspecError) as caught:
        jobspec.canonicalize(document)
    assert caught.value.faults[0].where == "web.hcl:5:3"
