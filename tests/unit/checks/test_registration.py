"""What Consul gets to know of a service: whole documents, and ids that are the same each time."""

from typing import Any

import pytest

from checks.check_restart import Rule
from checks.registration import (
    TTL_SLACK_S,
    TaskNetwork,
    check_document,
    endpoint,
    is_fed,
    kept_tags,
    register,
    rule_of,
    service_id,
)
from model.alloc import AllocatedPort, DesiredAlloc
from model.errors import TaskRefused
from model.job import CheckRestart, Service, ServiceCheck, ServiceWeights
from model.node import NodeId
from model.wire import nanoseconds
from tests.build import alloc

NODE = NodeId("node-1")
HTTP = AllocatedPort(label="http", value=21000, to=8080, host_ip="10.0.0.5")
ADMIN = AllocatedPort(label="admin", value=21001, to=0, host_ip="")


def desired(*ports: AllocatedPort) -> DesiredAlloc:
    return alloc(identity="a1", ports=ports or (HTTP, ADMIN)).desired


def check(kind: str = "tcp", **more: Any) -> ServiceCheck:
    return ServiceCheck(
        **{"name": "alive", "type": kind, "interval": nanoseconds(10), "timeout": nanoseconds(2), **more}
    )


def service(*checks: ServiceCheck, **more: Any) -> Service:
    return Service(**{"name": "web", "port_label": "http", "checks": checks, **more})


def plain(text: str) -> str:
    return text


def registered(made: Service, task_name: str = "t", of: DesiredAlloc | None = None, **more: Any) -> Any:
    return register(
        of or desired(), made, task_name=task_name, node_id=NODE, address="10.0.0.1", interpolate=plain, **more
    )


def document(one: ServiceCheck, host: str = "10.0.0.5", port: int = 21000) -> dict[str, Any]:
    return check_document(one, "c1", (host, port), plain)


def test_a_service_with_an_http_check_is_one_document_initially_critical() -> None:
    made = registered(service(check("http", path="/health"), tags=("a", "b"), meta={"k": "v"}))
    (one,) = made.checks
    assert made.document == {
        "ID": "_drover-task-a1-t-web-http",
        "Name": "web",
        "Tags": ["a", "b"],
        "Address": "10.0.0.5",
        "Port": 21000,
        "Meta": {"k": "v", "external-source": "drover", "drover_node": "node-1", "drover_alloc": "a1"},
        "EnableTagOverride": False,
        "Checks": [
            {
                "CheckID": one.id,
                "Name": "alive",
                "Status": "critical",
                "HTTP": "http://10.0.0.5:21000/health",
                "Method": "GET",
                "Header": {},
                "Body": "",
                "TLSSkipVerify": False,
                "Interval": "10.0s",
                "Timeout": "2.0s",
            }
        ],
    }
    assert (made.id, made.alloc_id, made.task_name) == ("_drover-task-a1-t-web-http", "a1", "t")


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (check("tcp"), {"TCP": "10.0.0.5:21000", "Interval": "10.0s", "Timeout": "2.0s"}),
        (
            check("grpc", grpc_service="svc", grpc_use_tls=True, tls_skip_verify=True),
            {
                "GRPC": "10.0.0.5:21000/svc",
                "GRPCUseTLS": True,
                "TLSSkipVerify": True,
                "Interval": "10.0s",
                "Timeout": "2.0s",
            },
        ),
        (
            check("grpc"),
            {
                "GRPC": "10.0.0.5:21000",
                "GRPCUseTLS": False,
                "TLSSkipVerify": False,
                "Interval": "10.0s",
                "Timeout": "2.0s",
            },
        ),
        (check("script", command="/bin/true"), {"TTL": f"{10.0 + 2.0 + TTL_SLACK_S}s"}),
        (check("ttl"), {"TTL": f"{10.0 + 2.0 + TTL_SLACK_S}s"}),
    ],
    ids=["tcp", "grpc with a service", "grpc", "script", "ttl"],
)
def test_each_type_of_check_asks_as_consul_wants_it(one: ServiceCheck, expected: dict[str, Any]) -> None:
    assert document(one) == {"CheckID": "c1", "Name": "alive", "Status": "critical", **expected}


def test_an_http_check_has_its_protocol_method_headers_and_body() -> None:
    one = check("http", path="x", protocol="https", method="POST", header={"H": ("1", "2")}, body="b", tls_skip_verify=True)
    assert document(one) == {
        "CheckID": "c1",
        "Name": "alive",
        "Status": "critical",
        "HTTP": "https://10.0.0.5:21000/x",
        "Method": "POST",
        "Header": {"H": ["1", "2"]},
        "Body": "b",
        "TLSSkipVerify": True,
        "Interval": "10.0s",
        "Timeout": "2.0s",
    }


def test_thresholds_and_the_first_status_are_passed_on() -> None:
    shown = document(check(initial_status="passing", success_before_passing=2, failures_before_critical=3))
    assert {k: shown[k] for k in ("Status", "SuccessBeforePassing", "FailuresBeforeCritical")} == {
        "Status": "passing",
        "SuccessBeforePassing": 2,
        "FailuresBeforeCritical": 3,
    }


def test_an_ipv6_address_is_bracketed() -> None:
    assert document(check("tcp"), "::1")["TCP"] == "[::1]:21000"
    assert document(check("http", path="/"), "::1")["HTTP"] == "http://[::1]:21000/"


BRIDGE = TaskNetwork(address="172.17.0.2", ports={})
MAPPED = TaskNetwork(address="172.17.0.2", ports={"http": 9999, "admin": 9998})
OWN = TaskNetwork(address="172.18.0.2", ports={}, is_advertised=True)


@pytest.mark.parametrize(
    ("label", "mode", "network", "expected"),
    [
        ("http", "auto", None, ("10.0.0.5", 21000)),
        ("http", "auto", BRIDGE, ("10.0.0.5", 21000)),
        ("http", "auto", OWN, ("172.18.0.2", 8080)),
        ("http", "host", OWN, ("10.0.0.5", 21000)),
        ("http", "alloc", OWN, ("10.0.0.5", 21000)),
        ("http", "driver", BRIDGE, ("172.17.0.2", 8080)),
        ("http", "driver", MAPPED, ("172.17.0.2", 9999)),
        ("admin", "auto", None, ("10.0.0.1", 21001)),
        ("admin", "driver", BRIDGE, ("172.17.0.2", 21001)),
        ("9000", "auto", None, ("10.0.0.1", 9000)),
        ("9000", "driver", BRIDGE, ("172.17.0.2", 9000)),
        ("", "auto", None, ("10.0.0.1", 0)),
        ("none", "auto", None, ("10.0.0.1", 0)),
        ("", "driver", BRIDGE, ("172.17.0.2", 0)),
    ],
)
def test_a_label_means_an_address_and_a_port(
    label: str, mode: str, network: TaskNetwork | None, expected: tuple[str, int]
) -> None:
    ports = {port.label: port for port in (HTTP, ADMIN)}
    assert endpoint(label, mode, ports, "10.0.0.1", network) == expected


def test_a_task_without_an_address_of_its_own_is_not_registered_at_the_machines() -> None:
    with pytest.raises(TaskRefused, match="no address of its own"):
        registered(service(address_mode="driver"))
    with pytest.raises(TaskRefused, match="no address of its own"):
        registered(service(check(address_mode="driver")))


def test_a_name_that_dns_cannot_hold_is_refused_with_one_that_would_do() -> None:
    with pytest.raises(TaskRefused, match=r'"my_web\.app" is no DNS label .*; "my-web-app" would be one'):
        registered(service(name="my_web.app"))


def test_a_check_of_a_service_in_a_network_of_its_own_goes_by_the_machine_unless_told() -> None:
    made = registered(service(check("tcp")), network=OWN)
    assert (made.document["Address"], made.document["Checks"][0]["TCP"]) == ("172.18.0.2", "10.0.0.5:21000")
    made = registered(service(check("tcp"), address_mode="driver"), network=OWN)
    assert (made.document["Address"], made.document["Checks"][0]["TCP"]) == ("172.18.0.2", "172.18.0.2:8080")


@pytest.mark.parametrize(
    ("there", "before", "now", "expected"),
    [
        (["a", "theirs"], ["a"], ["a"], ["a", "theirs"]),
        (["theirs"], ["a"], ["a"], ["theirs"]),
        (["a", "theirs"], ["a"], ["b"], ["theirs", "b"]),
        (["a", "b"], ["a"], ["a", "b"], ["a", "b"]),
        (["theirs"], None, ["a"], ["theirs"]),
    ],
)
def test_others_tags_stay(there: list[str], before: list[str] | None, now: list[str], expected: list[str]) -> None:
    assert kept_tags(there, before, now) == expected


def test_a_critical_service_may_be_dropped_by_consul() -> None:
    made = registered(service(check(deregister_critical_service_after=nanoseconds(90))))
    assert made.document["Checks"][0]["DeregisterCriticalServiceAfter"] == "90.0s"


def test_a_check_may_have_a_port_and_an_address_of_its_own() -> None:
    made = registered(
        service(check("tcp", port_label="admin"), check("tcp", name="in", address_mode="driver")), network=BRIDGE
    )
    assert [one["TCP"] for one in made.document["Checks"]] == ["10.0.0.1:21001", "172.17.0.2:8080"]
    assert (made.document["Address"], made.document["Port"]) == ("10.0.0.5", 21000)


def test_a_service_of_the_group_is_named_after_the_group() -> None:
    assert registered(service(), task_name="").id == "_drover-task-a1-group-g-web-http"
    assert service_id(desired(), "t", service(port_label=""), "web") == "_drover-task-a1-t-web-"


def test_names_tags_and_meta_are_interpolated_and_so_is_the_id() -> None:
    made = register(
        desired(),
        service(check("http", name="${X}", path="/${X}"), name="web-${X}", tags=("${X}",), meta={"k": "${X}"}),
        task_name="t",
        node_id=NODE,
        address="10.0.0.1",
        interpolate=lambda text: text.replace("${X}", "blue"),
    )
    shown = made.document
    assert (shown["Name"], shown["Tags"], shown["Meta"]["k"], made.id) == (
        "web-blue",
        ["blue"],
        "blue",
        "_drover-task-a1-t-web-blue-http",
    )
    assert (shown["Checks"][0]["Name"], shown["Checks"][0]["HTTP"]) == ("blue", "http://10.0.0.5:21000/blue")


def test_a_users_meta_never_hides_whose_service_it_is() -> None:
    made = registered(service(meta={"drover_node": "other", "drover_alloc": "x", "external-source": "y"}))
    assert made.document["Meta"] == {
        "external-source": "drover",
        "drover_node": "node-1",
        "drover_alloc": "a1",
    }


def test_registering_again_changes_nothing() -> None:
    made = service(check("http"), check("tcp"), check("script"))
    assert registered(made) == registered(made)


def test_ids_differ_by_alloc_owner_service_port_and_check() -> None:
    other = alloc(identity="a2", ports=(HTTP, ADMIN)).desired
    made = [
        registered(service(check())),
        registered(service(check()), of=other),
        registered(service(check()), task_name="u"),
        registered(service(check()), task_name=""),
        registered(service(check(), name="db")),
        registered(service(check(), port_label="admin")),
    ]
    assert len({one.id for one in made}) == len(made)
    several = registered(service(check(), check(), check(name="b"), check("http")))
    ids = [one.id for many in (*made, several) for one in many.checks]
    assert len(set(ids)) == len(ids) - 1  # the first of several is the very check of the first service


@pytest.mark.parametrize("kind", ["http", "tcp", "grpc", "script", "ttl"])
def test_what_drover_feeds_is_counted_and_the_rest_is_reckoned(kind: str) -> None:
    restart = CheckRestart(limit=3, grace=nanoseconds(5), ignore_warnings=True)
    assert rule_of(check(kind, check_restart=restart)) == Rule(
        limit=3,
        grace_s=5.0,
        ignore_warnings=True,
        interval_s=10.0,
        timeout_s=2.0,
        is_counted=kind in ("script", "ttl"),
    )
    assert is_fed(check(kind)) is (kind in ("script", "ttl"))


@pytest.mark.parametrize("restart", [None, CheckRestart(limit=0)], ids=["none", "limit 0"])
def test_without_a_limit_no_task_is_restarted(restart: CheckRestart | None) -> None:
    assert rule_of(check(check_restart=restart)) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("1.2.3.4", {"Address": "1.2.3.4", "Port": 21000}),
        ("1.2.3.4:80", {"Address": "1.2.3.4", "Port": 80}),
        ("wan.example.com:80", {"Address": "wan.example.com", "Port": 80}),
        ("fd00::1", {"Address": "fd00::1", "Port": 21000}),
        ("[fd00::1]:80", {"Address": "fd00::1", "Port": 80}),
    ],
)
def test_a_tagged_address_has_a_port_of_its_own_or_the_services(given: str, expected: dict[str, Any]) -> None:
    made = registered(service(tagged_addresses={"wan": given}))
    assert made.document["TaggedAddresses"] == {"wan": expected}


def test_an_own_address_weights_and_notes_are_passed_on() -> None:
    one = check(notes="asks twice")
    made = registered(service(one, address="10.9.9.9", weights=ServiceWeights(passing=5, warning=1)))
    assert made.document["Address"] == "10.9.9.9"
    assert made.document["Weights"] == {"Passing": 5, "Warning": 1}
    (sent,) = made.document["Checks"]
    # The check goes to where the task is.
    assert (sent["Notes"], sent["TCP"]) == ("asks twice", "10.0.0.5:21000")
