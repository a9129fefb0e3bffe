"""What is said of an outage of ten minutes that is tried again each second?"""

import asyncio
import logging
from itertools import pairwise

import pytest

from catalog.outage import Outage
from model.errors import StoreUnavailable
from tests import clock

LOG = logging.getLogger("test.outage")


def test_an_outage_is_told_at_once_then_less_and_less_often_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> list[int]:
        outage = Outage(LOG)
        outage.passed("all is well")
        told = []
        for second in range(600):
            before = len(caplog.records)
            outage.failed("Consul cannot be read", StoreUnavailable("no route"))
            if len(caplog.records) > before:
                told.append(second)
            await asyncio.sleep(1)
        outage.passed("Consul can be read again")
        outage.passed("Consul can be read again")
        return told

    caplog.set_level(logging.WARNING)
    told = clock.run(story())
    assert told[:6] == [0, 5, 15, 35, 75, 135]
    assert {later - sooner for sooner, later in pairwise(told[4:])} == {60}
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "Consul cannot be read: no route"
    assert lines[1] == "Consul cannot be read (for 5 s): no route"
    assert lines[len(told) :] == ["Consul can be read again, after 600 s"]


def test_the_next_outage_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        outage = Outage(LOG)
        for _ in range(2):
            outage.failed("away", StoreUnavailable("x"))
            outage.passed("back")

    caplog.set_level(logging.WARNING)
    clock.run(story())
    assert [record.getMessage() for record in caplog.records] == ["away: x", "back, after 0 s"] * 2
