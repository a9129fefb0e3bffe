"""Which submission document does HCL make?"""

import json

import pytest

import jobspec
from jobspec.schema import STRUCTS
from tests.unit.jobspec.builders import job_text, messages_of


def group(text: bytes) -> dict:
    return jobspec.parse(text, file="web.hcl")["TaskGroups"][0]


def set_fields(document: object) -> object:
    """Without what is unset."""
    if isinstance(document, dict):
        return {
            key: set_fields(item)
            for key, item in document.items()
            if item not in (None, "", 0, False, [], {})
        }
    if isinstance(document, list):
        return [set_fields(item) for item in document]
    return document


def test_unset_pointers_are_null_and_unset_values_zero() -> None:
    document = jobspec.parse(job_text(), file="web.hcl")
    assert document["Priority"] is None
    assert document["Dispatched"] is False
    assert set(document) == {field.json for field in STRUCTS["Job"].fields}
    json.dumps(document)


def test_texts_become_numbers_and_booleans_and_back() -> None:
    text = job_text(
        job='priority = "75"\nall_at_once = "true"',
        group='count = "3"',
        task="env {\n A = true\n B = 1\n C = 1.0\n D = 1.10\n}\nkill_timeout = 20000000000",
    )
    document = jobspec.parse(text, file="web.hcl")
    assert (document["Priority"], document["AllAtOnce"]) == (75, True)
    task = document["TaskGroups"][0]["Tasks"][0]
    assert task["Env"] == {"A": "true", "B": "1", "C": "1", "D": "1.1"}
    assert task["KillTimeout"] == 20_000_000_000


@pytest.mark.parametrize("form", ['env {\n A = "1"\n}', 'env = {\n A = "1"\n}', 'env = { "A" = 1 }'])
def test_env_is_a_block_or_an_argument(form: str) -> None:
    assert group(job_text(task=form))["Tasks"][0]["Env"] == {"A": "1"}


CONSTRAINTS = {
    "plain": ('attribute = "a"\nvalue = "b"', {"LTarget": "a", "RTarget": "b", "Operand": "="}),
    "operator": (
        'attribute = "a"\noperator = ">"\nvalue = "1"',
        {"LTarget": "a", "RTarget": "1", "Operand": ">"},
    ),
    "distinct_hosts": ("distinct_hosts = true", {"Operand": "distinct_hosts"}),
    "distinct_property": (
        'distinct_property = "a"\nvalue = "2"',
        {"LTarget": "a", "RTarget": "2", "Operand": "distinct_property"},
    ),
    "regexp": ('attribute = "a"\nregexp = "^b"', {"LTarget": "a", "RTarget": "^b", "Operand": "regexp"}),
    "version": (
        'attribute = "a"\nversion = ">= 1"',
        {"LTarget": "a", "RTarget": ">= 1", "Operand": "version"},
    ),
    "set_contains": (
        'attribute = "a"\nset_contains = "b,c"',
        {"LTarget": "a", "RTarget": "b,c", "Operand": "set_contains"},
    ),
}


@pytest.mark.parametrize(("body", "expected"), CONSTRAINTS.values(), ids=CONSTRAINTS.keys())
def test_constraint_sugar(body: str, expected: dict) -> None:
    made = group(job_text(group=f"constraint {{\n{body}\n}}"))["Constraints"]
    assert set_fields(made) == [expected]


def test_a_static_port_is_reserved_and_others_are_dynamic() -> None:
    network = group(
        job_text(group='network {\n port "a" { static = 80 }\n port "b" { to = 8080 }\n port "c" {}\n}')
    )["Networks"][0]
    assert set_fields(network["ReservedPorts"]) == [{"Label": "a", "Value": 80}]
    assert set_fields(network["DynamicPorts"]) == [{"Label": "b", "To": 8080}, {"Label": "c"}]


def test_a_task_without_a_group_gets_one_of_its_name() -> None:
    document = jobspec.parse(b'job "j" {\n task "one" {\n driver = "raw_exec"\n}\n}', file="j.hcl")
    assert [(g["Name"], g["Tasks"][0]["Name"]) for g in document["TaskGroups"]] == [("one", "one")]


def test_tasks_inherit_the_vault_block_of_their_group_then_of_the_job() -> None:
    text = b"""job "j" {
      vault { policies = ["job"] }
      group "a" {
        vault { policies = ["group"] }
        task "one" {}
        task "two" {
          vault { policies = ["own"] }
        }
      }
      group "b" {
        task "three" {}
      }
    }"""
    tasks = [t for g in jobspec.parse(text, file="j.hcl")["TaskGroups"] for t in g["Tasks"]]
    assert [t["Vault"]["Policies"] for t in tasks] == [["group"], ["own"], ["job"]]


CONFIGS = {
    "block": ("v {\n a = 1\n}", {"v": [{"a": 1}]}),
    "object": ("v = { a = 1 }", {"v": [{"a": 1}]}),
    "empty": ("v {}\nw = {}", {"v": [{}], "w": [{}]}),
    "repeated block": ("v {\n a = 1\n}\nv {\n a = 2\n}", {"v": [{"a": 1}, {"a": 2}]}),
    "labels": ('v "x" {\n a = 1\n}\nv "y" {\n a = 2\n}', {"v": [{"x": [{"a": 1}]}, {"y": [{"a": 2}]}]}),
    "block over argument": ("v {\n a = 1\n}\nv = { b = 2 }", {"v": [{"a": 1}]}),
    "nested": ("v {\n w {\n a = 1\n}\n}", {"v": [{"w": [{"a": 1}]}]}),
    "list of objects": ("v = [{ a = { b = 1 } }]", {"v": [{"a": {"b": 1}}]}),
}


@pytest.mark.parametrize(("config", "expected"), CONFIGS.values(), ids=CONFIGS.keys())
def test_driver_config_is_lists_of_maps(config: str, expected: dict) -> None:
    assert group(job_text(config=config))["Tasks"][0]["Config"] == expected


def test_dynamic_blocks_are_written_out() -> None:
    text = b"""job "j" {
      dynamic "group" {
        for_each = { api = 2, web = 1 }
        iterator = g
        labels   = ["grp-${g.key}"]
        content {
          count = g.value
          dynamic "task" {
            for_each = ["main", "side"]
            labels   = [task.value]
            content {
              driver = "raw_exec"
              env { WHO = "${g.key}.${task.key}" }
            }
          }
        }
      }
    }"""
    groups = jobspec.parse(text, file="j.hcl")["TaskGroups"]
    assert [(g["Name"], g["Count"]) for g in groups] == [("grp-api", 2), ("grp-web", 1)]
    assert [t["Env"]["WHO"] for g in groups for t in g["Tasks"]] == ["api.0", "api.1", "web.0", "web.1"]


WRONG = {
    "unknown argument": (
        job_text(task="drive = 1"),
        'web.hcl:12:7: job.web.group.cache.task.redis.drive: unknown argument "drive" (did you mean "driver"?)',
    ),
    "unknown block": (
        job_text(task="resourcess {}"),
        'unknown block "resourcess" (did you mean "resources"?)',
    ),
    "argument as a block": (job_text(group="count { }"), "it is an argument: count = …"),
    "block as an argument": (job_text(task="resources = { cpu = 1 }"), "it is a block: resources { … }"),
    "wrong type": (
        job_text(task='resources {\n memory = "many"\n}'),
        'job.web.group.cache.task.redis.resources.memory: number required, found "many"',
    ),
    "list wanted": (job_text(job="meta { a = [] }"), "string required, found a list"),
    "not whole": (job_text(group="count = 1.5"), "whole number between"),
    "too large": (job_text(group="count = 99999999999999999999"), "whole number between"),
    "weight too large": (job_text(group="spread {\n weight = 500\n}"), "between -128 and 127"),
    "null for a text": (job_text(task="user = null"), "string required, found null"),
    "null for a duration": (job_text(task="kill_timeout = null"), "duration required"),
    "duration in hours": (
        job_text(task='kill_timeout = "1hr"'),
        'unknown unit "hr" in duration "1hr" (did you mean "1h"?)',
    ),
    "duration in days": (job_text(task='kill_timeout = "2d"'), '(did you mean "48h"?)'),
    "duration without unit": (job_text(task='kill_timeout = "30"'), '(did you mean "30s"?)'),
    "empty duration": (job_text(task='kill_timeout = ""'), 'invalid duration ""'),
    "double block": (
        job_text(task="resources {}\nresources {}"),
        "only one resources is allowed here (the first is on line 12)",
    ),
    "double env": (job_text(task="env = {}\nenv {}"), "only one env is allowed here"),
    "missing label": (job_text(job="group {}"), "a group block needs a name"),
    "too many labels": (job_text(job='group "a" "b" {}'), "a group block has one label, found 2"),
    "label where none belongs": (job_text(group='restart "x" {}'), "a restart block has no label"),
    "dynamic without for_each": (job_text(group='dynamic "service" {\n content {}\n}'), 'needs "for_each"'),
    "dynamic without content": (
        job_text(group='dynamic "service" {\n for_each = [1]\n}'),
        "one content block",
    ),
    "dynamic of an unknown block": (
        job_text(group='dynamic "frob" {\n for_each = [1]\n content {}\n}'),
        'unknown block "frob"',
    ),
    "dynamic over a number": (
        job_text(group='dynamic "service" {\n for_each = 5\n content {}\n}'),
        "for_each needs a list",
    ),
    "no job": (b"# nothing", "not a job file"),
    "empty": (b" \n", "the file is empty"),
    "two jobs": (b'job "a" {}\njob "b" {}', "only one job block"),
    "argument outside": (b'a = 1\njob "b" {}', "outside of the job block"),
    "unknown top block": (b'jobs "b" {}', 'unknown block "jobs" (did you mean "job"?)'),
    "no name": (b"job {}", "a job block has one label"),
    "two blocks on a line": (b'job "a" { group "b" {} }', "starts on a line of its own"),
    "binary": (b"\x7fELF\0\0", "a NUL byte"),
    "not UTF-8": (b'job "\xff" {}', "not UTF-8"),
    "yaml": (b"version: 3\n", 'an argument is set with "="'),
    "web page": (b"<html>", 'found "<"'),
    "unclosed": (b'job "a" {\n', "a block is not closed"),
    "closed twice": (b'job "a" {\n}\n}\n', "this } closes nothing"),
    "dotted name": (b'job "a" {\n a.b = 1\n}', 'expected "=" or "{"'),
    "quoted name": (b'job "a" {\n "b" = 1\n}', "not quoted"),
    "merge conflict": (b'<<<<<<< HEAD\njob "a" {}\n', 'found "<"'),
    "zero width space": ('job "a" {\n da\u200btacenters = []\n}'.encode(), "U+200B"),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_refused_in_one_line(text: bytes, expected: str) -> None:
    first = messages_of(text)[0]
    assert expected in first
    assert first.startswith("web.hcl:")
    assert "\n" not in first


def test_all_faults_come_at_once_in_the_order_of_the_text() -> None:
    text = job_text(job="bogus = 1", group='count = "x"', task='kill_timeout = "1hr"\nfrob {}')
    lines = [fault.split(": ")[1] for fault in messages_of(text)]
    assert lines == [
        "job.web.bogus",
        "job.web.group.cache.count",
        "job.web.group.cache.task.redis.kill_timeout",
        "job.web.group.cache.task.redis.frob",
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_taken() -> None:
    text = b"\xef\xbb\xbf" + job_text().replace(b"\n", b"\r\n")
    assert jobspec.parse(text, file="web.hcl") == jobspec.parse(job_text(), file="web.hcl")


def test_the_json_form_makes_the_same_document() -> None:
    form = {
        "job": {
            "web": {
                "datacenters": ["dc1"],
                "group": {
                    "cache": {
                        "task": [{"redis": {"driver": "raw_exec", "config": [{"command": "/bin/true"}]}}]
                    }
                },
            }
        }
    }
    assert jobspec.parse(json.dumps(form).encode(), file="web.json") == jobspec.parse(
        job_text(), file="web.hcl"
    )


def test_the_json_form_knows_blocks_lists_and_templates() -> None:
    text = b"""{"job": [{"j": [{
      "constraint": [{"attribute": "${attr.kernel.name}", "value": "linux"}, {"distinct_hosts": true}],
      "group": [{"a": [{"task": [{"t1": {"env": {"U": "${upper(\\"x\\")}-${NOMAD_X}"}}}, {"t2": {}}]}]}, {"b": {"count": "2"}}]
    }]}]}"""
    document = jobspec.parse(text, file="j.json")
    assert [c["Operand"] for c in document["Constraints"]] == ["=", "distinct_hosts"]
    assert [[t["Name"] for t in g["Tasks"] or ()] for g in document["TaskGroups"]] == [["t1", "t2"], []]
    assert document["TaskGroups"][0]["Tasks"][0]["Env"] == {"U": "X-${NOMAD_X}"}
    assert document["TaskGroups"][1]["Count"] == 2


JSON_WRONG = {
    "truncated": (b'{"job": {"a": {', "expected a name in quotes"),
    "a body of the API": (b'{"Job": {"ID": "x"}}', "use -json"),
    "unknown field with its line": (b'{"job": {"a": {\n"bogus": 1}}}', "web.hcl:2:1: job.a.bogus"),
    "deep": (b'{"job":' * 5000, "nested too deeply"),
}


@pytest.mark.parametrize(("text", "expected"), JSON_WRONG.values(), ids=JSON_WRONG.keys())
def test_a_wrong_json_file_is_refused(text: bytes, expected: str) -> None:
    assert expected in messages_of(text)[0]
