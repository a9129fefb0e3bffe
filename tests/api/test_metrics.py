"""What /v1/metrics serves: Nomad's names with their labels, drover's own, each of them documented."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.metrics import COUNTED, GAUGES
from tests.api.http import ask
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
_SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$')
_LABEL = re.compile(r'([a-z_]+)="([^"]*)"')


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Prometheus' text by name."""
    found = defaultdict(list)
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = _SAMPLE.fullmatch(line).groups()  # type: ignore[union-attr]  # or the test fails here
            found[name].append((dict(_LABEL.findall(labels or "")), float(value)))
    return found


def scrape(drover: Drover) -> dict[str, list[tuple[dict[str, str], float]]]:
    return samples(ask(drover.address, "GET", "/v1/metrics?format=prometheus").body.decode())


@pytest.fixture(scope="module")
def alloc(one: Drover) -> Iterator[dict[str, str]]:
    """Runs on the leader."""
    one.submit(marking_job("measured"))
    yield one.wait_running("measured", 1)[0]
    one.stop_job("measured", purge=True)


def test_every_name_that_is_documented_is_served_and_none_else(one: Drover, alloc: dict[str, str]) -> None:
    documented = set(re.findall(r"`((?:nomad|drover)\.[a-z_.]+)`", PAGE.read_text()))
    shown = ask(one.address, "GET", "/v1/metrics").json
    served = {m["Name"] for kind in ("Gauges", "Counters", "Samples") for m in shown[kind]}
    assert documented == {*GAUGES, *COUNTED}
    # Those of periodic jobs are there where such a job is, those of Vault where it is enabled.
    of_others = {name for name in GAUGES if name.startswith(("drover.periodic.", "drover.vault."))}
    assert served == documented - of_others
    text = scrape(one)
    assert {name.replace(".", "_") for name in {*GAUGES} - of_others} <= set(text)
    for name in COUNTED:
        plain = name.replace(".", "_")
        assert {f"{plain}_total", f"{plain}_count"} & set(text), name


def test_json_has_nomads_shape(one: Drover, alloc: dict[str, str]) -> None:
    reply = ask(one.address, "GET", "/v1/metrics")
    assert (reply.status, reply.kind, reply.state) == (200, "application/json", {})
    assert set(reply.json) == {"Timestamp", "Gauges", "Counters", "Samples", "Points"}
    assert {tuple(sorted(g)) for g in reply.json["Gauges"]} == {("Labels", "Name", "Value")}
    assert {tuple(sorted(c)) for c in [*reply.json["Counters"], *reply.json["Samples"]]} == {
        ("Count", "Labels", "Mean", "Name", "Sum")
    }


def test_prometheus_reads_what_dashboards_chart_with_their_labels(one: Drover, two: Drover, alloc: dict[str, str]) -> None:
    reply = ask(one.address, "GET", "/v1/metrics?format=prometheus")
    assert (reply.status, reply.kind.split(";")[0], "version=0.0.4" in reply.kind) == (200, "text/plain", True)
    home = one if alloc["NodeName"] == "one" else two

    def of_alloc() -> dict[str, tuple[dict[str, str], float]]:
        names = ("cpu_total_percent", "memory_usage", "memory_allocated")
        text = scrape(home)
        return {
            name: sample
            for name in names
            for sample in text[f"nomad_client_allocs_{name}"]
            if sample[0]["alloc_id"] == alloc["ID"]
        }

    found = wait("the alloc's series", lambda: len(f := of_alloc()) == 3 and f)
    labels = {"job": "measured", "namespace": "default", "task_group": "g", "task": "t", "alloc_id": alloc["ID"], "node_id": alloc["NodeID"]}
    assert [{**labels, "host": seen["host"]} for seen, _ in found.values()] == [seen for seen, _ in found.values()]
    assert found["memory_usage"][1] > 0
    running = {labels["node_id"]: value for labels, value in scrape(home)["nomad_client_allocs_running"]}
    assert running[alloc["NodeID"]] >= 1
    of_leader = scrape(one)
    summary = {labels["job"]: value for labels, value in of_leader["nomad_nomad_job_summary_running"] if labels["task_group"] == "g"}
    assert summary["measured"] == 1
    assert of_leader["drover_leader_is_leader"][0][1] == 1
    assert of_leader["drover_scheduler_evaluation_seconds_count"][0][1] >= 1
    assert scrape(two)["drover_leader_is_leader"][0][1] == 0
    assert "nomad_nomad_job_summary_running" not in scrape(two)


def test_a_restart_is_counted_by_its_reason(one: Drover, two: Drover, alloc: dict[str, str]) -> None:
    home = one if alloc["NodeName"] == "one" else two

    def asked() -> float:
        return {labels["reason"]: value for labels, value in scrape(home)["drover_task_restarts_total"]}["asked"]

    before = asked()
    assert ask(one.address, "PUT", f"/v1/client/allocation/{alloc['ID']}/restart", body={}).status == 200
    wait("it is counted", lambda: asked() == before + 1)


def test_a_scrape_reads_nothing_from_consul(two: Drover, alloc: dict[str, str]) -> None:
    """The agent's own watches and heartbeats go on beside it."""

    def reads() -> float:
        return sum(value for labels, value in scrape(two)["drover_consul_call_seconds_count"] if labels["kind"] == "kv")

    before = reads()
    for _ in range(20):
        scrape(two)
    assert reads() - before < 10


def test_what_is_switched_off_is_not_served(consul: ConsulServer) -> None:
    quiet = """telemetry {
      prometheus_metrics = false
      publish_allocation_metrics = false
      publish_node_metrics = false
      disable_hostname = true
    }"""
    with Drover(consul, name="quiet", server=False, settings=quiet) as drover:
        assert ask(drover.address, "GET", "/v1/metrics?format=prometheus").error == (415, "Prometheus is not enabled")
        gauges = ask(drover.address, "GET", "/v1/metrics").json["Gauges"]
        names = {gauge["Name"] for gauge in gauges}
        assert "nomad.client.allocated.cpu" in names
        assert not [name for name in names if "host" in name or "memory.usage" in name]
        assert not [gauge for gauge in gauges if "host" in gauge["Labels"]]
