"""A wrong agent configuration: one line per fault, exit 1, within seconds, and nothing was touched."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import REFUSAL_CPU_S_MAX, Done, drover, keys, refused
from tests.components.consul import ConsulServer, free_port
from tests.e2e.drover import Drover

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

LEVELS = "TRACE, DEBUG, INFO, WARN, ERROR"
# {what is wrong: (the file's text, its lines on stderr)}. FILE becomes its name, HOME its directory; a text
# that begins with "..." is put after line 11 of a sound file.
WRONG: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "syntax": ("...client {", ("FILE:13: a block is not closed (expected } before the end of the file)",)),
    "unknown block": (
        "...clinet {\n  enabled = true\n}",
        ('FILE:12: unknown setting "clinet" (did you mean "client"?)',),
    ),
    "unknown field": (
        '...log_levle = "INFO"',
        ('FILE:12: unknown setting "log_levle" (did you mean "log_level"?)',),
    ),
    "text for a switch": (
        '...client {\n  enabled = "perhaps"\n}',
        ('FILE:13: client.enabled: expected true or false, found "perhaps"',),
    ),
    "bad duration": (
        '...client {\n  gc_interval = "5 parsecs"\n}',
        (
            'FILE:13: client.gc_interval: unknown unit " parsecs" in duration "5 parsecs"'
            " (known: ns, us, ms, s, m, h)",
        ),
    ),
    "negative count": (
        "...client {\n  gc_max_allocs = -1\n}",
        ('FILE:13: client.gc_max_allocs: must not be negative, found "-1"',),
    ),
    "unknown log level": (
        '...log_level = "LOUD"',
        (f'FILE:12: log_level: unknown log level "LOUD" (known: {LEVELS})',),
    ),
    "set twice": ('...data_dir = "/x"', ('FILE:12: "data_dir" is set twice (first on line 1)',)),
    "no network interface": (
        '...client {\n  enabled = true\n  network_interface = "nope0"\n}',
        ("client.network_interface: 'nope0' has no IPv4 address on this machine",),
    ),
    "nothing of host networks, volumes and cores that is there": (
        '...client {\n  enabled = true\n  reserved {\n    cores = "4000"\n  }\n  host_network "public" {\n    cidr = "192.0.2.128/32"\n  }\n}',
        (
            "client.host_network.public: this machine has no address in 192.0.2.128/32",
            f"client.reserved.cores: there is no core 4000 (the agent may run on {', '.join(map(str, sorted(os.sched_getaffinity(0))))})",
        ),
    ),
    "no directory of a host volume": (
        '...client {\n  enabled = true\n  host_volume "data" {\n    path = "HOME/none"\n  }\n}',
        ("FILE:15: client.host_volume.data.path: HOME/none does not exist",),
    ),
    "advertised address": (
        '...advertise {\n  http = "host:port"\n}',
        ('FILE:13: advertise.http: "host:port" is no address (expected host or host:port)',),
    ),
    "log file": (
        '...log_file = "HOME/none/log"',
        ("log_file: HOME/none/log cannot be opened: No such file or directory",),
    ),
    "alloc_dir below a file": (
        '...client {\n  alloc_dir = "HOME/agent.hcl/alloc"\n}',
        ("FILE:13: client.alloc_dir: HOME/agent.hcl/alloc is not writable: HOME/agent.hcl is no directory",),
    ),
    "three faults": (
        '...log_level = "LOUD"\nclinet {}\nports {\n  http = 70000\n}',
        (
            f'FILE:12: log_level: unknown log level "LOUD" (known: {LEVELS})',
            'FILE:13: unknown setting "clinet" (did you mean "client"?)',
            'FILE:15: ports.http: expected a whole number of at most 65535, found "70000"',
        ),
    ),
    "empty": ("", ("FILE: the file is empty (settings were expected)",)),
    "a job": (
        'job "web" {\n}\n',
        ("FILE:1: this is a job file (settings were expected; `drover job run` takes it)",),
    ),
    "nothing known": ("colour = 1\nshape = 2\n", ('FILE:1: unknown setting "colour"',)),
    "no role": (
        'log_level = "INFO"\n',
        (
            "neither server nor client is enabled (set server { enabled = true } or client { enabled = true })",
            "data_dir is needed (an absolute path that drover may write to)",
        ),
    ),
    "prose": ("hello world\n", ('FILE:1: expected "{" or a label after hello, found the end of the line',)),
    "half a json": ('{"data_dir": ', ("FILE:1: expected a JSON value, found the end of the file",)),
    "binary": (bytes(range(256)), ("FILE:1: a NUL byte: this is a binary file (a text file was expected)",)),
    "latin-1": (
        'name = "é"'.encode("latin-1"),
        ("FILE:1: not UTF-8 text: byte 0xe9 (a text file in UTF-8 was expected)",),
    ),
    "deep": ("client { meta { a = " + "[" * 5000, ("FILE: nested too deeply",)),
}


def sound(
    home: Path, consul: ConsulServer, *, data_dir: Path | str = "", bind: str = "127.0.0.1", at: str = ""
) -> str:
    """An agent's file of eleven lines that is right. at: Consul's address instead of the real one."""
    return f"""data_dir = "{data_dir or home / "data"}"
bind_addr = "{bind}"
addresses {{
  http = "{bind}"
}}
consul {{
  address = "{at or consul.http_addr}"
}}
server {{
  enabled = true
}}
"""


def with_port(text: str, port: int) -> str:
    return f"{text}ports {{\n  http = {port}\n}}\n"


@pytest.fixture
def before(consul: ConsulServer) -> Iterator[dict[str, int]]:
    """Consul's keys before; they must be the same afterwards."""
    found = keys(consul)
    yield found
    assert keys(consul) == found


def start(home: Path, text: str | bytes = b"", name: str = "agent.hcl") -> Done:
    if text:
        (home / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return drover("agent", "-config", name, cwd=home)


@pytest.mark.parametrize("what", WRONG, ids=[what.replace(" ", "-") for what in WRONG])
def test_a_wrong_configuration_is_refused_line_by_line(
    what: str, consul: ConsulServer, before: dict[str, int], tmp_path: Path
) -> None:
    text, faults = WRONG[what]
    if isinstance(text, str) and text.startswith("..."):
        text = sound(tmp_path, consul) + text[3:].replace("HOME", str(tmp_path)) + "\n"
    (tmp_path / "agent.hcl").write_bytes(text.encode() if isinstance(text, str) else text)
    lines = [line.replace("FILE", "agent.hcl").replace("HOME", str(tmp_path)) for line in faults]
    refused(start(tmp_path), *lines)
    assert not (tmp_path / "data").exists()


def test_a_configuration_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo.hcl")
    reasons = {
        "missing.hcl": "cannot be read: No such file or directory",
        "folder": "the directory holds no *.hcl or *.json",
        "fifo.hcl": "not a regular file (a file was expected)",
        "/dev/zero": "not a regular file (a file was expected)",
        "/proc/self/mem": "cannot be read: Input/output error",
    }
    for name, reason in reasons.items():
        refused(start(tmp_path, name=name), f"{name}: {reason}")


def test_a_data_dir_that_cannot_be_written_says_why(
    consul: ConsulServer, before: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "data"
    refused(
        start(tmp_path, sound(tmp_path, consul, data_dir=below)),
        f"agent.hcl:1: data_dir: {below} is not writable: {tmp_path}/file is no directory",
    )
    # Not even root may write there: it stands for a directory without permission.
    refused(
        start(tmp_path, sound(tmp_path, consul, data_dir="/proc/drover")),
        "agent.hcl:1: data_dir: /proc/drover is not writable: No such file or directory",
    )
    refused(
        start(tmp_path, sound(tmp_path, consul, data_dir="data")),
        'agent.hcl:1: data_dir: expected an absolute path, found "data"',
    )


def test_a_data_dir_in_use_by_another_agent_is_refused(
    consul: ConsulServer, one: Drover, before: dict[str, int], tmp_path: Path
) -> None:
    refused(
        start(tmp_path, sound(tmp_path, consul, data_dir=one.data_dir)),
        f"data_dir: {one.data_dir} is in use by another drover agent",
    )


def test_an_unreachable_consul_is_named(consul: ConsulServer, tmp_path: Path) -> None:
    refused(
        start(tmp_path, sound(tmp_path, consul, at="127.0.0.1:1")),
        "consul.address: no Consul agent answers at http://127.0.0.1:1 (is it running?)",
    )


def test_what_listens_but_is_no_consul_is_named(consul: ConsulServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        where = f"127.0.0.1:{mute.getsockname()[1]}"
        refused(
            start(tmp_path, sound(tmp_path, consul, at=where)),
            f"consul.address: no Consul agent answers at http://{where} (is it running?)",
        )


def test_a_port_that_is_taken_or_no_address_of_this_machine_is_named(
    consul: ConsulServer, before: dict[str, int], one: Drover, tmp_path: Path
) -> None:
    refused(
        start(tmp_path, with_port(sound(tmp_path, consul), int(one.address.rpartition(":")[2]))),
        f"ports.http: cannot listen on {one.address}: Address already in use",
    )
    port = free_port()
    # 203.0.113.0/24 is nobody's (RFC 5737); .invalid never resolves (RFC 2606).
    refused(
        start(tmp_path, with_port(sound(tmp_path, consul, bind="203.0.113.9"), port)),
        f"ports.http: cannot listen on 203.0.113.9:{port}: Cannot assign requested address",
    )
    done = start(tmp_path, with_port(sound(tmp_path, consul, bind="nowhere.invalid"), port))
    assert (done.code, len(done.err), done.out) == (1, 1, [])
    assert done.err[0].startswith(f"ports.http: cannot listen on nowhere.invalid:{port}: ")
    assert done.cpu_s < REFUSAL_CPU_S_MAX


def test_wrong_flags_of_the_agent_are_named(consul: ConsulServer, before: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "agent.hcl").write_text(sound(tmp_path, consul))
    cases = {
        ("-log-level", "LOUD"): (f'command line: log_level: unknown log level "LOUD" (known: {LEVELS})',),
        ("-consul-address", "nope:port"): ('command line: consul.address: "nope:port" is no address (expected host:port)',),
        ("-data-dir", "here"): ('command line: data_dir: expected an absolute path, found "here"',),
        ("-nope",): ("drover: unrecognized arguments: -nope (did you mean -node?)", "See 'drover -h'."),
    }
    for flags, lines in cases.items():
        done = drover("agent", "-config", "agent.hcl", *flags, cwd=tmp_path)
        refused(done, *lines)
