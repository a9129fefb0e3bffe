"""What can go wrong, sorted by what the caller does next.

retry: StoreUnavailable, VaultUnavailable, DriverBusy. Look again: WriteConflict. Stop acting: SessionLost. Tell the
user: JobspecError, ConfigError, TaskRefused, StoreRefused, VaultRefused. Die loudly: InvariantBroken.
No message here ever holds a secret.
"""

from dataclasses import dataclass


class DroverError(Exception):
    """Base of all of drover's own errors."""


class StoreUnavailable(DroverError):
    """Consul could not be reached or had no leader; nothing is known about what was sent. Retry later."""


class StoreUnclear(StoreUnavailable):
    """A write got a timeout or a 500: it may have been committed. Read again before deciding anything."""


class WriteConflict(DroverError):
    """A compare-and-set lost: somebody else wrote. Read again and decide anew."""


class SessionLost(DroverError):
    """The lease is gone (fence refused or deadline passed): stop acting as leader."""


class StoreRefused(DroverError):
    """Consul refused for good (too large, no permission): tell the user."""


class DriverBusy(DroverError):
    """The driver's engine did not answer; the task's state is unknown. Retry."""


class TaskRefused(DroverError):
    """The task cannot run as written (bad command, unknown image): tell the user, count as a failure."""


class StoreForbidden(StoreRefused):
    """Consul does not let our token do that. It will once an operator changes the token's policies: retry later."""


class VaultUnavailable(DroverError):
    """Vault was not reached, is sealed, is too slow or failed: nothing is known. Retry later."""


class VaultRefused(DroverError):
    """Vault answered no (403, 400): it will again until a policy or a request is changed."""


class InvariantBroken(DroverError):
    """A fact that must hold does not: a bug. Never caught narrowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong with an input.

    where: `file:line:column`, `file:line`, or empty when only the path is known.
    path: the path in the document (`job.web.group.cache.task.redis.resources.memory`), or empty.
    message: what is wrong, and what was expected.
    """

    message: str
    where: str = ""
    path: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.path, self.message) if part)


class InputError(DroverError):
    """An input was refused; holds every fault found, never only the first."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


class JobspecError(InputError):
    """A job file or job document is wrong."""


class ConfigError(InputError):
    """An agent configuration is wrong."""


def ensure(fact: object, message: str, **values: object) -> None:
    """Raises InvariantBroken unless `fact` holds. Stays on under `python -O`, unlike assert."""
    if not fact:
        details = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise InvariantBroken(f"{message} ({details})" if details else message)
