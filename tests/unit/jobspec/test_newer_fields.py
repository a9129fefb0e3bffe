"""What later Nomads added to the job specification: read, kept, and what drover does not have refused by name."""

from typing import Any

import pytest

import jobspec
from jobspec import JobspecError
from model.job import DisconnectStrategy, JobUi, JobUiLink, ServiceWeights
from tests.unit.jobspec.builders import job_text

SERVICE = "service {{\n name = \"s\"\n port = \"80\"\n {0}\n}}"


def task_of(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["TaskGroups"][0]["Tasks"][0]
    return found


def test_a_job_may_describe_itself_for_a_ui() -> None:
    text = job_text(job='ui {\n description = "d"\n link {\n label = "l"\n url = "https://x"\n }\n}\nnode_pool = "default"')
    job = jobspec.read_job(text, file="web.hcl")
    assert job.ui == JobUi(description="d", links=(JobUiLink(label="l", url="https://x"),))


def test_the_identity_without_a_name_is_the_tasks_own() -> None:
    text = job_text(task='identity {\n env = true\n}\nidentity {\n name = "aws"\n aud = ["a"]\n ttl = "1h"\n}')
    task = task_of(jobspec.parse(text, file="web.hcl"))
    assert (task["Identity"]["Env"], task["Identity"]["Name"]) == (True, "")
    assert [(i["Name"], i["Audience"], i["TTL"]) for i in task["Identities"]] == [("aws", ["a"], 3600 * 10**9)]


def test_disconnect_and_its_durations() -> None:
    text = job_text(group='disconnect {\n lost_after = "6h"\n reconcile = "keep_original"\n}')
    job = jobspec.canonicalize(jobspec.parse(text, file="web.hcl"))
    assert job.task_groups[0].disconnect == DisconnectStrategy(lost_after=6 * 3600 * 10**9, reconcile="keep_original")


def test_weights_not_given_are_one_and_addresses_are_kept() -> None:
    text = job_text(group=SERVICE.format('address = "10.9.9.9"\nweights {\n passing = 5\n}\ntagged_addresses {\n wan = "1.2.3.4"\n}'))
    (service,) = jobspec.read_job(text, file="web.hcl").task_groups[0].services
    assert service.weights == ServiceWeights(passing=5, warning=1)
    assert (service.address, service.tagged_addresses, service.provider) == ("10.9.9.9", {"wan": "1.2.3.4"}, "consul")


REFUSED = {
    "node_pool": ({"job": 'node_pool = "gpu"'}, "node_pool", "virtual datacenter"),
    "nomad services": ({"group": SERVICE.format('provider = "nomad"')}, "group.cache.service[0].provider", "Consul"),
    "identity": ({"task": "identity {\n}"}, "group.cache.task.redis.identity", "Vault"),
    "action": ({"task": 'action "a" {\n command = "x"\n}'}, "group.cache.task.redis.action", "alloc exec"),
    "schedule": ({"task": 'schedule {\n cron {\n start = "x"\n }\n}'}, "group.cache.task.redis.schedule", "periodic"),
    "secret": ({"task": 'secret "s" {\n provider = "x"\n}'}, "group.cache.task.redis.secret", "Vault"),
    "numa": ({"task": 'resources {\n numa {\n affinity = "require"\n }\n}'}, "group.cache.task.redis.resources.numa", "constraint"),
    "logs": ({"task": "logs {\n enabled = false\n}"}, "group.cache.task.redis.logs.disabled", "max_files"),
    "duration": ({"group": 'max_run_duration = "1h"'}, "group.cache.max_run_duration", "timeout"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_drover_does_not_have_is_refused_by_name_with_what_to_do_instead(name: str) -> None:
    parts, path, advice = REFUSED[name]
    with pytest.raises(JobspecError) as caught:
        jobspec.read_job(job_text(**parts), file="web.hcl")
    (fault,) = caught.value.faults
    assert fault.path.endswith(path)
    assert "not supported by drover" in fault.message
    assert advice in fault.message


OWN = {
    "spread[0].max_skew": {"job": 'spread {\n attribute = "${node.datacenter}"\n max_skew = 2\n}'},
    "scheduler_algorithm": {"job": 'scheduler_algorithm = "spread"'},
    "constraint[0].operator": {"job": 'constraint {\n attribute = "${node.class}"\n operator = "in"\n value = "a,b"\n}'},
}


@pytest.mark.parametrize("path", OWN)
def test_what_only_drover_knows_is_refused_by_the_strict_reading_alone(path: str) -> None:
    document = jobspec.parse(job_text(**OWN[path]), file="web.hcl")
    assert jobspec.validate(jobspec.canonicalize(document)) == ()
    for form in (document, dict(document)):
        with pytest.raises(JobspecError) as caught:
            jobspec.canonicalize(form, is_strict=True)
        (fault,) = caught.value.faults
        assert (fault.path, fault.message) == (f"job.web.{path}", "only drover knows this (refused by -nomad-strict)")
