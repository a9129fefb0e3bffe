"""What values do expressions have? Expected values are Nomad's."""

import pytest

import jobspec
from model.errors import JobspecError
from tests.unit.jobspec.builders import config_value, job_text

VALUES = {
    "newline escape": (r'"a\nb"', "a\nb"),
    "unicode escapes": (r'"\t\u00e9\U0001F600"', "\té😀"),
    "quote and backslash": (r'"say \"hi\" C:\\x"', 'say "hi" C:\\x'),
    "dollar escape": ('"$${HOME} %%{x}"', "${HOME} %{x}"),
    "lone dollar and percent": ('"5$ 10% $x"', "5$ 10% $x"),
    "hash inside a string": ('"a # b // c"', "a # b // c"),
    "decomposed letter is composed": ('"e\u0301"', "é"),
    "heredoc keeps its last newline": ("<<EOT\nline\nEOT", "line\n"),
    "heredoc with indented end mark": ("<<EOT\nline\n    EOT", "line\n"),
    "heredoc line that ends with the mark": ("<<END\nBEGIN and END\nmore\nEND", "BEGIN and END\nmore\n"),
    "heredoc knows no backslash": ('<<EOT\na\\nb "q"\nEOT', 'a\\nb "q"\n'),
    "empty heredoc": ("<<EOT\nEOT", ""),
    "heredoc keeps carriage returns": ("<<EOT\r\na\r\nEOT", "a\r\n"),
    "flush heredoc takes the common indentation": ("<<-EOT\n    a\n      b\n    EOT", "a\n  b\n"),
    "flush heredoc counts tabs as one": ("<<-EOT\n\t\ta\n\t\t\tb\n\t\tEOT", "a\n\tb\n"),
    "flush heredoc ignores blank lines": ("<<-EOT\n    a\n\n    b\n    EOT", "a\n\nb\n"),
    "heredoc in a list": ('["-c", <<EOT\necho\nEOT\n]', ["-c", "echo\n"]),
    "boolean": ("true", True),
    "number": ("8080", 8080),
    "whole float is an integer": ("1.0", 1),
    "exponent": ("1e3", 1000),
    "leading zero is decimal": ("0755", 755),
    "big integer": ("9007199254740993", 9007199254740993),
    "float": ("1.10", 1.1),
    "null is absent": ("null", None),
    "bare reference": ("NOMAD_ALLOC_ID", "${NOMAD_ALLOC_ID}"),
    "runtime reference": ('"${NOMAD_ALLOC_ID}"', "${NOMAD_ALLOC_ID}"),
    "runtime reference keeps its spaces": ('"${ NOMAD_X }-${  NOMAD_Y}"', "${ NOMAD_X }-${  NOMAD_Y}"),
    "runtime reference with an index": ('"${env["HOME"]}/x"', '${env["HOME"]}/x'),
    "runtime reference with a dash": ('"${foo-bar} ${meta["a-b"]}"', '${foo-bar} ${meta["a-b"]}'),
    "runtime reference in braces": (r'"{ \"p\": ${NOMAD_PORT_http} }"', '{ "p": ${NOMAD_PORT_http} }'),
    "runtime path": ('"${a.b[0].c}"', "${a.b[0].c}"),
    "precedence": ("1 + 2 * 3 - 4 / 2", 5),
    "division": ("7 / 2", 3.5),
    "exact decimals": ("0.1 + 0.2", 0.3),
    "modulo": ("10 % 4", 2),
    "negation": ("-(3 - 5)", 2),
    "comparison and logic": ("5 > 3 && 2 < 1 || !(1 == 2)", True),
    "equality knows types": ('"1" == 1', False),
    "conditional": ('true ? "a" : "b"', "a"),
    "conditional with one type": ('true ? 1 : "b"', "1"),
    "conditional with a bool and a text": ('false ? "b" : true', "true"),
    "conditional with a null": ("true ? 1 : null", 1),
    "conditional whose other side has no value": ("true ? 1 : local.nope", 1),
    "conditional of lists": ('true ? [1] : ["a"]', ["1"]),
    "conditional of lists of two lengths": ('true ? [1, true] : ["a"]', ["1", "true"]),
    "conditional with an empty list": ("true ? [] : [1]", []),
    "conditional with a set": ('true ? ["b", "a", "b"] : setunion(["c"])', ["a", "b"]),
    "conditional of objects": ('[true ? { a = 1 } : { a = "x" }]', [{"a": "1"}]),
    "conditional of objects as maps": ('[true ? { a = 1 } : { b = "x" }]', [{"a": "1"}]),
    "conditional with an empty object": ("[false ? {} : { a = [1], b = [2] }]", [{"a": [1], "b": [2]}]),
    "conditional deep": ('[true ? { a = [1, 2] } : { a = [null, "x"] }]', [{"a": [1, "2"]}]),
    "deep parentheses": ("(" * 5000 + "1" + ")" * 5000, 1),
    "parentheses and operators": ("((1 + 2) * (3)) + 1", 10),
    "nested calls": ('join(",", concat(["a"], ["b"]))', "a,b"),
    "spread": ("min([4, 2, 8]...)", 2),
    "for list": ('[for x in ["a", "b"] : upper(x)]', ["A", "B"]),
    "for list with index and condition": ('[for i, x in ["a", "b"] : "${i}${x}" if i > 0]', ["1b"]),
    "index": ('["a", "b"][1]', "b"),
    "old index": ("[[1, 2]].0.1", 2),
    "attribute of an object": ("[{ n = { m = 5 } }][0].n.m", 5),
    "full splat": ('[{ n = "a" }, { n = "b" }][*].n', ["a", "b"]),
    "old splat": ('[{ n = "a" }].*.n', ["a"]),
    "object is a list of one map": ('{ a : 1, "b" = 2 }', [{"a": 1, "b": 2}]),
    "object over lines": ("{\n a = 1\n b = 2\n}", [{"a": 1, "b": 2}]),
    "inner object stays a map": ("{ a = { b = 1 } }", [{"a": {"b": 1}}]),
    "computed map stays a map": ('{ for x in ["a"] : x => 1 }', {"a": 1}),
    "grouping for": ('{ for x in ["a", "a"] : x => 1... }', {"a": [1, 1]}),
    "number in a string stays a string": ('"8080"', "8080"),
    "name that starts like a keyword": ("trueish", "${trueish}"),
    "empty map": ("{}", [{}]),
    "block beside an argument of its name": ("{ b = 2 }\nv {\n a = 1\n}", [{"a": 1}]),
    "empty list and map": ("[[], {}]", [[], {}]),
    "list with comments": ('[\n "a", # one\n // two\n "b", /* three */\n]', ["a", "b"]),
    "directive if": ('"%{ if 1 == 1 }yes%{ else }no%{ endif }"', "yes"),
    "directive for": ('"%{ for x in ["a", "b"] }[${x}]%{ endfor }"', "[a][b]"),
    "trim marks": ('"a  ${~ "b" ~}  c"', "abc"),
    "trim marks in a heredoc": ("<<EOT\n%{ for x in [1, 2] ~}\nn ${x}\n%{ endfor ~}\nEOT", "n 1\nn 2\n"),
    "nested interpolation": ('"${"${"x"}"}"', "x"),
    "interpolated number stays a number": ('"${5}"', 5),
    "try": ('try(local.nope, "fallback")', "fallback"),
    "can": ("can(local.nope)", False),
    "convert": ('convert("5", number) + 1', 6),
}


@pytest.mark.parametrize(("expression", "expected"), VALUES.values(), ids=VALUES.keys())
def test_an_expression_has_nomads_value(expression: str, expected: object) -> None:
    value = config_value(expression)
    assert value == expected
    assert type(value) is type(expected)


FAULTS = {
    "attribute set twice": ("1\nv = 2", '"v" is set twice (first on line'),
    "newline in a string": ('"a\nb"', "a quoted string ends on its line"),
    "unterminated string": ('"abc', "a quoted string ends on its line"),
    "unterminated heredoc": ("<<EOT\nabc", "expected EOT on a line of its own"),
    "unknown escape": (r'"\q"', "unknown escape"),
    "bad unicode escape": (r'"\u12"', "4 hexadecimal digits"),
    "single quotes": ("'a'", "use double quotes"),
    "curly quotes": ("“a”", "plain double quotes"),
    "missing comma": ('["a" "b"]', 'expected "," or "]"'),
    "unclosed parenthesis": ("(1", 'expected ")"'),
    "half a conditional": ("true ? 1", 'expected ":"'),
    "unclosed directive": ('"%{ if true }x"', "endif"),
    "stray endif": ('"x%{ endif }"', "closes nothing"),
    "empty interpolation": ('"${}"', "expected a value"),
    "two values in an interpolation": ('"${a b}"', "expected } at the end"),
    "quoted argument": ('1\n"com.example" = 1', "not quoted"),
    "dotted argument": ("1\ncom.example = 1", 'found "."'),
    "hexadecimal": ("0x1F", "expected the end of the line"),
    "unknown function": ('uper("a")', 'no function "uper" (did you mean "upper"?)'),
    "too few arguments": ("upper()", "1 arguments required, found 0"),
    "wrong argument": ("join(1, 2)", "list required, found a number"),
    "division by zero": ("1 / 0", "division by zero"),
    "sum of texts": ('"a" + 1', 'number required, found "a"'),
    "index out of range": ("[1][3]", "index 3 is out of range"),
    "no such element": ("{ a = 1 }.b", 'no element "b"'),
    "unknown variable": ("var.x", 'var has no "x"'),
    "conditional of an object and a text": (
        'true ? { a = 1 } : "a"',
        "Inconsistent conditional result types: an object and a string",
    ),
    "conditional of a text and an object": (
        'false ? { a = 1 } : "a"',
        "Inconsistent conditional result types: an object and a string",
    ),
    "conditional of a list and an object": ("true ? [] : {}", "Inconsistent conditional result types"),
    "conditional of a number and a bool": ("true ? 1 : false", "Inconsistent conditional result types"),
    "conditional of unlike maps": (
        "true ? { a = 1 } : { a = 1, b = [] }",
        "Inconsistent conditional result types",
    ),
    "conditionals over a lot": (
        "[for a in range(1000) : [for b in range(1000) : true ? [a, b] : [b, a]]]",
        "computes too much",
    ),
    "condition that is none": ('"x" ? 1 : 2', "a condition must be true or false"),
    "list in a text": ('"a${[1]}"', "cannot stand in a text"),
    "double key": ('{ for x in ["a", "a"] : x => 1 }', "comes up twice"),
    "deep value": ("[" * 300 + "]" * 300, "nested too deeply"),
    "many signs": ("-" * 10_000 + "1", "too many signs"),
    "huge number": ("1e999999999", "too large"),
    "endless loops": (
        "[for a in range(1000) : [for b in range(1000) : [for c in range(1000) : c]]]",
        "computes too much",
    ),
}


@pytest.mark.parametrize(("expression", "expected"), FAULTS.values(), ids=FAULTS.keys())
def test_a_wrong_expression_is_refused_with_its_line(expression: str, expected: str) -> None:
    with pytest.raises(JobspecError) as caught:
        config_value(expression)
    first = caught.value.faults[0]
    assert expected in first.message
    assert first.where.startswith("web.hcl:")


def test_a_fault_names_line_and_column_of_the_wrong_part() -> None:
    with pytest.raises(JobspecError) as caught:
        jobspec.parse(b'job "x" {\n  datacenters = ["a",\n    upper(1, 2)]\n}\n', file="x.hcl")
    assert [fault.where for fault in caught.value.faults] == ["x.hcl:3:5"]


def test_file_functions_look_beside_the_job_file(tmp_path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    text = job_text(config='v = [file("a.txt"), fileexists("b.txt"), fileset(".", "*.txt")]')
    document = jobspec.parse(text, file=str(tmp_path / "web.hcl"))
    assert document["TaskGroups"][0]["Tasks"][0]["Config"]["v"] == ["hello", False, ["a.txt"]]


def test_file_functions_are_unknown_to_texts_from_the_network(tmp_path) -> None:
    with pytest.raises(JobspecError, match='no function "file"'):
        jobspec.parse(job_text(config='v = file("/etc/passwd")'), file="web.hcl", reads_files=False)
