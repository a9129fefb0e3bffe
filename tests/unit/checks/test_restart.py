import itertools
import random

import pytest

from checks.restart import (
    DELAYED,
    NEVER,
    NONE_ALLOWED,
    UNRECOVERABLE,
    Again,
    Cause,
    Finished,
    GivenUp,
    History,
    Verdict,
    after,
    after_run,
    go_duration,
    runs_for_ever,
)
from model.job import Completion, JobType, Lifecycle, RestartPolicy
from model.wire import nanoseconds

FAILING = (Cause.FAILED, Cause.START_FAILED, Cause.UNHEALTHY)


class NoJitter(random.Random):
    def random(self) -> float:
        return 0.0


class FullJitter(random.Random):
    def random(self) -> float:
        return 1.0


def policy(
    attempts: int = 2, interval_s: float = 1800, delay_s: float = 15, mode: str = "fail"
) -> RestartPolicy:
    return RestartPolicy(
        attempts=attempts, interval=nanoseconds(interval_s), delay=nanoseconds(delay_s), mode=mode
    )


def verdicts(
    rule: RestartPolicy, causes: list[tuple[float, Cause]], *, for_ever: bool = True
) -> list[Verdict]:
    history, found = History(), []
    for at_s, cause in causes:
        verdict, history = after(cause, rule, history, 1e9 + at_s, NoJitter(), for_ever=for_ever)
        found.append(verdict)
    return found


@pytest.mark.parametrize("cause", FAILING)
def test_attempts_in_the_interval_are_allowed_and_the_next_one_gives_up(cause: Cause) -> None:
    *allowed, last = verdicts(policy(), [(0, cause), (16, cause), (32, cause)])
    assert all(isinstance(verdict, Again) and verdict.delay_s == 15 for verdict in allowed)
    assert last == GivenUp(reason='Exceeded allowed attempts 2 in interval 30m0s and mode is "fail"')


def test_a_new_interval_starts_the_count_anew() -> None:
    found = verdicts(policy(attempts=1, interval_s=60), [(0, Cause.FAILED), (61, Cause.FAILED)])
    assert all(isinstance(verdict, Again) for verdict in found)


def test_the_interval_starts_with_its_first_failure_and_does_not_slide() -> None:
    times = [(0.0, Cause.FAILED), (50.0, Cause.FAILED), (61.0, Cause.FAILED), (70.0, Cause.FAILED)]
    kinds = [type(verdict) for verdict in verdicts(policy(attempts=2, interval_s=60), times)]
    assert kinds == [Again, Again, Again, Again]


def test_mode_delay_waits_for_the_end_of_the_interval() -> None:
    found = verdicts(policy(attempts=1, interval_s=60, mode="delay"), [(0, Cause.FAILED), (20, Cause.FAILED)])
    assert found[1] == Again(delay_s=40.0, reason=DELAYED)


@pytest.mark.parametrize("for_ever", [True, False])
def test_no_attempts_means_no_restart(for_ever: bool) -> None:
    assert verdicts(policy(attempts=0), [(0, Cause.FAILED)], for_ever=for_ever) == [
        GivenUp(reason=NONE_ALLOWED)
    ]


def test_a_batch_task_that_succeeded_is_finished_whatever_the_policy() -> None:
    for attempts, mode in itertools.product((0, 1, 5), ("fail", "delay")):
        rule = policy(attempts=attempts, mode=mode)
        assert verdicts(rule, [(0, Cause.SUCCEEDED)], for_ever=False) == [Finished()]


def test_a_service_that_exits_with_0_is_restarted_and_counted() -> None:
    found = verdicts(policy(attempts=1), [(0, Cause.SUCCEEDED), (1, Cause.SUCCEEDED)])
    assert [type(verdict) for verdict in found] == [Again, GivenUp]


def test_a_restart_that_was_asked_for_is_at_once_and_never_counted() -> None:
    found = verdicts(policy(attempts=1), [(0, Cause.ASKED)] * 9 + [(1, Cause.FAILED)])
    assert found[:9] == [Again(delay_s=0.0)] * 9
    assert isinstance(found[9], Again)


def test_a_task_that_cannot_run_is_given_up_at_once() -> None:
    assert verdicts(policy(attempts=9), [(0, Cause.REFUSED)]) == [GivenUp(reason=UNRECOVERABLE)]


@pytest.mark.parametrize(("rng", "delay_s"), [(NoJitter(), 15.0), (FullJitter(), 18.75)])
def test_the_delay_is_spread_by_at_most_a_quarter(rng: random.Random, delay_s: float) -> None:
    verdict, _ = after(Cause.FAILED, policy(), History(), 1e9, rng, for_ever=True)
    assert isinstance(verdict, Again)
    assert verdict.delay_s == delay_s


def test_a_clock_set_back_starts_a_new_interval_instead_of_blocking_for_ever() -> None:
    history = History(count=2, since_s=2e9)
    verdict, history = after(Cause.FAILED, policy(), history, 1e9, NoJitter(), for_ever=True)
    assert isinstance(verdict, Again)
    assert history == History(count=1, since_s=1e9)


@pytest.mark.parametrize("mode", ["fail", "delay"])
@pytest.mark.parametrize("attempts", range(4))
def test_no_world_of_four_ends_restarts_more_often_than_allowed(attempts: int, mode: str) -> None:
    for causes, for_ever in itertools.product(itertools.product(Cause, repeat=4), (True, False)):
        world = [(float(at_s), cause) for at_s, cause in enumerate(causes)]
        found = verdicts(policy(attempts, mode=mode), world, for_ever=for_ever)
        counted = [
            verdict
            for verdict, cause in zip(found, causes, strict=True)
            if isinstance(verdict, Again) and cause is not Cause.ASKED and verdict.reason != DELAYED
        ]
        assert len(counted) <= attempts, world
        assert mode == "delay" or all(not isinstance(v, Again) or v.reason != DELAYED for v in found), world


@pytest.mark.parametrize(
    ("job_type", "lifecycle", "expected"),
    [
        (JobType.SERVICE, None, True),
        (JobType.SYSTEM, None, True),
        (JobType.BATCH, None, False),
        (JobType.SYSBATCH, None, False),
        (JobType.SERVICE, Lifecycle(hook="prestart"), False),
        (JobType.SERVICE, Lifecycle(hook="prestart", sidecar=True), True),
        (JobType.BATCH, Lifecycle(hook="prestart", sidecar=True), True),
        (JobType.SERVICE, Lifecycle(hook="poststop"), False),
        (JobType.SERVICE, Lifecycle(hook="poststop", sidecar=True), False),
    ],
)
def test_only_services_and_sidecars_run_for_ever(
    job_type: JobType, lifecycle: Lifecycle | None, expected: bool
) -> None:
    assert runs_for_ever(job_type, lifecycle) is expected


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500_000, "1.5ms"),
        (15_000_000_000, "15s"),
        (16_250_000_000, "16.25s"),
        (1_800_000_000_000, "30m0s"),
        (86_400_000_000_000, "24h0m0s"),
        (-1_500_000_000, "-1.5s"),
    ],
)
def test_durations_read_as_go_writes_them(ns: int, text: str) -> None:
    assert go_duration(ns) == text


def test_a_run_counts_its_failures_and_nothing_else() -> None:
    rule, history = Completion(restart_policy="on_failure"), History()
    found = []
    for cause in (Cause.FAILED, Cause.ASKED, Cause.START_FAILED, Cause.UNHEALTHY, Cause.SUCCEEDED, Cause.REFUSED):
        verdict, history = after_run(cause, rule, history, 1e9)
        found.append((verdict.delay_s if isinstance(verdict, Again) else type(verdict), history.count))
    assert found == [(10.0, 1), (0.0, 1), (20.0, 2), (40.0, 3), (Finished, 3), (GivenUp, 3)]


def test_with_never_a_failed_run_is_not_started_again() -> None:
    verdict, history = after_run(Cause.FAILED, Completion(restart_policy="never"), History(), 1e9)
    assert (verdict, history) == (GivenUp(reason=NEVER), History())
