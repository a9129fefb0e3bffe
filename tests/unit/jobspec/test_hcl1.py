"""The language before Nomad 1.0: what its texts, numbers, lists, maps and blocks mean, and what is no HCL1."""

from typing import Any

import pytest

import jobspec
from jobspec import JobspecError


def read(text: str) -> dict[str, Any]:
    return jobspec.parse(text.encode(), file="x.hcl", is_hcl1=True)


def config(text: str) -> dict[str, Any]:
    """The driver configuration that `text` makes."""
    document = read(f'job "j" {{\n group "g" {{\n task "t" {{\n driver = "d"\n config {{\n{text}\n}}\n}}\n}}\n}}\n')
    found: dict[str, Any] = document["TaskGroups"][0]["Tasks"][0]["Config"]
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('v = "a\\nb\\t\\u00e9\\x41\\101"', "a\nb\té" + "AA"),
        ('v = "say \\"hi\\" C:\\\\x"', 'say "hi" C:\\x'),
        ('v = "$${HOME} $5 100%{x}"', "$${HOME} $5 100%{x}"),
        ('v = "${env["HOME"]}/${ {a} }"', '${env["HOME"]}/${ {a} }'),
        ("v = 0755", 493),
        ("v = -0x1F", -31),
        ("v = 1.5e3", 1500),
        ("v = -2.50", -2.5),
        ("v = true", True),
        ('v = "true"', "true"),
        ("v = [1, [2, [3]], true,]", [1, [2, [3]], True]),
        ("v = [\n1, # one\n// two\n2\n]", [1, 2]),
        ("v = []", []),
        ("v = {}", [{}]),
        ("v = { a = 1 }", [{"a": 1}]),
        ("v { a = 1 }", [{"a": 1}]),
        ("v { a = 1 }\nv = { b = 2 }", [{"a": 1}, {"b": 2}]),
        ('v "x" { a = 1 }\nv "y" "z" { a = 2 }', [{"x": [{"a": 1}]}, {"y": [{"z": [{"a": 2}]}]}]),
        ("v = [{ a = { b = [1] } }, { c = 2 }]", [{"a": [{"b": [1]}]}, {"c": 2}]),
        ('v { "com.example" = "x"\n com.other = "y" }', [{"com.example": "x", "com.other": "y"}]),
        ("v = 1\nv = 2", 2),
        ("v = 1 w = 2", 1),
        ("v = <<E\nline\nE\n", "line\n"),
        ("v = <<E\nline\n    E\n", "line\n    "),
        ("v = <<END\nBEGIN and END\nEND\n", "BEGIN and END\n"),
        ("v = <<-E\n    a\n      b\n    E\n", "a\n  b\n"),
        ("v = <<-E\n  a\n      b\n    E\n", "  a\n      b\n"),
        ("v = <<E\na\r\nb\r\nE\r\n", "a\nb\n"),
        ("v = <<E\nE\n", ""),
        ("v = /* c */ 1", 1),
    ],
)
def test_a_value_is_read_as_the_first_hcl_means_it(text: str, value: object) -> None:
    assert config(text)["v"] == value


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("v = trueish", "6:5", 'unknown word "trueish"'),
        ("v = null", "6:5", 'unknown word "null"'),
        ("v = [a]", "6:6", 'unknown word "a"'),
        ("v = 1 + 2", "6:7", 'unexpected character "+"'),
        ('v = upper("a")', "6:10", 'unexpected character "("'),
        ("v = { a : 1 }", "6:9", 'unexpected character ":"'),
        ("v = 089", "6:5", "no octal number"),
        ('v = "a\nb"', "6:5", "not closed on its line"),
        ('v = "\\q"', "6:6", "unknown escape sequence"),
        ('v = "${a"', "6:5", "not closed"),
        ("v = <<E\nnothing", "6:5", "heredoc is not closed"),
        ("v = <<\nE", "6:5", "a heredoc begins with"),
        ("v = [1 2]", "6:8", "one comma"),
        ("v = [,1]", "6:6", "one comma"),
        ("v = ]", "6:5", '"]" does not belong here'),
        ("5 = 1", "6:1", "a name or a text in double quotes"),
        ("/* for ever", "6:1", "the comment is not closed"),
        ("v = " + "[" * 200, "6:", "nested too deeply"),
        ("v = 1e999999999", "6:5", "too large"),
    ],
)
def test_what_is_no_hcl1_is_refused_where_it_stands(text: str, where: str, message: str) -> None:
    with pytest.raises(JobspecError) as caught:
        config(text)
    (fault,) = caught.value.faults
    assert fault.where.startswith(f"x.hcl:{where}")
    assert message in fault.message


def test_the_file_may_end_too_early_or_hold_something_else() -> None:
    for text, message in (
        ('job "j" {', "ends inside"),
        ("", "empty"),
        ('group "g" {}', 'unknown block "group"'),
        ('variable "x" {}', "HCL1 has no variable"),
        ('job "j" {}\njob "k" {}', "only one job"),
        ("job = 1", "unknown argument"),
    ):
        with pytest.raises(JobspecError, match=message):
            read(text)


def test_maps_of_text_are_put_together_and_their_booleans_are_digits() -> None:
    document = read('job "j" {\n meta { a = true\n b = 1.50 }\n meta { c = "x" }\n}')
    assert document["Meta"] == {"a": "1", "b": "1.5", "c": "x"}


def test_a_single_value_stands_for_a_list_of_it_and_the_last_of_two_counts() -> None:
    document = read('job "j" {\n datacenters = "dc1"\n priority = "40"\n priority = 60\n}')
    assert (document["Datacenters"], document["Priority"]) == (["dc1"], 60)


def test_blocks_and_objects_labels_and_keys_are_the_same() -> None:
    blocks = read('job "j" { group "g" { count = 2 } group "h" { } }')
    objects = read('"job" = { "j" = { group = { g = { count = 2 } h = {} } } }')
    listed = read('job = [{ j = { group = [{ g = { count = 2 } }, { h = {} }] } }]')
    assert [g["Name"] for g in blocks["TaskGroups"]] == ["g", "h"]
    assert dict(blocks) == dict(objects) == dict(listed)


def test_a_fault_of_meaning_names_line_and_path() -> None:
    with pytest.raises(JobspecError) as caught:
        read('job "j" {\r\n group "g" {\r\n  count = "many"\r\n  task { driver = "x" }\r\n }\r\n}\r\n')
    assert [(f.where, f.path) for f in caught.value.faults] == [
        ("x.hcl:3:11", "job.j.group.g.count"),
        ("x.hcl:4:3", "job.j.group.g.task"),
    ]
