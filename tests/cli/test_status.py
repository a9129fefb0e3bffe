"""What is shown of jobs, allocations, nodes, evaluations and servers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import NOWHERE, Run, file, masked
from tests.e2e.drover import Drover, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def test_no_jobs_and_no_allocations_are_said_so(run: Run, one: Drover) -> None:
    one.get("/v1/jobs")
    assert run("job", "status").shown == (0, ["No running jobs"], [])
    run("system", "gc")
    wait("forgotten allocs", lambda: one.get("/v1/allocations") == [])
    assert run("alloc", "status").shown == (0, ["No allocations"], [])


def test_jobs_are_listed_in_columns(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    run("job", "run", file(tmp_path, "nowhere", NOWHERE))
    one.wait_running("web", 2)
    assert (run("job", "status").code, masked(run("job", "status").out)) == (
        0,
        [
            "ID       Type     Priority  Status   Submit Date",
            "nowhere  service  50        pending  <moment>",
            "web      service  50        running  <moment>",
        ],
    )


@pytest.mark.parametrize("words", [("job", "status"), ("status",)], ids=" ".join)
def test_a_job_is_shown_with_its_groups_and_allocations(
    words: tuple[str, ...], run: Run, one: Drover, tmp_path: Path
) -> None:
    run("job", "run", file(tmp_path, "web"))
    one.wait_running("web", 2)
    wait("its deployment", lambda: one.get("/v1/job/web/deployment")["Status"] == "successful")
    done = run(*words, "we")  # a prefix is enough
    assert (done.code, done.err) == (0, [])
    assert masked(done.out) == [
        "ID          = web",
        "Name        = web",
        "Submit Date = <moment>",
        "Type        = service",
        "Priority    = 50",
        "Datacenters = dc1",
        "Namespace   = default",
        "Status      = running",
        "Version     = 0",
        "",
        "Summary",
        "Task Group  Queued  Starting  Running  Failed  Complete  Lost",
        "g           0       0         2        0       0         0",
        "",
        "Latest Deployment",
        "ID          = <id>",
        "Job ID      = web",
        "Job Version = 0",
        "Status      = successful",
        "Description = Deployment completed successfully",
        "",
        "Deployed",
        "Task Group  Desired  Placed  Healthy  Unhealthy  Progress Deadline",
        "g           2        2       2        0          <moment>",
        "",
        "Allocations",
        "ID        Node ID   Task Group  Version  Desired  Status   Created  Modified",
        "<id>  <id>  g           0        run      running  <ago>  <ago>",
        "<id>  <id>  g           0        run      running  <ago>  <ago>",
    ]


def test_a_job_without_room_shows_why(run: Run, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web", NOWHERE))
    assert masked(run("job", "status", "web").out[10:]) == [
        "Summary",
        "Task Group  Queued  Starting  Running  Failed  Complete  Lost",
        "g           2       0         0        0       0         0",
        "",
        "Placement Failure",
        '    Task Group "g" (failed to place 2 allocations):',
        '      * Constraint "${attr.kernel.name} = plan9": 1 nodes excluded by filter',
        "",
        "Latest Deployment",
        "ID          = <id>",
        "Job ID      = web",
        "Job Version = 0",
        "Status      = running",
        "Description = Deployment is running",
        "",
        "Deployed",
        "Task Group  Desired  Placed  Healthy  Unhealthy  Progress Deadline",
        "g           2        0       0        0          <moment>",
        "",
        "Allocations",
        "No allocations placed",
    ]


def test_an_allocation_is_shown_with_its_tasks_and_their_events(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    alloc = one.wait_running("web", 2)[0]["ID"]
    wait("its deployment", lambda: one.get("/v1/job/web/deployment")["Status"] == "successful")
    done = run("alloc", "status", alloc[:7])  # an odd number of digits is the client's business
    assert (done.code, done.err) == (0, [])
    assert masked(done.out) == [
        "ID                  = <id>",
        "Eval ID             = <id>",
        "Name                = web.g[0]",
        "Node ID             = <id>",
        "Node Name           = one",
        "Job ID              = web",
        "Job Version         = 0",
        "Client Status       = running",
        "Client Description  = Tasks are running",
        "Desired Status      = run",
        "Desired Description = -",
        "Deployment ID       = <id>",
        "Deployment Health   = healthy",
        "Created             = <ago>",
        "Modified            = <ago>",
        "",
        'Task "t" is "running"',
        "Started At     = <moment>",
        "Finished At    = N/A",
        "Total Restarts = 0",
        "Last Restart   = N/A",
        "",
        "Recent Events:",
        "Time                      Type        Description",
        "<moment>  Started     Task started by client",
        "<moment>  Task Setup  Building Task Directory",
        "<moment>  Received    Task received by client",
    ]


def test_json_is_what_the_api_answers(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    alloc = one.wait_running("web", 2)[0]["ID"]

    def printed(*argv: str) -> Any:
        return json.loads("\n".join(run(*argv).out))

    assert printed("job", "status", "-json", "web") == one.get("/v1/job/web")
    assert printed("job", "inspect", "web") == {"Job": one.get("/v1/job/web")}
    assert printed("job", "status", "--json") == one.get("/v1/jobs")
    assert printed("alloc", "status", "-json", alloc) == one.alloc(alloc)
    assert printed("node", "status", "-json") == one.get("/v1/nodes")
    assert printed("server", "members", "-json") == one.get("/v1/agent/members")["Members"]


def test_nodes_servers_and_evaluations_are_shown(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    evaluation = one.wait_running("web", 2)[0]["EvalID"]
    assert masked(run("node", "status").out) == [
        "ID        DC   Name  Class   Drain  Eligibility  Status",
        "<id>  dc1  one   <none>  false  eligible     ready",
    ]
    host, _, port = one.address.rpartition(":")
    assert run("server", "members").out == [
        "Name        Address    Port   Status  Leader  Build               Datacenter  Region",
        f"one.global  {host}  {port}  alive   true    1.1.0+drover.0.1.0  dc1         global",
    ]
    assert masked(run("eval", "status", evaluation[:6]).out) == [
        "ID                 = <id>",
        "Status             = complete",
        "Status Description = complete",
        "Type               = service",
        "TriggeredBy        = job-register",
        "Job ID             = web",
        "Priority           = 50",
        "Placement Failures = false",
    ]


def test_the_node_of_the_agent_asked_is_its_own(run: Run, one: Drover) -> None:
    node = one.get("/v1/nodes")[0]["ID"]
    assert run("node", "status", "-self", "-verbose").out[:2] == [f"ID               = {node}", "Name             = one"]


def test_a_node_that_was_made_ineligible_takes_no_work_until_it_is_eligible_again(
    run: Run, one: Drover, tmp_path: Path
) -> None:
    node = one.get("/v1/nodes")[0]["ID"]
    done = run("node", "eligibility", "-disable", node[:6])
    assert done.shown == (0, [f'Node "{node}" scheduling eligibility set: ineligible'], [])
    blocked = run("job", "run", file(tmp_path, "web"))
    assert (blocked.code, blocked.out[-3:-1]) == (
        2,
        [
            "      * No nodes were eligible for evaluation",
            "      * No nodes are available in the job's datacenters",
        ],
    )
    assert run("node", "eligibility", "-enable", node).code == 0
    one.wait_running("web", 2)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("job", "status", "zz"), "No job(s) with prefix or ID 'zz' found"),
        (("job", "stop", "zz"), "No job(s) with prefix or ID 'zz' found"),
        (("job", "inspect", "zz"), "No job(s) with prefix or ID 'zz' found"),
        (("alloc", "status", "zz"), "No allocation(s) with prefix or id 'zz' found"),
        (("alloc", "logs", "zzz"), "No allocation(s) with prefix or id 'zzz' found"),
        (("alloc", "restart", "zz"), "No allocation(s) with prefix or id 'zz' found"),
        (("alloc", "signal", "zz"), "No allocation(s) with prefix or id 'zz' found"),
        (("node", "status", "zz"), "No node(s) with prefix or id 'zz' found"),
        (("node", "eligibility", "-enable", "zz"), "No node(s) with prefix or id 'zz' found"),
        (("node", "eligibility", "zz"), "give one of -enable and -disable"),
        (("eval", "status", "zz"), "No evaluation(s) with prefix or id 'zz' found"),
        (("alloc", "logs", "-job", "zz"), "job 'zz' has no allocations"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_not_there_is_said_to_be_missing(argv: tuple[str, ...], line: str, run: Run) -> None:
    assert run(*argv).shown == (1, [], [f"Error: {line}"])


def test_a_prefix_of_several_jobs_or_allocations_names_them_all(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web-a"))
    run("job", "run", file(tmp_path, "web-b"))
    assert run("job", "stop", "web-").shown == (1, [], ["Error: Prefix 'web-' matched several jobs: web-a, web-b"])
    one.wait_running("web-a", 2)
    ids = ", ".join(sorted(alloc["ID"] for alloc in one.get("/v1/allocations"))[:10])
    assert run("alloc", "restart", "").shown == (1, [], [f"Error: Prefix '' matched several allocations: {ids}"])


def test_a_job_whose_whole_id_is_given_is_found_among_longer_ones(run: Run, tmp_path: Path) -> None:
    run("job", "run", "-detach", file(tmp_path, "web"))
    run("job", "run", "-detach", file(tmp_path, "web-b"))
    assert run("job", "status", "web").out[0] == "ID          = web"
