import pytest

from agent.decide import events
from agent.decide.status import client_status
from agent.drivers.base import ExitResult
from checks.restart import DELAYED, WITHIN_POLICY
from model.alloc import ClientStatus, TaskEvent, TaskState, TaskStatus

AT = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("event", "kind", "text"),
    [
        (events.received(AT), "Received", "Task received by client"),
        (events.task_setup(AT), "Task Setup", "Building Task Directory"),
        (events.started(AT), "Started", "Task started by client"),
        (events.terminated(AT, ExitResult()), "Terminated", "Exit Code: 0"),
        (events.terminated(AT, ExitResult(code=137, signal=9)), "Terminated", "Exit Code: 137, Signal: 9"),
        (
            events.terminated(AT, ExitResult(code=137, signal=9, oom_killed=True)),
            "Terminated",
            'Exit Code: 137, Signal: 9, Exit Message: "OOM Killed"',
        ),
        (events.restarting(AT, 15.0, WITHIN_POLICY), "Restarting", "Task restarting in 15s"),
        (events.restarting(AT, 2.5, DELAYED), "Restarting", f"{DELAYED} - Task restarting in 2.5s"),
        (events.killing(AT, 5_000_000_000), "Killing", "Sent interrupt. Waiting 5s before force killing"),
        (events.killed(AT), "Killed", "Task successfully killed"),
        (events.restart_signaled(AT, ""), "Restart Signaled", "Task signaled to restart"),
        (events.driver_failure(AT, "no such file"), "Driver Failure", "no such file"),
        (events.signaling(AT, "SIGHUP"), "Signaling", "Task being sent signal SIGHUP"),
    ],
    ids=lambda value: value.type if isinstance(value, TaskEvent) else "",
)
def test_events_read_as_nomads(event: TaskEvent, kind: str, text: str) -> None:
    assert (event.type, event.display_message, event.time) == (kind, text, AT)


PENDING = TaskState()
RUNNING = TaskState(state=TaskStatus.RUNNING)
DONE = TaskState(state=TaskStatus.DEAD)
FAILED = TaskState(state=TaskStatus.DEAD, failed=True)


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ([PENDING], ClientStatus.PENDING),
        ([PENDING, RUNNING], ClientStatus.RUNNING),
        ([RUNNING, DONE], ClientStatus.RUNNING),
        ([RUNNING, FAILED], ClientStatus.RUNNING),
        ([PENDING, FAILED], ClientStatus.RUNNING),
        ([PENDING, DONE], ClientStatus.PENDING),
        ([DONE, DONE], ClientStatus.COMPLETE),
        ([DONE, FAILED], ClientStatus.FAILED),
        ([], ClientStatus.COMPLETE),
    ],
)
def test_an_alloc_is_terminal_only_when_nothing_of_it_can_run_any_more(
    states: list[TaskState], status: ClientStatus
) -> None:
    assert client_status(states)[0] is status
