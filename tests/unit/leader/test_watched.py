"""Under which names does Consul show how periodic jobs do?"""

import itertools

import pytest

from leader.decide.watch import Watch
from leader.watched import _outsider, node_name, service_name
from model.job import DEFAULT_NAMESPACE, JobId, Namespace
from model.snapshot import JobKey

ROOT = "drover"


def key(job: str, namespace: str = DEFAULT_NAMESPACE) -> JobKey:
    return Namespace(namespace), JobId(job)


def test_a_service_is_named_as_its_job() -> None:
    assert service_name(key("backup"), ROOT) == "drover-periodic-backup"
    assert service_name(key("c", "a-b"), ROOT) == "drover-periodic-a-b--c"
    assert service_name(key("Weekly-Report-2"), ROOT) == "drover-periodic-Weekly-Report-2"


def test_a_dev_agents_services_are_not_productions() -> None:
    assert service_name(key("backup"), "drover-dev/4d1c") == "drover-dev-periodic-backup"
    assert (node_name("drover-dev/4d1c"), node_name(ROOT)) == ("drover-dev-4d1c-periodic", "drover-periodic")


ALIKE = [
    key("a-b"), key("a.b"), key("a/b"), key("a_b"), key("a--b"), key("b", "a"), key("b", "a-"), key("-b", "a"),
    key("c", "a-b"), key("b-c", "a"), key("a-b-c"), key("дамп"), key("数据"), key("é"), key("-"), key("x" * 400), key("x" * 401),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [*itertools.combinations(ALIKE, 2)])
def test_no_two_jobs_share_a_service(one: JobKey, other: JobKey) -> None:
    shown = [_outsider(each, Watch(status="passing", output=""), 1, ROOT) for each in (one, other)]
    assert shown[0].id.lower() != shown[1].id.lower()
    assert shown[0].service != shown[1].service


def test_jobs_that_differ_in_capitals_only_have_ids_of_their_own() -> None:
    shown = [_outsider(key(job), Watch(status="passing", output=""), 1, ROOT).id.lower() for job in ("Backup", "backup")]
    assert len(set(shown)) == 2


@pytest.mark.parametrize("each", ALIKE)
def test_what_is_written_is_what_consul_takes(each: JobKey) -> None:
    long = key(each[1] * 50, each[0])
    for one in (each, long):
        shown = _outsider(one, Watch(status="passing", output=""), 1, ROOT)
        assert all(len(value.encode()) <= 512 for value in shown.meta.values())
        assert shown.service.replace("-", "").isalnum()
        assert shown.service.isascii()
