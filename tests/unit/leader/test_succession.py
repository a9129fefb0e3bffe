"""When do candidates free the lock of a leader that they cannot reach?"""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from catalog.leader_lock import Holder
from catalog.services import Member
from leader.succession import Contact, Succession
from model.cluster import Leader
from model.errors import StoreUnavailable

LEADER = Leader(node_id="one", name="one", http_addr="one", epoch=7, since=1, nonce="n")
LOST = Contact(leader_id="one", epoch=7, is_lost=True)
IN_CONTACT = Contact(leader_id="one", epoch=7)


def member(name: str) -> Member:
    return Member(
        node_id=name, name=name, http_addr=name, datacenter="", version="", is_passing=True, service_id=name, consul_node=name
    )


@dataclass
class Fleet:
    """says: what each candidate answers, None for nothing. The lock is `one`'s until somebody ends its session."""

    says: dict[str, Contact | None]
    session: str = "s1"
    broken: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    reads: int = 0
    is_consul_there: bool = True

    async def holder(self) -> Holder | None:
        self.reads += 1
        if not self.is_consul_there:
            raise StoreUnavailable("away")
        return Holder(LEADER, self.session) if self.session else None

    async def break_it(self, holder: Holder) -> None:
        self.broken.append(holder.session)
        self.session = ""

    async def members(self) -> tuple[Member, ...]:
        return tuple(member(name) for name in ("self", *self.says))

    async def ask(self, http_addr: str, _is_tls: bool, _answer_s: float) -> Contact | None:
        self.asked.append(http_addr)
        await asyncio.sleep(0)
        return self.says[http_addr]

    def candidate(self, *, leads: bool = False, stands: bool = True) -> Succession:
        leading = SimpleNamespace(fenced=SimpleNamespace(epoch=8)) if leads else None
        candidacy: Any = SimpleNamespace(is_candidate=stands, election=SimpleNamespace(leading=leading))
        lock: Any = self
        return Succession(
            node_id="self",
            candidacy=candidacy,
            lock=lock,
            members=self.members,
            ask=self.ask,
            rng=random.Random(1),
            answer_s=1.0,
        )


async def run_for(succession: Succession, wait_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await succession.run()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leader.succession._EACH_S", 0.01)
    monkeypatch.setattr("leader.succession._AGAIN_S", 0.0)


@pytest.mark.parametrize(
    ("says", "is_freed"),
    [
        ({"one": None, "two": LOST}, True),
        ({"one": None, "two": IN_CONTACT}, False),
        ({"one": None, "two": None}, False),
        ({"one": None, "two": Contact(leader_id="one", epoch=6, is_lost=True)}, False),
        ({"one": None}, False),
        ({"one": None, "two": LOST, "three": IN_CONTACT}, False),
        ({"one": None, "two": LOST, "three": LOST}, True),
        ({"one": None, "two": LOST, "three": LOST, "four": IN_CONTACT}, True),
        ({"one": IN_CONTACT, "two": LOST, "three": LOST}, False),
    ],
)
async def test_the_lock_is_freed_when_more_than_half_of_all_say_so(says: dict[str, Contact | None], is_freed: bool) -> None:
    fleet = Fleet(says)
    await run_for(fleet.candidate(), 0.15)
    assert fleet.broken == (["s1"] if is_freed else [])


async def test_one_call_that_fails_is_no_loss_and_a_leader_that_answers_costs_consul_one_read() -> None:
    fleet = Fleet({"one": IN_CONTACT, "two": LOST})
    candidate = fleet.candidate()
    await run_for(candidate, 0.15)
    assert (fleet.reads, fleet.broken, candidate.contact) == (1, [], IN_CONTACT)
    assert len(fleet.asked) > 3


async def test_it_says_that_it_is_out_of_contact_and_that_it_is_back() -> None:
    fleet = Fleet({"one": None, "two": IN_CONTACT})
    candidate = fleet.candidate()
    await run_for(candidate, 0.1)
    assert candidate.contact == LOST
    fleet.says["one"] = IN_CONTACT
    await run_for(candidate, 0.1)
    assert candidate.contact == IN_CONTACT


@pytest.mark.parametrize("role", [{"leads": True}, {"stands": False}])
async def test_the_leader_and_an_ordinary_agent_ask_nobody(role: dict[str, bool]) -> None:
    fleet = Fleet({"one": None, "two": LOST})
    candidate = fleet.candidate(**role)
    await run_for(candidate, 0.1)
    assert (fleet.asked, fleet.broken) == ([], [])
    assert candidate.contact == (Contact(leader_id="self", epoch=8) if role.get("leads") else Contact())


async def test_without_consul_it_waits_and_goes_on() -> None:
    fleet = Fleet({"one": None, "two": LOST}, is_consul_there=False)
    candidate = fleet.candidate()
    await run_for(candidate, 0.1)
    assert fleet.broken == []
    fleet.is_consul_there = True
    await run_for(candidate, 0.15)
    assert fleet.broken == ["s1"]
