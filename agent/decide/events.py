"""What does a task's history say, in Nomad's words?

One function for each kind of event; types and messages are Nomad's, for its CLI, the UIs and scripts
match on them. Times are passed in: nanoseconds since the epoch.
"""

from agent.drivers.base import ExitResult
from checks.restart import WITHIN_POLICY, go_duration
from model.alloc import TaskEvent
from model.wire import nanoseconds

RESTARTED_BY_USER = "User requested task to restart"


def _event(kind: str, at: int, message: str, **details: str) -> TaskEvent:
    return TaskEvent(type=kind, time=at, display_message=message, details=details)


def received(at: int) -> TaskEvent:
    return _event("Received", at, "Task received by client")


def task_setup(at: int) -> TaskEvent:
    return TaskEvent(
        type="Task Setup",
        time=at,
        message="Building Task Directory",
        display_message="Building Task Directory",
        details={"message": "Building Task Directory"},
    )


def setup_failure(at: int, error: str) -> TaskEvent:
    return _event("Setup Failure", at, error, setup_error=error)


def failed_validation(at: int, error: str) -> TaskEvent:
    return _event("Failed Validation", at, error, validation_error=error)


def driver_message(at: int, message: str) -> TaskEvent:
    """What a driver is busy with, as pulling an image."""
    return _event("Driver", at, message, driver_message=message)


def of_hook(at: int, kind: str, message: str) -> TaskEvent:
    """What a hook is busy with, or has found: `kind` is its type in Nomad's words ("Template")."""
    return TaskEvent(type=kind, time=at, message=message, display_message=message, details={"message": message})


def driver_failure(at: int, error: str) -> TaskEvent:
    return _event("Driver Failure", at, error, driver_error=error)


def started(at: int) -> TaskEvent:
    return _event("Started", at, "Task started by client")


def terminated(at: int, result: ExitResult) -> TaskEvent:
    parts = [f"Exit Code: {result.code}"]
    if result.signal:
        parts.append(f"Signal: {result.signal}")
    error = "OOM Killed" if result.oom_killed and not result.error else result.error
    if error:
        parts.append(f'Exit Message: "{error}"')
    return TaskEvent(
        type="Terminated",
        time=at,
        display_message=", ".join(parts),
        details={
            "exit_code": str(result.code),
            "signal": str(result.signal),
            "oom_killed": "true" if result.oom_killed else "false",
            **({"exit_message": error} if error else {}),
        },
        exit_code=result.code,
        signal=result.signal,
    )


def restarting(at: int, delay_s: float, reason: str) -> TaskEvent:
    delay_ns = nanoseconds(delay_s)
    message = f"Task restarting in {go_duration(delay_ns)}"
    if reason and reason != WITHIN_POLICY:
        message = f"{reason} - {message}"
    return _event("Restarting", at, message, restart_reason=reason, start_delay=str(delay_ns))


def not_restarting(at: int, reason: str) -> TaskEvent:
    return _event("Not Restarting", at, reason, restart_reason=reason, fails_task="true")


def restart_signaled(at: int, reason: str) -> TaskEvent:
    return _event("Restart Signaled", at, reason or "Task signaled to restart", restart_reason=reason)


def signaling(at: int, signal: str, reason: str = "") -> TaskEvent:
    message = f"Task being sent signal {signal}" + (f": {reason}" if reason else "")
    return _event("Signaling", at, message, task_signal=signal, task_signal_reason=reason)


def killing(at: int, kill_timeout_ns: int, reason: str = "") -> TaskEvent:
    """The kill order is given; reason: why, when it was not the leader's plain wish."""
    message = f"Killing task: {reason}" if reason else ""
    waits = f"Sent interrupt. Waiting {go_duration(kill_timeout_ns)} before force killing"
    return _event(
        "Killing", at, message or waits, kill_timeout=go_duration(kill_timeout_ns), kill_reason=reason
    )


def killed(at: int) -> TaskEvent:
    return _event("Killed", at, "Task successfully killed")


def sibling_failed(at: int, sibling: str) -> TaskEvent:
    return _event("Sibling Task Failed", at, f"Task's sibling {sibling!r} failed", failed_sibling=sibling)


def leader_dead(at: int) -> TaskEvent:
    return _event("Leader Task Dead", at, "Leader Task in Group dead")


def main_tasks_dead(at: int) -> TaskEvent:
    return _event("Main Tasks Dead", at, "Main tasks in the group died")


def not_reattached(at: int) -> TaskEvent:
    """drover's own: the machine was rebooted, or what ran is gone."""
    return _event("Driver", at, "Task was not found running after a restart of the machine or of drover")
