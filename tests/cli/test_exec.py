"""`alloc exec`: the command's output and exit code, its input, and a whole session on a terminal."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cli.alloc_exec import Escapes
from tests.cli.command import ROOT, Run, environ
from tests.e2e.drover import Drover, is_alive, job, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.fixture
def alloc(one: Drover) -> str:
    one.submit(marking_job("shell"))
    found: str = one.wait_running("shell", 1)[0]["ID"]
    wait("its process", lambda: one.pids(found))
    return found


def test_a_commands_output_and_exit_code_are_its_own(run: Run, alloc: str) -> None:
    script = "echo out; echo err >&2; exit 3"
    assert run("alloc", "exec", alloc[:8], "/bin/sh", "-c", script).shown == (3, ["out"], ["err"])
    assert run("exec", "-task", "t", alloc, "echo", "-n", "-t", "--", "x").shown == (0, ["-t -- x"], [])
    assert run("alloc", "exec", "-job", "shell", "--", "pwd").out[0].endswith(f"{alloc}/t")
    assert run("alloc", "exec", alloc, "cat", stdin=b"one\ntwo").shown == (0, ["one", "two"], [])
    assert run("alloc", "exec", "-i=false", alloc, "cat", stdin=b"one").shown == (0, [], [])
    big = os.urandom(500_000).hex().encode()
    assert run("alloc", "exec", alloc, "wc", "-c", stdin=big).out == ["1000000"]


def test_what_cannot_be_run_is_told_in_one_line(run: Run, alloc: str) -> None:
    assert run("alloc", "exec", alloc).shown == (1, [], ["Error: A command is required"])
    done = run("alloc", "exec", alloc, "no-such-command")
    assert (done.code, done.out, len(done.err)) == (1, [], 1)
    assert done.err[0].startswith("Error: failed to exec into task: command 'no-such-command' was not found")
    assert run("alloc", "exec", "-task", "u", alloc, "true").err == [f"Error: allocation {alloc[:8]} has no task 'u' (it has t)"]
    assert run("alloc", "exec", "-i=false", "-t", alloc, "true").err == ["Error: -i must be enabled if running with tty"]
    assert run("alloc", "exec", "-e", "ab", alloc, "true").err == ["Error: -e requires 'none' or a single character"]
    assert run("alloc", "exec", "0f0f", "true").err == ["Error: No allocation(s) with prefix or id '0f0f' found"]


def test_a_task_that_does_not_run_is_told(run: Run, one: Drover) -> None:
    one.submit(job("over", "/bin/true", [], job={"Type": "batch"}))
    ended = wait("its end", lambda: [a for a in one.allocs("over") if a["ClientStatus"] == "complete"])[0]["ID"]
    assert run("alloc", "exec", ended, "true").shown == (1, [], ['Error: failed to exec into task: task "t" is not running.'])


class Terminal:
    """A command on a terminal of 24 lines and 80 columns."""

    def __init__(self, one: Drover, *argv: str) -> None:
        self.parent, child = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.parent)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *argv], cwd=ROOT, env=environ(NOMAD_ADDR=f"http://{one.address}"),
            stdin=child, stdout=child, stderr=child, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
        )  # fmt: skip
        os.close(child)
        os.set_blocking(self.parent, False)
        self.shown = b""

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.parent, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, data: bytes) -> None:
        os.write(self.parent, data)

    def until(self, text: bytes) -> bytes:
        def look() -> bool:
            with suppress(OSError):
                self.shown += os.read(self.parent, 65536)
            return text in self.shown

        try:
            wait(f"{text!r} on the terminal", look, 15.0)
        except AssertionError as error:
            raise AssertionError(f"{error}; shown: {self.shown!r}") from None
        return self.shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.parent)


@pytest.fixture
def terminal(one: Drover) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def start(*argv: str) -> Terminal:
        made.append(Terminal(one, *argv))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_a_session_on_a_terminal(terminal: Callable[..., Terminal], alloc: str) -> None:
    shell = terminal("alloc", "exec", alloc, "/bin/sh")
    shell.until(b"# " if os.geteuid() == 0 else b"$ ")
    shell.type(b"stty size; test -t 0 && echo ye''s\n")
    assert b"24 80\r\n" in shell.until(b"yes\r\n")
    shell.resize(40, 120)
    shell.type(b"stty size\n")
    shell.until(b"40 120\r\n")
    shell.type(b"sh -c \"echo beg''un; exec sleep 1006\"\n")
    shell.until(b"begun")
    shell.type(b"\x03")  # to the command, not to drover
    shell.type(b"echo st''ill here\n")
    shell.until(b"still here\r\n")
    shell.type(b"exit 9\n")
    assert shell.process.wait(10) == 9
    assert termios.tcgetattr(shell.parent)[3] == shell.before[3]  # as it was before


def test_the_escape_character_leaves_and_ends_what_ran(terminal: Callable[..., Terminal], alloc: str) -> None:
    shell = terminal("alloc", "exec", alloc, "/bin/sh", "-c", "echo pid=$$; exec sleep 1007")
    pid = int(re.findall(rb"pid=(\d+)\r\n", shell.until(b"\r\n"))[0])
    shell.type(b"~.")
    assert shell.process.wait(10) == 1
    shell.until(b"left by the escape character")
    wait("its end", lambda: not is_alive(pid))
    assert termios.tcgetattr(shell.parent)[3] == shell.before[3]


def test_a_terminal_that_is_closed_ends_what_ran(terminal: Callable[..., Terminal], alloc: str) -> None:
    shell = terminal("alloc", "exec", alloc, "/bin/sh", "-c", "echo pid=$$; trap '' HUP; sleep 1008; sleep 1008")
    pid = int(re.findall(rb"pid=(\d+)\r\n", shell.until(b"\r\n"))[0])
    shell.process.send_signal(signal.SIGKILL)
    wait("its end", lambda: not is_alive(pid))


@pytest.mark.parametrize(
    ("typed", "sent", "is_left"),
    [
        ([b"~."], b"", True),
        ([b"ls\r~."], b"ls\r", True),
        ([b"ls\r", b"~", b"."], b"ls\r", True),
        ([b"ls ~."], b"ls ~.", False),
        ([b"~~."], b"~.", False),
        ([b"~a\r~b"], b"~a\r~b", False),
        ([b"\n~\n~."], b"\n~\n", True),
    ],
)
def test_the_escape_character_counts_after_a_line_break_only(typed: list[bytes], sent: bytes, is_left: bool) -> None:
    escapes = Escapes(b"~")
    found = [escapes.filter(data) for data in typed]
    assert (b"".join(data for data, _ in found), found[-1][1]) == (sent, is_left)
    assert Escapes(b"").filter(b"".join(typed)) == (b"".join(typed), False)


def test_files_are_listed_described_and_printed(run: Run, one: Drover, alloc: str, tmp_path: Path) -> None:
    local = one.task_dir(alloc) / "local"
    (local / "notes").write_text("".join(f"line {number}\n" for number in range(1, 31)))
    (local / "sub").mkdir()
    os.utime(local / "notes", (0, 1_600_000_000))
    os.utime(local / "sub", (0, 1_600_000_000))
    os.chmod(local / "notes", 0o644)
    listed = run("alloc", "fs", alloc, "t/local/").out
    assert listed[:2] == ["Mode        Size     Modified Time         Name", "-rw-r--r--  231 B    2020-09-13T12:26:40Z  notes"]
    assert re.fullmatch(r"drwxr-xr-x  4\.0 KiB +2020-09-13T12:26:40Z  sub/", listed[2])
    assert run("fs", "-H", alloc[:8], "t/local").out[1].split() == ["-rw-r--r--", "231", "2020-09-13T12:26:40Z", "notes"]
    assert run("fs", "-stat", alloc, "t/local/notes").out == [
        "Mode        Size   Modified Time         Content Type               Name",
        "-rw-r--r--  231 B  2020-09-13T12:26:40Z  text/plain; charset=utf-8  notes",
    ]
    assert [line.split()[-1] for line in run("fs", "-job", "shell").out] == ["Name", "alloc/", "t/"]
    whole = [f"line {number}" for number in range(1, 31)]
    assert run("fs", alloc, "t/local/notes").shown == (0, whole, [])
    assert run("fs", "-tail", alloc, "t/local/notes").shown == (0, whole[-10:], [])
    assert run("fs", "-tail", "-n", "2", alloc, "t/local/notes").shown == (0, whole[-2:], [])
    assert run("fs", "-c", "3", alloc, "t/local/notes").shown == (0, ["30"], [])
    assert run("fs", alloc, "t/secrets/x").shown == (1, [], ["Error: Unexpected response code: 403 (Reading secret file prohibited: t/secrets/x)"])
    assert run("fs", alloc, "../..").shown == (1, [], ["Error: Unexpected response code: 400 (Path escapes the alloc directory)"])


def test_a_file_is_followed(terminal: Callable[..., Terminal], one: Drover, alloc: str) -> None:
    path = one.task_dir(alloc) / "local/grows"
    path.write_text("first\nsecond\n")
    shown = terminal("fs", "-f", "-tail", "-n", "1", alloc, "t/local/grows")
    shown.until(b"second\r\n")
    with path.open("a") as file:
        file.write("third\n")
    assert b"first" not in shown.until(b"third\r\n")
    path.unlink()
    assert shown.process.wait(10) == 0


def test_an_agents_log_is_monitored(terminal: Callable[..., Terminal], run: Run, one: Drover) -> None:
    node = one.get("/v1/agent/self")["stats"]["client"]["node_id"]
    shown = {argv: terminal("monitor", "-log-level", "DEBUG", *argv) for argv in ((), ("-node-id", node[:8]), ("-server-id", "leader", "-json"))}
    for argv, each in shown.items():

        def look(each: Terminal = each) -> bool:
            one.run("alloc", "exec", "-job", "shell", "true")
            each.until(b"")
            return b"exec in alloc" in each.shown

        one.submit(marking_job("shell"))
        one.wait_running("shell", 1)
        wait("a line", look)
        assert (b'"@message"' in each.shown) == ("-json" in argv)
        each.type(b"\x03")
        assert each.process.wait(10) == 0
    assert run("monitor", "-log-level", "loud").shown == (1, [], ["Error: Unexpected response code: 400 (Unknown log level: loud)"])
    assert run("monitor", "-node-id", "a", "-server-id", "b").shown == (1, [], ["Error: Cannot target node and server simultaneously"])
