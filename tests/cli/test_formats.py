"""What `-t` makes of an answer: Go's templates over the same document that `-json` prints."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.main import _build
from tests.cli.command import Run, drover, file, refused
from tests.e2e.drover import Drover

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def test_a_template_says_what_it_likes_of_jobs(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    one.wait_running("web", 2)
    assert run("job", "status", "-t", "{{ range . }}{{ .ID }} {{ .Priority }}{{ end }}").shown == (0, ["web 50"], [])
    of_one = "{{ .Name }} {{ .Stop }} {{ .Version }} {{ .ParentID }}|{{ .Datacenters }} {{ (index .TaskGroups 0).Count }} {{ .Nothing }}"
    assert run("job", "status", "-t", of_one, "web").shown == (0, ["web false 0 |[dc1] 2 <no value>"], [])
    for words in (("job", "inspect"), ("inspect",), ("status",)):
        assert run(*words, "-t", '{{ .ID | printf "%-6s|" }}', "web").shown == (0, ["web   |"], [])
    told = json.loads("\n".join(run("job", "status", "-json", "web").out))
    assert json.loads("\n".join(run("job", "status", "-t", "{{ toJSON . }}", "web").out)) == told


@pytest.mark.parametrize(
    ("words", "template", "line"),
    [
        (("node", "status"), "{{ range . }}{{ .Status }}{{ end }}", "ready"),
        (("node", "meta", "read"), "{{ len .Dynamic }}", "0"),
        (("server", "members"), "{{ len . }}", "1"),
        (("namespace", "list"), "{{ range . }}{{ .Name }}{{ end }}", "default"),
        (("namespace", "status", "default"), "{{ .Name }}", "default"),
        (("namespace", "inspect", "default"), "{{ .Name }}", "default"),
        (("brake", "status"), "{{ .Engaged }}", "false"),
        (("vault", "status"), "{{ .Enabled }}", "false"),
        (("deployment", "list"), "{{ len . | lt -1 }}", "true"),
        (("alloc", "status"), "{{ len . | lt -1 }}", "true"),
        (("operator", "scheduler", "get-config"), "{{ .SchedulerConfig.SchedulerAlgorithm }}", "binpack"),
        (("rebalance", "-dry-run"), "{{ len . }}", "0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_each_command_that_has_json_has_templates(words: tuple[str, ...], template: str, line: str, run: Run) -> None:
    assert run(*words, "-t", template).shown == (0, [line], [])


def test_no_command_that_prints_an_answer_in_json_lacks_templates() -> None:
    def commands(parser: Any) -> Iterator[Any]:
        below = [action for action in parser.whole()._actions if isinstance(action, argparse._SubParsersAction)]
        for action in below:
            for one in action.choices.values():
                yield from commands(one)
        if not below:
            yield parser

    printing = [c for c in commands(_build()) if any(a.dest == "json" and a.help == "print the API's JSON" for a in c._actions)]
    assert len(printing) > 20
    assert [c.prog for c in printing if not any(a.dest == "template" for a in c._actions)] == []


def test_json_and_a_template_exclude_one_another() -> None:
    refused(drover("job", "status", "-json", "-t", "{{ . }}"), "Error: Both json and template formatting are not allowed")


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{{ .ID", "format:1:1: unclosed action"),
        ("{{ nothing }}", 'format:1:4: function "nothing" not defined'),
        ("{{ range . }}{{ .Status.more }}{{ end }}", "format:1:17: <.Status.more>: can't evaluate field more in type string"),
        ("{{ key `a` }}", "format:1:4: <key>: error calling key: there is nothing to look up here"),
    ],
)
def test_a_wrong_template_is_told_in_one_line(template: str, line: str, run: Run) -> None:
    refused(run("node", "status", "-t", template), f"Error: Error formatting the data: template: {line}")
