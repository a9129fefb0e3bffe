"""What the last shell before a task does for it."""

import os
import subprocess
from pathlib import Path

import pytest

from agent.drivers import becoming
from model.errors import TaskRefused

VALUES = {"PLAIN": "it's $HOME `id`\n\"x\" \\ é", "EMPTY": "", "odd.name": "a=b", "1c": "y", "OPTIND": "none", "IFS": "/", "PATH": "/usr/bin:/bin"}


def run(env: dict[str, str], *argv: str) -> dict[str, str]:
    """The environment that a command started so has."""
    with becoming.handed(env) as given:
        os.set_inheritable(given, True)
        done = subprocess.run(
            ["/bin/sh", f"/dev/fd/{given}", *argv],
            env={becoming.MARK: "1", "AGENT": "own"}, pass_fds=(given,), capture_output=True, check=True,
        )  # fmt: skip
    pairs = [entry.partition(b"=") for entry in done.stdout.split(b"\0") if entry]
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def test_every_value_comes_through_and_the_mark_does_not() -> None:
    found = run(VALUES, "/usr/bin/env", "-0")
    assert {name: found.get(name) for name in VALUES} == VALUES
    assert found["AGENT"] == "own"
    assert becoming.MARK not in found
    assert becoming.MARK not in run({"PATH": "/usr/bin"}, "/usr/bin/env", "-0")


@pytest.mark.parametrize("name", ["", "a=b", "a\0b"])
def test_what_is_no_variable_is_refused(name: str) -> None:
    with pytest.raises(TaskRefused), becoming.handed({name: "x"}):
        pass


@pytest.mark.parametrize(("given", "expected"), [("-900", "0"), ("0", "0"), ("300", "300")])
def test_a_protection_from_the_oom_killer_is_the_agents_alone(tmp_path: Path, given: str, expected: str) -> None:
    score = tmp_path / "score"
    score.write_text(f"{given}\n")
    script = becoming._USUAL_SCORE.replace("/proc/self/oom_score_adj", str(score))
    subprocess.run(["/bin/sh", "-c", script], check=True)
    assert score.read_text() == f"{expected}\n"
    assert becoming._USUAL_SCORE in becoming._script({}).decode()
