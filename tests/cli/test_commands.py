"""What each command prints and how it ends: 0 fine, 1 error, 2 not everything placed."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.cli.command import Done, drover, environ, keys, masked
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

JOB = """job "NAME" {
  datacenters = ["dc1"]
  CONSTRAINT
  group "g" {
    count = 2
    task "t" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["-c", "echo one; echo two; echo three >&2; exec sleep 100000"]
      }
      resources {
        cpu    = 10
        memory = 16
      }
    }
  }
}
"""
NOWHERE = 'constraint {\n    attribute = "${attr.kernel.name}"\n    value     = "plan9"\n  }'


def file(folder: Path, name: str, constraint: str = "") -> str:
    path = folder / f"{name}.hcl"
    path.write_text(JOB.replace("NAME", name).replace("CONSTRAINT", constraint))
    return path.name


Run = Callable[..., Done]


@pytest.fixture
def run(one: Drover, tmp_path: Path) -> Iterator[Run]:
    """One command in tmp_path against the agent; its jobs are purged afterwards."""
    yield lambda *argv, **more: drover(*argv, cwd=tmp_path, **{"address": one.address, **more})
    for job in one.get("/v1/jobs"):
        one.stop_job(quote(job["ID"]), purge=True)
    ended = ("complete", "failed", "lost")
    wait("an empty cluster", lambda: all(a["ClientStatus"] in ended for a in one.get("/v1/allocations")))


def placed(count: int = 2) -> list[str]:
    """What `job run` prints for `count` new allocs."""
    return [
        '==> Monitoring evaluation "<id>"',
        '    Evaluation triggered by job "web"',
        *['    Allocation "<id>" created: node "<id>", group "g"'] * count,
        '    Evaluation status changed: "pending" -> "complete"',
        '==> Evaluation "<id>" finished with status "complete"',
    ]


def without_progress(lines: list[str]) -> list[str]:
    """How far an evaluation or alloc was when it was looked at differs from run to run."""
    return [line for line in lines if " changed: " not in line]


# -- job run


@pytest.mark.parametrize("words", [("job", "run"), ("run",)], ids=" ".join)
def test_job_run_follows_its_evaluation_to_the_end(words: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    done = run(*words, file(tmp_path, "web"))
    assert (done.code, done.err) == (0, [])
    assert without_progress(masked(done.out)) == without_progress(placed())


def test_an_unchanged_job_is_evaluated_and_places_nothing(run: Run, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    done = run("job", "run", "web.hcl")
    assert (done.code, without_progress(masked(done.out)), done.err) == (0, without_progress(placed(0)), [])


def test_job_run_reads_standard_input(run: Run, one: Drover, tmp_path: Path) -> None:
    text = (tmp_path / file(tmp_path, "web")).read_bytes()
    assert run("job", "run", "-detach", "-", stdin=text).code == 0
    assert [job["ID"] for job in one.get("/v1/jobs")] == ["web"]


@pytest.mark.parametrize("flag", ["-detach", "--detach"])
def test_detached_it_prints_the_evaluation_and_ends(flag: str, run: Run, tmp_path: Path) -> None:
    done = run("job", "run", flag, file(tmp_path, "web"))
    assert (done.code, masked(done.out), done.err) == (
        0, ["Job registration successful", "Evaluation ID: <uuid>"], []
    )


def test_verbose_ids_are_whole(run: Run, tmp_path: Path) -> None:
    done = run("job", "run", "-verbose", file(tmp_path, "web"))
    assert without_progress(masked(done.out)) == [
        line.replace("<id>", "<uuid>") for line in without_progress(placed())
    ]


def test_a_job_that_fits_nowhere_ends_with_2_and_says_why(run: Run, tmp_path: Path) -> None:
    done = run("job", "run", file(tmp_path, "web", NOWHERE))
    assert (done.code, without_progress(masked(done.out)), done.err) == (
        2,
        [
            '==> Monitoring evaluation "<id>"',
            '    Evaluation triggered by job "web"',
            '==> Evaluation "<id>" finished with status "complete"',
            '    Task Group "g" (failed to place 1 allocation (and 1 more)):',
            '      * Constraint "${attr.kernel.name} = plan9": 1 nodes excluded by filter',
            '    Evaluation "<id>" waiting for additional capacity',
        ],
        [],
    )


@pytest.mark.parametrize(("flags"), [("-check-index", "0"), ("-check-index=0",), ("--check-index=0",)], ids=" ".join)
def test_check_index_0_takes_a_new_job_only(flags: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    file(tmp_path, "web")
    assert run("job", "run", "-detach", *flags, "web.hcl").code == 0
    again = run("job", "run", "-detach", *flags, "web.hcl")
    assert again.shown == (
        1,
        [],
        ["Error: Unexpected response code: 500 (Enforcing job modify index 0: job already exists)"],
    )


def test_check_index_takes_the_jobs_own_index_only(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", "-detach", file(tmp_path, "web"))
    index = one.get("/v1/job/web")["JobModifyIndex"]
    other = run("job", "run", f"-check-index={index + 1}", "web.hcl")
    conflict = f"Enforcing job modify index {index + 1}: job exists with conflicting job modify index: {index}"
    assert other.shown == (1, [], [f"Error: Unexpected response code: 500 ({conflict})"])
    assert run("job", "run", "-detach", f"-check-index={index}", "web.hcl").code == 0


def test_output_prints_the_submission_and_sends_nothing(
    run: Run, consul: ConsulServer, tmp_path: Path
) -> None:
    def jobs() -> dict[str, int]:
        return {k: v for k, v in keys(consul).items() if k.split("/")[2] in ("jobs", "versions", "evals")}

    before = jobs()
    done = run("job", "run", "-output", file(tmp_path, "web"), address="127.0.0.1:1")
    document = json.loads("\n".join(done.out))["Job"]
    assert (done.code, document["ID"], document["TaskGroups"][0]["Count"]) == (0, "web", 2)
    assert jobs() == before


def test_what_output_and_inspect_print_is_the_same_job_with_json(run: Run, one: Drover, tmp_path: Path) -> None:
    (tmp_path / "web.json").write_text("\n".join(run("job", "run", "-output", file(tmp_path, "web")).out))
    assert run("job", "validate", "-json", "web.json").shown == (0, ["Job validation successful"], [])
    assert run("job", "run", "-detach", "-json", "web.json").code == 0
    (tmp_path / "inspected.json").write_text("\n".join(run("job", "inspect", "web").out))
    assert run("job", "run", "-detach", "-json", "inspected.json").code == 0
    assert run("job", "run", "-detach", "web.hcl").code == 0
    assert one.get("/v1/job/web")["Version"] == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"Job": ', "web.json:1:9: not JSON: Expecting value"),
        ("[]", 'web.json: expected an object, as {"Job": {…}}'),
        ('{"Job": []}', 'job: not a job: "ID" is missing (a job document was expected)'),
        ("[" * 100_000, "web.json: not JSON: nested too deeply"),
        ('{"Job": {"ID": "web", "TaskGroups": 5}}', "job.web.group: expected a list, found a number"),
    ],
    ids=["half", "list", "no job", "deep", "wrong type"],
)
def test_a_wrong_job_with_json_is_refused(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "web.json").write_text(text)
    done = drover("job", "validate", "-json", "web.json", cwd=tmp_path)
    assert (done.code, done.out, done.err[:1]) == (1, [], [line])


def test_a_job_that_was_purged_is_no_part_of_the_next_one_of_its_name(
    run: Run, one: Drover, tmp_path: Path
) -> None:
    assert run("job", "run", file(tmp_path, "web", NOWHERE)).code == 2
    one.stop_job("web", purge=True)
    assert run("job", "run", file(tmp_path, "web")).code == 0


def test_a_valid_file_is_said_to_be_valid_without_any_agent(tmp_path: Path) -> None:
    done = drover("job", "validate", file(tmp_path, "web"), cwd=tmp_path, address="127.0.0.1:1")
    assert done.shown == (0, ["Job validation successful"], [])


# -- status


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
        "Allocations",
        "ID        Node ID   Task Group  Version  Desired  Status   Created  Modified",
        "<id>  <id>  g           0        run      running  <ago>   <ago>",
        "<id>  <id>  g           0        run      running  <ago>   <ago>",
    ]


def test_a_job_without_room_shows_why(run: Run, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web", NOWHERE))
    assert run("job", "status", "web").out[10:] == [
        "Summary",
        "Task Group  Queued  Starting  Running  Failed  Complete  Lost",
        "g           2       0         0        0       0         0",
        "",
        "Placement Failure",
        '    Task Group "g" (failed to place 1 allocation (and 1 more)):',
        '      * Constraint "${attr.kernel.name} = plan9": 1 nodes excluded by filter',
        "",
        "Allocations",
        "No allocations placed",
    ]


def test_an_allocation_is_shown_with_its_tasks_and_their_events(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    alloc = one.wait_running("web", 2)[0]["ID"]
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
        "Name        Address    Port   Status  Leader  Build  Datacenter  Region",
        f"one.global  {host}  {port}  alive   true    0.1.0  dc1         global",
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


# -- stop, logs, restart, signal


def test_job_stop_follows_its_evaluation_and_keeps_the_job_until_it_is_purged(
    run: Run, one: Drover, tmp_path: Path
) -> None:
    run("job", "run", file(tmp_path, "web"))
    one.wait_running("web", 2)
    done = run("job", "stop", "web")
    assert (done.code, without_progress(masked(done.out)), done.err) == (0, without_progress(placed(0)), [])
    wait("the end", lambda: one.get("/v1/job/web")["Status"] == "dead")
    assert masked(run("job", "status").out)[1] == "web  service  50        dead (stopped)  <moment>"
    purged = run("job", "stop", "-purge", "-detach", "web")
    assert (purged.code, masked(purged.out), purged.err) == (0, ["<uuid>"], [])
    assert run("job", "status", "web").shown == (1, [], ["Error: No job(s) with prefix or ID 'web' found"])


def test_logs_are_printed_whole_by_task_and_from_the_end(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    alloc = one.wait_running("web", 2)[0]["ID"]
    wait("its lines", lambda: run("alloc", "logs", alloc).out == ["one", "two"])
    assert run("logs", alloc[:8], "t").shown == (0, ["one", "two"], [])
    assert run("alloc", "logs", "-stderr", alloc).shown == (0, ["three"], [])
    assert run("alloc", "logs", "-tail", "-n", "1", alloc).shown == (0, ["two"], [])
    assert run("alloc", "logs", "-job", "web").shown == (0, ["one", "two"], [])
    assert run("alloc", "logs", alloc, "other").shown == (
        1,
        [],
        [f"Error: allocation {alloc[:8]} has no task 'other' (it has t)"],
    )


def test_restart_and_signal_reach_the_task(run: Run, one: Drover) -> None:
    one.submit(marking_job("web"))
    alloc = one.wait_running("web", 1)[0]["ID"]
    first = wait("its process", lambda: one.pids(alloc))
    assert run("alloc", "restart", alloc[:8]).shown == (0, [], [])
    second = wait("the next process", lambda: len(one.pids(alloc)) == 2 and one.pids(alloc))
    assert second[:1] == first
    one.wait_running("web", 1)
    assert run("alloc", "signal", "-s", "SIGKILL", alloc, "t").shown == (0, [], [])
    wait("a third process", lambda: len(one.pids(alloc)) == 3)


# -- what is wrong with a command line


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


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ((), "drover: the following arguments are required: COMMAND"),
        (("job",), "drover job: the following arguments are required: COMMAND"),
        (("job", "run"), "drover job run: the following arguments are required: FILE"),
        (("job", "run", "a", "b"), "drover: unrecognized arguments: b"),
        (("job", "run", "-nope", "a"), "drover: unrecognized arguments: -nope"),
        (("job", "run", "-det", "a"), "drover: unrecognized arguments: -det"),
        (
            ("job", "run", "-check-index", "x", "a"),
            "drover job run: argument -check-index/--check-index: invalid int value: 'x'",
        ),
        (("job", "status", "-address"), "drover job status: argument -address/--address: expected one argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_command_line_is_one_line_and_where_to_look(argv: tuple[str, ...], line: str) -> None:
    done = drover(*argv)
    assert done.shown == (1, [], [line, f"See '{line.partition(':')[0]} -h'."])


@pytest.mark.parametrize("argv", [("jub",), ("job", "jun")], ids=" ".join)
def test_an_unknown_command_lists_the_known_ones(argv: tuple[str, ...]) -> None:
    done = drover(*argv)
    assert (done.code, done.out, len(done.err)) == (1, [], 2)
    assert f"argument COMMAND: invalid choice: '{argv[-1]}' (choose from " in done.err[0]


@pytest.mark.parametrize("argv", [("-version",), ("--version",), ("version",)], ids=" ".join)
def test_the_version_is_one_line(argv: tuple[str, ...]) -> None:
    assert drover(*argv).shown == (0, ["drover v0.1.0"], [])


# -- who is asked


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("http://127.0.0.1:1", "no drover agent answers at http://127.0.0.1:1: Connection refused"),
        ("127.0.0.1:1", "no drover agent answers at 127.0.0.1:1: Connection refused"),
        ("http://127.0.0.1:http", "address 'http://127.0.0.1:http' has no usable port (expected http://HOST:PORT)"),
        ("http://127.0.0.1:99999", "address 'http://127.0.0.1:99999' has no usable port (expected http://HOST:PORT)"),
        ("ftp://127.0.0.1", "address 'ftp://127.0.0.1' is not an HTTP URL (expected http://HOST:PORT)"),
        ("http://", "address 'http://' is not an HTTP URL (expected http://HOST:PORT)"),
    ],
)
def test_an_address_without_an_agent_is_named(address: str, line: str) -> None:
    assert drover("job", "status", "-address", address).shown == (1, [], [f"Error: {line}"])
    assert drover("job", "status", f"--address={address}").shown == (1, [], [f"Error: {line}"])
    assert drover("job", "status", NOMAD_ADDR=address).shown == (1, [], [f"Error: {line}"])


def test_a_flag_wins_over_the_environment(one: Drover) -> None:
    done = drover("server", "members", "-address", f"http://{one.address}", NOMAD_ADDR="http://127.0.0.1:1")
    assert (done.code, done.err) == (0, [])


def test_a_consul_in_place_of_an_agent_is_told_apart(consul: ConsulServer) -> None:
    address = f"http://{consul.http_addr}"
    assert drover("job", "status", "-address", address).shown == (
        1,
        [],
        [f"Error: {address} is not drover's API: it does not know /v1/jobs"],
    )


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000" if "short" in self.path else "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    """host:port of a web server that is no drover."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_page_in_place_of_an_agent_is_told_apart(page: str) -> None:
    done = drover("job", "status", address=page)
    assert (done.code, done.out, len(done.err)) == (1, [], 1)
    assert done.err[0].startswith(f"Error: http://{page} is not drover's API: ")


def test_an_answer_that_breaks_off_is_one_line(page: str) -> None:
    done = drover("job", "status", "short", address=page)
    assert (done.code, done.out, len(done.err)) == (1, [], 1)
    assert done.err[0].startswith(f"Error: http://{page} broke off its answer: ")


def test_a_token_that_no_header_can_hold_is_one_line(one: Drover) -> None:
    for token in ("a\nb", "…"):
        done = drover("job", "status", address=one.address, NOMAD_TOKEN=token)
        assert done.shown == (1, [], ["Error: the token holds characters that no token has"])


# -- where the output goes


def piped(argv: list[str], address: str, stdout: Any, **env: str) -> tuple[int | None, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *argv],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environ(NOMAD_ADDR=f"http://{address}", **env),
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("argv", [["job", "status"], ["node", "status", "-json"], ["version"]], ids=" ".join)
def test_a_reader_that_left_is_no_error(argv: list[str], one: Drover) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert piped(argv, one.address, writer) == (0, "")
    finally:
        os.close(writer)


def test_a_full_disk_is_told(one: Drover) -> None:
    with open("/dev/full", "wb") as full:
        assert piped(["node", "status"], one.address, full) == (
            1,
            "Error: the output cannot be written: No space left on device\n",
        )


def test_a_terminal_without_unicode_gets_the_output_all_the_same(one: Drover, run: Run) -> None:
    one.submit({**marking_job("wéb"), "Name": "wéb"})
    done = run("job", "status", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (done.code, done.err) == (0, [])
    assert done.out[1].startswith("w\\xe9b")
