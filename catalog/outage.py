"""How often is it said that Consul is out of reach?

Once when it begins, then at growing intervals, and once when it is over, however often is tried in between.
"""

import asyncio
import logging
from dataclasses import dataclass

from model.errors import DroverError

# After the first word; then twice as long each time, up to the longest: who looks at the log of a long
# outage wants to see that it goes on, not each try.
_SILENT_S = 5.0
_SILENT_S_MAX = 60.0


@dataclass(slots=True)
class Outage:
    """One thing that cannot be done. For use inside a running loop."""

    log: logging.Logger
    _since_s: float | None = None
    _next_s: float = 0.0
    _silent_s: float = _SILENT_S

    def failed(self, what: str, error: DroverError) -> None:
        """`what` cannot be done just now."""
        now_s = asyncio.get_running_loop().time()
        if self._since_s is None:
            self._since_s = self._next_s = now_s
            self._silent_s = _SILENT_S
        if now_s < self._next_s:
            self.log.debug("%s: %s", what, error)
            return
        since = f" (for {now_s - self._since_s:.0f} s)" if now_s > self._since_s else ""
        self.log.warning("%s%s: %s", what, since, error)
        self._next_s = now_s + self._silent_s
        self._silent_s = min(2 * self._silent_s, _SILENT_S_MAX)

    def passed(self, what: str) -> None:
        """It was done; says so only after it could not be."""
        if self._since_s is not None:
            now_s = asyncio.get_running_loop().time()
            self.log.warning("%s, after %.0f s", what, now_s - self._since_s)
            self._since_s = None
