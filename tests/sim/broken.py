"""What would drover be without its fence? The build that the checkers must catch.

The leader's transactions lose their check-session, and the lease's deadline is never enforced: a deposed
leader writes on until it happens to look at the lock. Composed by machine.py for `--break fencing`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from catalog.kv import Entry, Fence, Kv, Op
from catalog.lease import Lease, Term

_NEVER_S = 1e12


class UnfencedKv(Kv):
    """Commits without the fence."""

    def __init__(self, kv: Kv) -> None:
        super().__init__(kv._transport)

    async def commit(
        self, ops: Sequence[Op], *, fence: Fence | None = None, timeout_s: float = 10.0
    ) -> dict[str, Entry]:
        return await super().commit(ops, timeout_s=timeout_s)


@dataclass(slots=True, kw_only=True)
class UnfencedLease(Lease):
    """Its deadline never comes."""

    def extend(self, sent_s: float) -> None:
        self.deadline_s = _NEVER_S

    def _begin(self, *args: Any, **kwargs: Any) -> Term:
        term = Lease._begin(self, *args, **kwargs)
        self.deadline_s = _NEVER_S
        return term


