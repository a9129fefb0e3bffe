"""A job that asks for far more than there is room for: the leader leads on, and answers."""

import time
from contextlib import ExitStack

import pytest

from model.job import COUNT_MAX
from tests.api.http import ask
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def test_as_many_as_may_be_asked_for_do_not_cost_the_leader_its_term() -> None:
    with ExitStack() as stack:
        consul = or_skip(lambda: stack.enter_context(ConsulServer()))
        one = stack.enter_context(Drover(consul))
        one.wait_ready()
        node = one.get(f"/v1/node/{one.get('/v1/nodes')[0]['ID']}")
        memory = node["NodeResources"]["Memory"]["MemoryMB"] // 20
        task = {"Resources": {"CPU": 1, "MemoryMB": memory}}
        one.submit(marking_job("big", count=2, task=task))
        one.wait_running("big", 2)
        wait("its deployment", lambda: one.get("/v1/job/big/deployment")["Status"] == "successful", 40.0)
        epoch = one.get("/v1/operator/lock")["Leader"]["Epoch"]
        too_many = ask(one.address, "PUT", "/v1/job/big/scale", body={"Count": COUNT_MAX + 1, "Target": {"Group": "g"}})
        assert (too_many.status, too_many.body) == (400, b"asks for 50001 instances in all (at most 50000)")
        more = ask(one.address, "PUT", "/v1/job/big/scale", body={"Count": COUNT_MAX, "Target": {"Group": "g"}})
        assert more.status == 200, more.body
        wait("what fits", lambda: len(one.running("big")) >= 15, 40.0)
        end_s, slowest_s = time.monotonic() + 10.0, 0.0
        while time.monotonic() < end_s:
            began_s = time.monotonic()
            one.get("/v1/job/big/summary")
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        assert one.get("/v1/operator/lock")["Leader"]["Epoch"] == epoch
        less = ask(one.address, "PUT", "/v1/jobs", body={"Job": marking_job("big", count=1, task=task)})
        assert less.status == 200
        wait("one is left", lambda: len(one.running("big")) == 1, 40.0)
        assert slowest_s < 5.0
        one.stop_job("big", purge=True)
