"""How do 300 starts at once leave the event loop to others in between?

Each start takes a turn first; a few are given in each round of the loop, the rest wait for the next
round. Nothing is held while a start waits for its image or its disk, so no start waits for another's.
"""

import asyncio
from collections import deque


class Turns:
    """per_round: how many callers go on in one round of the loop, first come, first served."""

    def __init__(self, per_round: int) -> None:
        self._per_round = per_round
        self._left = per_round
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_scheduled = False

    async def take(self) -> None:
        if self._left == 0 or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            self._schedule()
            await turn
            return
        self._left -= 1
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next_round)

    def _next_round(self) -> None:
        self._is_scheduled = False
        self._left = self._per_round
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():  # cancelled
                turn.set_result(None)
                self._left -= 1
        if self._waiting or self._left < self._per_round:
            self._schedule()
