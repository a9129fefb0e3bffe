"""Every combination of what a runner sees and what is wanted: 2 x 2 x 2 x 2 x 5 phases x 2 x 2 x 3 x 2 x 2 worlds."""

import itertools

import pytest

from agent.decide.step import Phase, Sight, Step, Wish, next_step
from model.alloc import Verdict

SIGHTS = [
    Sight(phase=phase, is_lost_trace=lost, is_due=due, may_start=may, siblings_run=siblings)
    for phase, lost, due, may, siblings in itertools.product(Phase, *[(False, True)] * 4)
]
WISHES = [
    Wish(is_read=read, is_present=present, verdict=verdict, stop=stop, restart=restart)
    for read, present, verdict, stop, restart in itertools.product(
        (False, True), (False, True), Verdict, (None, ""), (None, "asked")
    )
]
WORLDS = list(itertools.product(SIGHTS, WISHES))


def test_a_running_task_is_ended_only_by_a_wish_that_says_so() -> None:
    for sight, wish in WORLDS:
        if sight.phase is Phase.RUNNING and wish.stop is None and wish.restart is None:
            assert next_step(sight, wish) is Step.REST, (sight, wish)


def test_nothing_starts_against_a_verdict_or_a_stop() -> None:
    for sight, wish in WORLDS:
        if next_step(sight, wish) is Step.START:
            assert wish.stop is None, (sight, wish)
            assert wish.verdict is Verdict.NONE, (sight, wish)


def test_what_was_not_found_again_starts_only_after_desired_was_read_and_named_it() -> None:
    for sight, wish in WORLDS:
        if sight.is_lost_trace and next_step(sight, wish) is Step.START:
            assert wish.is_read, (sight, wish)
            assert wish.is_present, (sight, wish)


def test_an_orphan_is_never_started_and_only_what_still_runs_keeps_the_rest_waiting() -> None:
    for sight, wish in WORLDS:
        if wish.is_read and not wish.is_present and sight.phase in (Phase.WAITING, Phase.BACKOFF):
            waits = sight.siblings_run and not sight.is_lost_trace and wish.verdict is Verdict.NONE
            ended = Step.FINISH if wish.stop is not None else Step.GIVE_UP
            assert next_step(sight, wish) is (Step.HOLD if waits and wish.stop is None else ended), (sight, wish)


def test_nothing_starts_before_it_is_due_and_its_turn_has_come() -> None:
    for sight, wish in WORLDS:
        if next_step(sight, wish) is Step.START:
            assert sight.is_due, (sight, wish)
            assert sight.may_start, (sight, wish)


def test_what_runs_is_never_started_again_and_what_is_dead_is_left_alone() -> None:
    for sight, wish in WORLDS:
        step = next_step(sight, wish)
        assert sight.phase not in (Phase.RUNNING, Phase.EXITED, Phase.DEAD) or step is not Step.START
        assert (sight.phase is Phase.DEAD) == (step is Step.DONE)


def test_only_what_does_not_run_is_given_up() -> None:
    for sight, wish in WORLDS:
        if next_step(sight, wish) is Step.GIVE_UP:
            assert sight.phase in (Phase.WAITING, Phase.BACKOFF), (sight, wish)


def test_a_task_that_ended_is_judged_by_its_policy_even_without_contact() -> None:
    assert next_step(Sight(phase=Phase.EXITED), Wish(is_read=False)) is Step.JUDGE
    assert next_step(Sight(phase=Phase.BACKOFF), Wish(is_read=False)) is Step.START


@pytest.mark.parametrize("verdict", [Verdict.LOST, Verdict.UNKNOWN])
def test_a_verdict_leaves_a_running_task_alone(verdict: Verdict) -> None:
    assert next_step(Sight(phase=Phase.RUNNING), Wish(is_read=True, verdict=verdict)) is Step.REST
