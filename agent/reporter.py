"""How does Consul learn what runs here, cheaply and for certain?

Runners only say "alloc X changed". The reporter gathers for a moment, asks for the newest state of each,
and writes them together; while one write is under way the next gathers. So 300 allocs that start within
a second cost some fifteen transactions, states in between may be skipped, and the newest always
arrives: what could not be written stays marked, for ever if need be.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from agent.store import AgentStore
from agent.tools import Tools
from model.alloc import AllocId, ObservedAlloc
from model.errors import StoreForbidden, StoreRefused, StoreUnavailable, WriteConflict
from model.node import Node, NodeId

log = logging.getLogger(__name__)

# A lone change is told at once; in a burst, gathering this long makes a transaction of about 20 allocs
# (at 300 starts a second) and stays below what anybody waiting notices.
_GATHER_QUIET_S = 0.005
_GATHER_BUSY_S = 0.05
_QUIET_AFTER_S = 0.5
# Changes that nothing is decided by ("Received", "Driver: pulling") wait this long for a better one.
_GATHER_LAZY_S = 0.3


class Reporter:
    """build: the newest report of an alloc, None when it is forgotten. contact: told after each success."""

    def __init__(
        self,
        store: AgentStore,
        node_id: NodeId,
        build: Callable[[AllocId], ObservedAlloc | None],
        tools: Tools,
        contact: Callable[[], None],
    ) -> None:
        self._store = store
        self._node_id = node_id
        self._build = build
        self._tools = tools
        self._contact = contact
        self._changed: dict[AllocId, None] = {}
        self._under_way: dict[AllocId, None] = {}  # in the write that has not yet returned
        self._node: Node | None = None
        self._any = asyncio.Event()
        self._urgent = asyncio.Event()
        self._busy_until_s = 0.0
        # Larger than any of an earlier life: no two reports of an alloc are ever equal.
        self._sequence = tools.now_ns() // 1_000_000

    def mark(self, alloc_id: AllocId, urgent: bool) -> None:
        self._changed[alloc_id] = None
        self._any.set()
        if urgent:
            self._urgent.set()

    def mark_node(self, node: Node) -> None:
        self._node = node
        self._any.set()
        self._urgent.set()

    def is_reported(self, alloc_id: AllocId) -> bool:
        """Whether the newest state has been written."""
        return alloc_id not in self._changed and alloc_id not in self._under_way

    async def run(self) -> None:
        tries = 0
        while True:
            await self._gather()
            try:
                await self._report()
            except (StoreUnavailable, StoreForbidden, WriteConflict) as error:
                if tries == 0:
                    log.warning("cannot report just now, trying on: %s", error)
                await asyncio.sleep(self._tools.backoff_s(tries))
                tries += 1
            else:
                if tries:
                    log.warning("reports go through again")
                tries = 0

    async def _gather(self) -> None:
        await self._any.wait()
        loop = asyncio.get_running_loop()
        if not self._urgent.is_set():
            try:
                async with asyncio.timeout(_GATHER_LAZY_S):
                    await self._urgent.wait()
            except TimeoutError:
                return
        await asyncio.sleep(_GATHER_BUSY_S if loop.time() < self._busy_until_s else _GATHER_QUIET_S)

    async def _report(self) -> None:
        """Writes all that is marked; what was not written is marked again."""
        ids, self._changed = self._changed, {}
        self._under_way = ids
        node, self._node = self._node, None
        self._any.clear()
        self._urgent.clear()
        documents = self._documents(ids)
        written = False
        try:
            if any(document.client_status.is_terminal for document in documents):
                await self._keep()
            if documents or node is not None:
                await self._write(documents, node)
                self._contact()
            written = True
        finally:
            self._under_way = {}
            if not written:
                self._changed = ids | self._changed
                self._node = self._node or node
                self._any.set()
                self._urgent.set()
        self._busy_until_s = asyncio.get_running_loop().time() + _QUIET_AFTER_S

    async def _keep(self) -> None:
        """The journal knows of an end before the leader does, who then deletes its document: an agent that is killed
        must not find the one without the other."""
        try:
            await self._tools.journal.put([])
        except OSError as error:
            log.warning("an end is reported that the journal could not take: %s", error)

    async def _write(self, documents: list[ObservedAlloc], node: Node | None) -> None:
        try:
            await self._store.report(self._node_id, documents, node)
        except StoreForbidden:
            raise  # tried again until the token may
        except StoreRefused as error:
            if len(documents) + (node is not None) < 2:
                log.error("Consul refuses this report for good: %s", error)
                return
            # One refused document (too large) must not keep the others from being told.
            for document in documents:
                await self._write([document], None)
            if node is not None:
                await self._write([], node)

    def _documents(self, ids: Iterable[AllocId]) -> list[ObservedAlloc]:
        at = self._tools.now_ns()
        documents = []
        for alloc_id in ids:
            document = self._build(alloc_id)
            if document is not None:
                self._sequence += 1
                documents.append(replace(document, sequence=self._sequence, modify_time=at))
        return documents
