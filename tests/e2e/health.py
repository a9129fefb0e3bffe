"""How many instances of a service pass, all the time?

    with HealthWatch(consul, "web") as watch:
        ...                                # whatever should not be felt
    assert watch.least >= 3, watch.below(3)

Asks Consul ten times a second in a thread of its own, as a load balancer would be told.
"""

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.components.consul import ConsulServer
from tests.e2e.drover import call

RATE_HZ = 10.0


@dataclass(frozen=True, slots=True)
class Seen:
    """count: passing instances; None when Consul did not answer."""

    at_s: float  # since the watch began
    count: int | None


@dataclass(frozen=True, slots=True)
class Gap:
    """A span in which too few passed, from the first look that said so to the next that did not (or the last of all)."""

    from_s: float
    to_s: float
    least: int

    @property
    def length_s(self) -> float:
        return self.to_s - self.from_s


class HealthWatch:
    """seen: every look, in order. consul: the agent that is asked."""

    def __init__(self, consul: ConsulServer, service: str, *, tag: str = "") -> None:
        self._address = consul.http_addr
        self._path = f"/v1/health/service/{service}?passing=1" + (f"&tag={tag}" if tag else "")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watch {service}", daemon=True)
        self.seen: list[Seen] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_over.set()
        self._thread.join(10.0)
        if error is None:
            assert self.looks, "Consul never said anything of the service"

    @property
    def looks(self) -> list[int]:
        return [one.count for one in self.seen if one.count is not None]

    @property
    def least(self) -> int:
        return min(self.looks)

    @property
    def most(self) -> int:
        return max(self.looks)

    @property
    def unanswered(self) -> int:
        """How often Consul did not answer: a test that allows it says so."""
        return sum(one.count is None for one in self.seen)

    def below(self, count: int) -> list[Gap]:
        """Every span with fewer than so many; a look without an answer neither opens nor ends one."""
        gaps: list[Gap] = []
        start: float | None = None
        least, last_s = count, 0.0
        for one in self.seen:
            if one.count is None:
                continue
            last_s = one.at_s
            if one.count < count:
                start, least = (one.at_s, one.count) if start is None else (start, min(least, one.count))
            elif start is not None:
                gaps.append(Gap(start, one.at_s, least))
                start = None
        return gaps if start is None else [*gaps, Gap(start, last_s, least)]

    def _watch(self) -> None:
        began_s = time.monotonic()
        looks = 0
        while not self._is_over.is_set():
            at_s = time.monotonic() - began_s
            try:
                count: int | None = len(call(self._address, "GET", self._path, timeout_s=2.0))
            except OSError:
                count = None
            self.seen.append(Seen(at_s, count))
            looks += 1
            # By the clock and not by the pause: a slow answer is no reason to look less often. What was missed is missed.
            looks = max(looks, int((time.monotonic() - began_s) * RATE_HZ))
            self._is_over.wait(max(began_s + looks / RATE_HZ - time.monotonic(), 0.0))
