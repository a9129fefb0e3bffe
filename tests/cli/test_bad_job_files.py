"""A wrong job file: one line per fault that says where, what and what was expected; exit 1; nothing written."""

import base64
import os
import random
from pathlib import Path

import pytest

from tests.cli.command import REFUSAL_CPU_S_MAX, drover, keys, refused
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def web(*, job: str = "", group: str = "", task: str = "") -> str:
    """A job file; the arguments are further lines of the block they are named after."""
    return f"""job "web" {{
  datacenters = ["dc1"]
  {job}
  group "g" {{
    {group}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "/bin/true"
      }}
      {task}
    }}
  }}
}}
"""


SECOND_TASK = """}
    task "t" {
      driver = "raw_exec"
      config {
        command = "/bin/true"
      }"""
OPERATORS = (
    "= == is != not < <= > >= distinct_hosts distinct_property regexp version semver set_contains "
    "set_contains_all set_contains_any is_set is_not_set in not_in"
)

# {what is wrong: (the file's text, its lines on stderr after the file's name and a colon)}
WRONG: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "syntax": (web(task="env { A = }"), ('11:17: expected a value, found "}"',)),
    "unclosed block": (web()[:-3], ("13:4: a block is not closed (expected } before the end of the file)",)),
    "unknown block": (
        web(group="netwrk {}"),
        ('5:5: job.web.group.g.netwrk: unknown block "netwrk" (did you mean "network"?)',),
    ),
    "unknown field": (
        web(task='kil_timeout = "5s"'),
        ('11:7: job.web.group.g.task.t.kil_timeout: unknown argument "kil_timeout" (did you mean "kill_timeout"?)',),
    ),
    "text for a number": (web(group='count = "many"'), ('5:13: job.web.group.g.count: number required, found "many"',)),
    "list for a number": (
        web(task="resources { cpu = [1] }"),
        ("11:25: job.web.group.g.task.t.resources.cpu: number required, found a list",),
    ),
    "no driver": (
        web().replace('driver = "raw_exec"', ""),
        ("6:5: job.web.group.g.task.t.driver: a driver is needed (docker, exec, java or raw_exec)",),
    ),
    "no group": ('job "web" {\n  datacenters = ["dc1"]\n}\n', ("1:1: job.web: a job needs at least one group",)),
    "no task": (
        'job "web" {\n  datacenters = ["dc1"]\n  group "g" {}\n}\n',
        ("3:3: job.web.group.g: a group needs at least one task",),
    ),
    "bad duration": (
        web(task='kill_timeout = "5 parsecs"'),
        (
            '11:22: job.web.group.g.task.t.kill_timeout: unknown unit " parsecs" in duration "5 parsecs"'
            " (known: ns, us, ms, s, m, h)",
        ),
    ),
    "negative count": (web(group="count = -1"), ("5:5: job.web.group.g.count: must not be negative, found -1",)),
    "two tasks of a name": (
        web(task=SECOND_TASK),
        ('12:5: job.web.group.g.task.t: there are two tasks named "t"',),
    ),
    "constraint operator": (
        web(job='constraint {\n    attribute = "${attr.kernel.name}"\n    operator  = "~="\n    value     = "x"\n  }'),
        (f'5:5: job.web.constraint[0].operator: unknown operator "~=" (known: {OPERATORS})',),
    ),
    "port out of range": (
        web(group='network {\n      port "http" {\n        static = 70000\n      }\n    }'),
        ("7:9: job.web.group.g.network[0].port.http.static: must be between 1 and 65535, found 70000",),
    ),
    "undefined port": (
        web(group='service {\n      name = "web"\n      port = "nope"\n    }'),
        ('7:7: job.web.group.g.service[0].port: there is no port labelled "nope" (the group has no ports)',),
    ),
    "two drivers": (web(task='driver = "docker"'), ('11:7: "driver" is set twice (first on line 7)',)),
    "two jobs": (
        web() + web().replace('"web"', '"web2"'),
        ("15:1: only one job block is allowed in a file",),
    ),
    "two faults": (
        web(job="prioritty = 5", task='kill_timeout = "x"'),
        (
            '3:3: job.web.prioritty: unknown argument "prioritty" (did you mean "priority"?)',
            '11:22: job.web.group.g.task.t.kill_timeout: invalid duration "x"'
            ' (expected a number with a unit, as "30s" or "1h30m")',
        ),
    ),
    "empty": ("", ('1:1: the file is empty (expected a block job "name" { … })',)),
    "prose": ("hello world\n", ('1:12: expected "{" or a label after hello, found the end of the line',)),
    "no job": ("server {\n  enabled = true\n}\n", ('1:1: unknown block "server"',)),
    "json of something else": ('{"foo": 1}', ('1:2: unknown property "foo"',)),
    "half a json": ('{"Job": ', ("1:9: expected a JSON value, found the end of the file",)),
    "binary": (bytes(range(256)) * 10, ("1:1: a NUL byte: this is a binary file (a text file was expected)",)),
    "latin-1": (
        web(job='meta { x = "é" }').encode("latin-1"),
        ("3:15: not UTF-8 text: byte 0xe9 (a text file in UTF-8 was expected)",),
    ),
    "deep list": ('job "a" { a = ' + "[" * 20_000, ("1:5014: nested too deeply (at most 5000 levels)",)),
    "deep blocks": ("a {\n" * 20_000, ("5001:1: nested too deeply (at most 5000 levels)",)),
}


@pytest.fixture(scope="module")
def before(one: Drover, consul: ConsulServer) -> dict[str, int]:
    """Consul's keys before the first wrong file; nothing that a test here does may change them."""
    return keys(consul)


@pytest.mark.parametrize("what", WRONG, ids=[what.replace(" ", "-") for what in WRONG])
def test_a_wrong_job_file_is_refused_line_by_line_and_nothing_is_written(
    what: str, one: Drover, consul: ConsulServer, before: dict[str, int], tmp_path: Path
) -> None:
    text, faults = WRONG[what]
    (tmp_path / "web.hcl").write_bytes(text.encode() if isinstance(text, str) else text)
    lines = [f"web.hcl:{fault}" for fault in faults]
    refused(drover("job", "run", "web.hcl", cwd=tmp_path, address=one.address), *lines)
    refused(drover("job", "validate", "web.hcl", cwd=tmp_path), *lines)
    assert keys(consul) == before


def test_a_job_file_that_cannot_be_read_says_why(
    one: Drover, consul: ConsulServer, before: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "folder.hcl").mkdir()
    (tmp_path / "web.hcl").write_text(web())
    os.mkfifo(tmp_path / "fifo.hcl")
    (tmp_path / "loop.hcl").symlink_to("loop.hcl")
    reasons = {
        "missing.hcl": "cannot be read: No such file or directory",
        "folder.hcl": "a directory (a file was expected)",
        "/dev/zero": "not a regular file (a file was expected)",
        # Root may read everything but this: it stands for a file without permission.
        "/proc/self/mem": "cannot be read: Input/output error",
        "web.hcl/below": "cannot be read: Not a directory",
        "loop.hcl": "cannot be read: Too many levels of symbolic links",
        "n" * 300: "cannot be read: File name too long",
    }
    for name, reason in reasons.items():
        refused(drover("job", "run", name, cwd=tmp_path, address=one.address), f"{name}: {reason}")
    fifo = drover("job", "run", "fifo.hcl", cwd=tmp_path, address=one.address)
    assert fifo.shown == (1, [], ["fifo.hcl: a pipe that nobody has written to for 5 s"])
    assert keys(consul) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_job_file_without_permission_says_so(tmp_path: Path) -> None:
    (tmp_path / "web.hcl").touch(mode=0o000)
    refused(drover("job", "validate", "web.hcl", cwd=tmp_path), "web.hcl: cannot be read: Permission denied")


def test_a_job_too_large_for_consul_is_refused_with_its_size_and_the_limit(
    one: Drover, consul: ConsulServer, before: dict[str, int], tmp_path: Path
) -> None:
    text = base64.b64encode(random.Random(1).randbytes(3_750_000)).decode()  # 5 MB that hardly shrink
    (tmp_path / "web.hcl").write_text(web(task=f'env {{\n        A = "{text}"\n      }}'))
    done = drover("job", "run", "web.hcl", cwd=tmp_path, address=one.address)
    assert (done.code, len(done.err), done.out) == (1, 1, [])
    assert done.err[0].startswith("Error: Unexpected response code: 500 (the job is too large: drover/state/versions/default/web/0: 37")
    assert done.err[0].endswith(" bytes do not fit into Consul (limit about 393216 bytes a value))")
    assert done.cpu_s < REFUSAL_CPU_S_MAX
    assert keys(consul) == before


def test_a_file_larger_than_the_api_takes_is_refused_in_one_line(
    one: Drover, consul: ConsulServer, before: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "web.hcl").write_text(web(task='env {\n        A = "' + "x" * 9_000_000 + '"\n      }'))
    done = drover("job", "run", "web.hcl", cwd=tmp_path, address=one.address)
    refused(done, "Error: Unexpected response code: 413 (Maximum request body size 8388608 exceeded.)")
    assert keys(consul) == before


def test_a_wrong_job_on_standard_input_is_named_by_a_dash(
    one: Drover, consul: ConsulServer, before: dict[str, int]
) -> None:
    done = drover("job", "run", "-", stdin=web(group="count = -1").encode(), address=one.address)
    refused(done, "-:5:5: job.web.group.g.count: must not be negative, found -1")
    assert keys(consul) == before


def test_wrong_variables_are_refused_by_name(
    one: Drover, consul: ConsulServer, before: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "web.hcl").write_text('variable "n" {\n  type = number\n}\n' + web(group="count = var.n"))
    (tmp_path / "n.hcl").write_text("n = \n")
    unset = (
        'web.hcl:1:1: the variable "n" has no value (set it with -var, -var-file or NOMAD_VAR_n, or give it a default)'
    )
    cases: dict[tuple[str, ...], tuple[str, ...]] = {
        ("-var", "n"): ("Error: -var 'n': expected NAME=VALUE",),
        ("-output", "-var", "n"): ("Error: -var 'n': expected NAME=VALUE",),
        ("-var", "n=many"): ('-var n: does not fit the variable\'s type: number required, found "many"',),
        ("-var", "m=1"): (unset, '-var m: the job file declares no variable "m"'),
        (): (unset,),
        ("-var-file", "missing.hcl"): ("missing.hcl: cannot be read: No such file or directory",),
        ("-var-file", "n.hcl"): (unset, "n.hcl:1:5: expected a value, found the end of the line"),
        ("-var=n=-1",): ("web.hcl:8:5: job.web.group.g.count: must not be negative, found -1",),
    }
    for flags, lines in cases.items():
        refused(drover("job", "run", *flags, "web.hcl", cwd=tmp_path, address=one.address), *lines)
    assert keys(consul) == before
