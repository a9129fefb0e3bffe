"""The completion block: read, filled in, refused with all its faults at once, and compared."""

import pytest

import jobspec
from jobspec import JobspecError
from jobspec.diff import job_diff
from model.job import Completion, Job, TaskGroup
from model.wire import decode, encode
from tests.unit.jobspec.builders import faults_of, job_text, read

PATH = "job.web.group.cache.completion"


def text(block: str, group: str = "", job: str = 'type = "batch"') -> bytes:
    return job_text(job=job, group=f"{group}\ncompletion {{\n{block}\n}}")


def group_of(block: str, group: str = "") -> TaskGroup:
    return read(text(block, group)).task_groups[0]


def test_what_is_not_said_has_a_default() -> None:
    assert group_of('restart_policy = "never"').completion == Completion(
        completions=None, backoff_limit=6, backoff_base=10 * 10**9, backoff_max=360 * 10**9, active_deadline=None,
        restart_policy="never", indexed=False, ttl_after_finished=None,
    )  # fmt: skip


def test_everything_that_can_be_said() -> None:
    block = """
      completions = 200
      parallelism = 20
      backoff_limit = 3
      backoff_base = "1s"
      backoff_max = "1m"
      active_deadline = "2h"
      restart_policy = "on_failure"
      indexed = true
      ttl_after_finished = "24h"
    """
    group = group_of(block)
    assert group.completion == Completion(
        completions=200, backoff_limit=3, backoff_base=10**9, backoff_max=60 * 10**9, active_deadline=7200 * 10**9,
        restart_policy="on_failure", indexed=True, ttl_after_finished=86400 * 10**9,
    )  # fmt: skip
    assert (group.count, group.places) == (20, 200)


@pytest.mark.parametrize(
    ("group", "block", "count"),
    [("count = 4", "", 4), ("", "parallelism = 4", 4), ("count = 4", "parallelism = 4", 4), ("", "", 1), ("count = 0", "", 0)],
)
def test_parallelism_is_the_count_by_another_name(group: str, block: str, count: int) -> None:
    assert group_of(f'restart_policy = "never"\n{block}', group).count == count


FAULTS = {
    'completions = 1': ("restart_policy", "is needed: on_failure"),
    'restart_policy = "always"': ("restart_policy", "what is always started again never completes"),
    'restart_policy = "sometimes"': ("restart_policy", 'must be on_failure or never, found "sometimes"'),
    'restart_policy = "never"\nparallelism = 3': ("parallelism", "3 contradicts count = 2"),
    'restart_policy = "never"\ncompletions = 0': ("completions", "must be at least 1, found 0"),
    'restart_policy = "never"\nindexed = true': ("indexed", "needs completions"),
    'restart_policy = "never"\nbackoff_limit = -1': ("backoff_limit", "must not be negative, found -1"),
    'restart_policy = "never"\nbackoff_base = "10ms"': ("backoff_base", "must be at least 1s, found 10ms"),
    'restart_policy = "never"\nbackoff_max = "5s"': ("backoff_max", "(5s) is less than backoff_base (10s)"),
    'restart_policy = "never"\nactive_deadline = "0s"': ("active_deadline", "must be greater than zero"),
    'restart_policy = "never"\nttl_after_finished = "-1s"': ("ttl_after_finished", "must not be negative"),
}


@pytest.mark.parametrize("block", FAULTS)
def test_what_makes_no_sense_is_refused_where_it_stands(block: str) -> None:
    path, words = FAULTS[block]
    (fault,) = faults_of(text(block, "count = 2"))
    assert (fault.path, words in fault.message) == (f"{PATH}.{path}", True), fault
    assert fault.where.startswith("web.hcl:")


def test_all_faults_are_told_at_once() -> None:
    found = faults_of(text("completions = 0\nbackoff_limit = -1", job='type = "service"'))
    assert {fault.path.removeprefix(PATH) for fault in found} == {"", ".restart_policy", ".completions", ".backoff_limit"}


@pytest.mark.parametrize("kind", ["service", "system", "sysbatch"])
def test_only_a_batch_job_comes_to_an_end(kind: str) -> None:
    (fault,) = faults_of(text('restart_policy = "never"', job=f'type = "{kind}"'))
    assert fault.message == f"only a batch job comes to an end by itself, this is a {kind} job"


def test_more_completions_than_instances_a_job_may_have_are_refused() -> None:
    (fault,) = faults_of(text('restart_policy = "never"\ncompletions = 50001'))
    assert (fault.path, fault.message) == ("job.web", "asks for 50001 instances in all (at most 50000)")


def test_the_strict_reading_refuses_the_block_as_a_whole() -> None:
    document = jobspec.parse(text('restart_policy = "never"\ncompletions = 3'), file="web.hcl")
    with pytest.raises(JobspecError) as caught:
        jobspec.canonicalize(document, is_strict=True)
    (fault,) = caught.value.faults
    assert (fault.path, fault.message) == (PATH, "only drover knows this (refused by -nomad-strict)")


def test_as_json_it_is_read_again_as_it_was_written() -> None:
    job = read(text('restart_policy = "on_failure"\nparallelism = 2\nttl_after_finished = "1h"'))
    document = decode(encode(job), dict)
    assert document["TaskGroups"][0]["Completion"]["TTLAfterFinished"] == 3600 * 10**9
    assert jobspec.canonicalize(document) == job
    assert decode(encode(job), Job) == job


def test_a_plan_tells_what_of_it_changes() -> None:
    old, new = (read(text(f'restart_policy = "never"\nbackoff_limit = {limit}')) for limit in (6, 9))
    (group,) = job_diff(old, new)["TaskGroups"]
    (block,) = group["Objects"]
    assert (block["Name"], block["Type"]) == ("Completion", "Edited")
    assert [(f["Name"], f["Old"], f["New"]) for f in block["Fields"] if f["Type"] == "Edited"] == [("BackoffLimit", "6", "9")]
