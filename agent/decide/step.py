"""What is the one next step of a task?

    Sight (what the task runner sees) + Wish (what is wanted of it) -> Step

Level-triggered: the runner asks again whenever anything changed and after every step. The table of
rules stands in next_step(); the rule above all others is that a running task is stopped only by a wish
that says so, never by the absence of one:

    phase      stop wished     otherwise
    WAITING    Finish          Hold | GiveUp | Start        never started, or not found again
    RUNNING    Stop            Rest
    EXITED     Finish          Judge                        ask the restart policy
    BACKOFF    Finish          Hold until due | GiveUp | Start
    DEAD       -               Done
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from model.alloc import Verdict


class Phase(StrEnum):
    WAITING = "waiting"  # nothing of it runs
    RUNNING = "running"
    EXITED = "exited"  # it ended, and nobody has yet judged what follows
    BACKOFF = "backoff"  # to be started again at a given time
    DEAD = "dead"  # ended for good


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One task as its runner sees it.

    is_lost_trace: the journal says that it ran, and it was not found: rebooted, or gone.
    is_due: a backoff is over. may_start: what lifecycle orders before it has happened. siblings_run: any other task
    of the alloc does.
    """

    phase: Phase
    is_lost_trace: bool = False
    is_due: bool = True
    may_start: bool = True
    siblings_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is wanted of a task.

    is_read: desired was read since the agent started; is_present: it named the alloc then. stop: why the task
    is to end (desired says stop, a sibling failed, ...), None to let it run. restart: a running task
    is to be ended and judged by the restart policy.
    """

    is_read: bool
    is_present: bool = True
    verdict: Verdict = Verdict.NONE
    stop: str | None = None
    restart: str | None = None


class Step(StrEnum):
    START = "start"
    STOP = "stop"  # end it for good
    BOUNCE = "bounce"  # end it, to be started again
    JUDGE = "judge"  # let the restart policy say what follows
    FINISH = "finish"  # dead, by wish
    GIVE_UP = "give up"  # dead, and it never ended here: lost
    REST = "rest"  # it runs; wait for a change
    HOLD = "hold"  # it does not run, and must not yet; wait for a change
    DONE = "done"


def next_step(sight: Sight, wish: Wish) -> Step:
    match sight.phase:
        case Phase.DEAD:
            return Step.DONE
        case Phase.RUNNING:
            if wish.stop is not None:
                return Step.STOP
            return Step.REST if wish.restart is None else Step.BOUNCE
        case Phase.EXITED:
            return Step.JUDGE if wish.stop is None else Step.FINISH
        case Phase.WAITING | Phase.BACKOFF:
            return _start_or_not(sight, wish)
    assert_never(sight.phase)


def _start_or_not(sight: Sight, wish: Wish) -> Step:
    """Nothing of the task runs: starting it twice in a cluster begins here, so every doubt says Hold."""
    if wish.stop is not None:
        return Step.FINISH
    if wish.verdict is not Verdict.NONE:
        return Step.GIVE_UP
    if wish.is_read and not wish.is_present:
        # An orphan is kept, never started again: most likely the leader deleted it as ended. What still runs of it
        # may be adopted, and then all of it is wanted again.
        return Step.HOLD if sight.siblings_run and not sight.is_lost_trace else Step.GIVE_UP
    if sight.is_lost_trace and not wish.is_read:
        return Step.HOLD
    return Step.START if sight.is_due and sight.may_start else Step.HOLD
