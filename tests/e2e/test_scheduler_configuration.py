"""How the cluster places is one document in Consul: no leader's own configuration changes it."""

from collections.abc import Iterator

import pytest

from tests.api.http import ask
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

PATH = "/v1/operator/scheduler/configuration"


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


def test_the_configuration_outlives_its_leader_and_holds_for_the_next(consul: ConsulServer) -> None:
    with Drover(consul) as one:
        one.wait_ready()
        first = one.get(PATH)
        config = first["SchedulerConfig"]
        assert (config["SchedulerAlgorithm"], config["PreemptionConfig"]["SystemSchedulerEnabled"]) == ("binpack", True)
        config["PreemptionConfig"]["ServiceSchedulerEnabled"] = True
        config["RejectJobRegistration"] = True
        stale = ask(one.address, "PUT", f"{PATH}?cas={config['ModifyIndex'] + 1}", body=config)
        assert (stale.status, stale.json["Updated"]) == (200, False)
        done = ask(one.address, "PUT", f"{PATH}?cas={config['ModifyIndex']}", body=config)
        assert (done.status, done.json["Updated"]) == (200, True)
        refused = ask(one.address, "PUT", "/v1/jobs", body={"Job": marking_job("web")})
        assert (refused.status, "disabled by the scheduler configuration" in refused.body.decode()) == (500, True)
    spreads = 'default_scheduler_config {\n scheduler_algorithm = "spread"\n}'
    with Drover(consul, name="two", server_settings=spreads) as two:
        wait("the next leader", lambda: any(n["Name"] == "two" and n["Status"] == "ready" for n in two.get("/v1/nodes")), 40)
        kept = two.get(PATH)["SchedulerConfig"]
        assert kept["SchedulerAlgorithm"] == "binpack"
        assert kept["PreemptionConfig"]["ServiceSchedulerEnabled"]
        for body, words in (
            ({"SchedulerAlgorithm": "best"}, "SchedulerAlgorithm must be binpack or spread, found 'best'"),
            ({"PauseEvalBroker": True}, "PauseEvalBroker: nothing is queued in drover"),
            ({"PreemptionConfig": {"SystemSchedulerEnabled": "yes"}}, "not a scheduler configuration"),
        ):
            wrong = ask(two.address, "PUT", PATH, body=body)
            assert (wrong.status, words in wrong.body.decode()) == (400, True), wrong.body
        kept["RejectJobRegistration"] = False
        assert ask(two.address, "PUT", PATH, body=kept).json["Updated"]
        two.submit(marking_job("web"))
        two.wait_running("web", 1)
