"""What is an alloc's client status, and is it healthy?

Nomad's rule, with one difference: an alloc with a failed task is `failed` only when nothing of it runs
any more. A terminal status lets the leader use its ports again, so it may not come a moment early.
"""

from collections.abc import Iterable

from model.alloc import ClientStatus, TaskState, TaskStatus


def client_status(states: Iterable[TaskState]) -> tuple[ClientStatus, str]:
    """(status, description)."""
    states = tuple(states)
    is_running = any(state.state is TaskStatus.RUNNING for state in states)
    is_pending = any(state.state is TaskStatus.PENDING for state in states)
    has_failed = any(state.state is TaskStatus.DEAD and state.failed for state in states)
    if is_running or (is_pending and has_failed):
        return ClientStatus.RUNNING, "Tasks are running"
    if is_pending:
        return ClientStatus.PENDING, "No tasks have started"
    if has_failed:
        return ClientStatus.FAILED, "Failed tasks"
    return ClientStatus.COMPLETE, "All tasks have completed"
