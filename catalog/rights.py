"""What may a token do, as Consul says?

`POST /v1/internal/acl/authorize` answers up to 64 questions a call for the token that it is asked with. It is
measured on Consul 1.8.7 and documented nowhere, so the first call finds out whether it is there:

    asks       200: ACLs are on, and it answers
    off        401: ACLs are off in Consul
    by keys    404: this Consul has no such endpoint. Every right is then asked as one on a key, which all
               Consuls tell: a read by reading a key that is not there (404, or 403), a write by deleting such a
               key in a transaction, which changes nothing (200, or 409 with "Permission denied").

Answers are kept for CACHE_S, so a right that is taken away is gone CACHE_S after Consul itself has noticed. A
token is kept only as its digest.
"""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from catalog.keys import escape
from catalog.transport import Response
from model.errors import StoreRefused, StoreUnavailable
from model.secret import Secret

# Of Consul's: 65 are refused (measured on 1.8.7).
QUESTIONS_MAX = 64
# Consul keeps tokens and policies for 30 s itself; a multiple of that would surprise whoever revokes one.
CACHE_S = 10.0
# About 15 MB. A list of 10,000 jobs takes 10,000 of them for a token that may not write them all.
CACHED_MAX = 100_000
# 1,000 questions are 16 calls of 1.2 ms (measured): so many of them at a time leave Consul's pool to others.
CALLS_MAX = 8
# How soon a Consul whose ACLs were off is asked again whether they are on.
LOOK_AGAIN_S = 30.0
ASK_S_MAX = 5.0
# The token that Consul takes a call without a token for. Named, or the local Consul agent would put its own in.
ANONYMOUS = Secret("anonymous")


class Question(NamedTuple):
    """resource: key, service, node, agent, operator, session. access: read, write, of keys also write-prefix."""

    resource: str
    segment: str
    access: str


class Mode(StrEnum):
    UNKNOWN = "unknown"
    ASKS = "asks"
    OFF = "off"
    BY_KEYS = "by keys"


class UnknownToken(Exception):
    """Consul knows no such token."""


class Asked(Protocol):
    """HttpTransport, as far as this needs it."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float = 10.0,
        token: Secret | None = None,
    ) -> Response: ...

    async def close(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class Authority:
    """Asks the local Consul agent. transport: of its own, so that callers' questions never take the connections of
    drover's own work. datacenter: whose rights; empty: the agent's. now_s: a monotonic clock."""

    transport: Asked
    datacenter: str
    root: str
    now_s: Callable[[], float]
    mode: Mode = Mode.UNKNOWN
    _looked_s: float = float("-inf")
    _known: OrderedDict[tuple[bytes, Question], tuple[float, bool]] = field(default_factory=OrderedDict)
    _unknown: OrderedDict[bytes, float] = field(default_factory=OrderedDict)
    _calls: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CALLS_MAX))

    async def find_mode(self) -> Mode:
        """How Consul tells rights. Raises StoreUnavailable while it is not known."""
        if self.mode is Mode.UNKNOWN or (self.mode is Mode.OFF and self.now_s() - self._looked_s > LOOK_AGAIN_S):
            response = await self._post([Question("operator", "", "read")], ANONYMOUS)
            self._looked_s = self.now_s()
            if response.status == 401:
                self.mode = Mode.OFF
            elif response.status == 404:
                # Without it, whether ACLs are on shows where tokens are kept.
                itself = await self._send("GET", "/v1/acl/token/self", b"", ANONYMOUS)
                self.mode = Mode.OFF if itself.status == 401 else Mode.BY_KEYS
            else:
                self.mode = Mode.ASKS
        return self.mode

    def is_known(self, token: Secret, questions: Iterable[Question]) -> bool:
        """Whether the answers are here already."""
        digest, now_s = _digest(token), self.now_s()
        if self._unknown.get(digest, 0.0) > now_s:
            return True
        return all(self._known.get((digest, one), (0.0, False))[0] > now_s for one in questions)

    async def allowed(self, token: Secret, questions: Iterable[Question]) -> set[Question]:
        """Those that Consul answers with yes. Raises UnknownToken, StoreUnavailable, StoreRefused."""
        token = token or ANONYMOUS
        digest, now_s = _digest(token), self.now_s()
        if self._unknown.get(digest, 0.0) > now_s:
            raise UnknownToken
        found: set[Question] = set()
        missing: dict[Question, None] = {}
        for one in questions:
            until_s, is_allowed = self._known.get((digest, one), (0.0, False))
            if until_s <= now_s:
                missing[one] = None
            elif is_allowed:
                found.add(one)
        if missing:
            try:
                answers = await self._asked(token, list(missing))
            except UnknownToken:
                self._unknown[digest] = now_s + CACHE_S
                while len(self._unknown) > CACHED_MAX // 10:
                    self._unknown.popitem(last=False)
                raise
            for one in missing:
                self._known.pop((digest, one), None)  # the newest last
                self._known[digest, one] = (now_s + CACHE_S, one in answers)
            while len(self._known) > CACHED_MAX:
                self._known.popitem(last=False)
            found |= answers
        return found

    async def token_itself(self, token: Secret) -> dict[str, Any]:
        """What Consul keeps of the token, its secret left out. Raises UnknownToken, StoreUnavailable."""
        response = await self._send("GET", "/v1/acl/token/self", b"", token)
        if response.status != 200:
            raise UnknownToken
        found: dict[str, Any] = json.loads(response.body)
        found.pop("SecretID", None)
        return found

    async def close(self) -> None:
        await self.transport.close()

    async def _asked(self, token: Secret, questions: Sequence[Question]) -> set[Question]:
        ask = self._ask_by_keys if self.mode is Mode.BY_KEYS else self._ask
        async with asyncio.TaskGroup() as tasks:
            asking = [
                tasks.create_task(_outcome(ask(token, questions[at : at + QUESTIONS_MAX])), name="rights asked")
                for at in range(0, len(questions), QUESTIONS_MAX)
            ]
        found: set[Question] = set()
        for one in asking:
            outcome = one.result()
            if isinstance(outcome, Exception):
                raise outcome
            found |= outcome
        return found

    async def _ask(self, token: Secret, questions: Sequence[Question]) -> set[Question]:
        async with self._calls:
            response = await self._post(questions, token)
        if response.status == 403:
            if token == ANONYMOUS:
                return set()  # a Consul agent in its first second knows only the tokens that were given to it
            raise UnknownToken
        if response.status in (401, 404):
            self.mode = Mode.UNKNOWN  # another Consul than at the start: found out by the next call
        if response.status != 200:
            raise StoreRefused(f"Consul does not tell what the token may do: {response.status} {response.text[:100]}")
        return {one for one, answer in zip(questions, json.loads(response.body), strict=True) if answer.get("Allow")}

    async def _ask_by_keys(self, token: Secret, questions: Sequence[Question]) -> set[Question]:
        keys = {one: self._key_of(one) for one in questions}
        found: set[Question] = set()
        writes = [one for one in questions if one.access != "read"]
        for one in questions:
            if one.access == "read":
                async with self._calls:
                    response = await self._send("GET", f"/v1/kv/{keys[one]}", b"", token)
                _raise_for_unknown(response)
                if response.status in (200, 404):
                    found.add(one)
        if writes:
            steps = [{"KV": {"Verb": "delete-cas", "Key": keys[one], "Index": 1}} for one in writes]
            async with self._calls:
                response = await self._send("PUT", "/v1/txn", json.dumps(steps).encode(), token)
            _raise_for_unknown(response)
            refused = {error["OpIndex"] for error in json.loads(response.body).get("Errors") or ()}
            # A prefix cannot be asked about in this way: each key below it is.
            found |= {one for n, one in enumerate(writes) if n not in refused and one.access == "write"}
        return found

    def _key_of(self, question: Question) -> str:
        """The key that stands for a right without the endpoint: `drover/rights/<resource>/<name>`."""
        if question.resource == "key":
            return question.segment
        return f"{self.root}/rights/{question.resource}/{escape(question.segment)}"

    async def _post(self, questions: Sequence[Question], token: Secret) -> Response:
        documents = [{"Resource": one.resource, "Segment": one.segment, "Access": one.access} for one in questions]
        return await self._send("POST", "/v1/internal/acl/authorize", json.dumps(documents).encode(), token)

    async def _send(self, method: str, path: str, body: bytes, token: Secret) -> Response:
        params = {"dc": self.datacenter} if self.datacenter else None
        return await self.transport.request(
            method, path, params=params, body=body, timeout_s=ASK_S_MAX, token=token or ANONYMOUS
        )


async def _outcome(asking: Awaitable[set[Question]]) -> set[Question] | Exception:
    """A failure as a value: raised, it would come out of the TaskGroup wrapped."""
    try:
        return await asking
    except (UnknownToken, StoreUnavailable, StoreRefused) as error:
        return error


def _raise_for_unknown(response: Response) -> None:
    if response.status == 403 and "not found" in response.text:
        raise UnknownToken


def _digest(token: Secret) -> bytes:
    return hashlib.sha256((token or ANONYMOUS).reveal().encode("utf-8", "surrogateescape")).digest()
