"""A namespace that is bound to virtual datacenters has its jobs there and nowhere else."""

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, call, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def test_jobs_of_a_bound_namespace_run_only_in_its_virtual_datacenters() -> None:
    with or_skip(lambda: ConsulServer().__enter__()) as consul, Drover(consul) as one:
        one.wait_ready()
        call(one.address, "PUT", "/v1/namespace/team", {"Name": "team", "VirtualDatacenters": ["edge"]})
        one.submit(marking_job("bound", count=2) | {"Namespace": "team", "Datacenters": ["*"]})
        (group,) = one.get("/v1/job/bound/why?namespace=team")["Groups"]
        assert group["Remedies"] == ["namespace team is bound to edge, and no node is there"]
        one.submit(marking_job("named", count=1) | {"Namespace": "team"})
        (group,) = one.get("/v1/job/named/why?namespace=team")["Groups"]
        assert group["Remedies"] == ["namespace team is bound to edge, none of which the job names"]
        with Drover(consul, name="edge", server=False, settings='client { virtual_datacenter = "edge" }'):
            wait("both run there", lambda: [
                (a["NodeName"], a["ClientStatus"]) for a in one.get("/v1/allocations?namespace=team")
            ] == [("edge", "running")] * 2)
