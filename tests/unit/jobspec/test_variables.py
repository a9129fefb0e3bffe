"""Where do variables and locals get their values from?"""

import pytest

import jobspec
from model.errors import JobspecError
from tests.unit.jobspec.builders import job_text


def value(top: str, expression: str = "var.x", **parse: object) -> object:
    document = jobspec.parse(job_text(top=top, config=f"v = {expression}"), file="web.hcl", **parse)
    return document["TaskGroups"][0]["Tasks"][0]["Config"].get("v")


def faults(top: str, expression: str = "var.x", **parse: object) -> list[str]:
    with pytest.raises(JobspecError) as caught:
        value(top, expression, **parse)
    return [str(fault) for fault in caught.value.faults]


STRING = 'variable "x" {\n type = string\n default = "d"\n}'


def test_the_default_counts_when_nothing_is_given() -> None:
    assert value(STRING) == "d"


def test_environment_files_and_arguments_override_in_that_order() -> None:
    environ = {"NOMAD_VAR_x": "environment", "NOMAD_VAR_unknown": "ignored"}
    file = ("a.hcl", b'x = "file"')
    assert value(STRING, environ=environ) == "environment"
    assert value(STRING, environ=environ, var_files=[file]) == "file"
    assert value(STRING, environ=environ, var_files=[file, ("b.hcl", b'x = "later"')]) == "later"
    assert value(STRING, environ=environ, var_files=[file], variables={"x": "argument"}) == "argument"


def test_a_variable_file_may_be_json() -> None:
    assert value(STRING, var_files=[("a.json", b'{"x": "json"}')]) == "json"


TYPES = {
    "string is taken as text": ("string", "[1]", "[1]"),
    "number": ("number", "5", 5),
    "bool": ("bool", "true", True),
    "list": ("list(string)", '["a", 1]', ["a", "1"]),
    "set": ("set(string)", '["b", "a", "b"]', ["a", "b"]),
    "map": ("map(number)", '{ a = "1" }', {"a": 1}),
    "object": ("object({ a = string, b = optional(number) })", "{ a = 1 }", {"a": "1", "b": None}),
    "tuple": ("tuple([string, number])", '["a", "2"]', ["a", 2]),
}


@pytest.mark.parametrize(("kind", "text", "expected"), TYPES.values(), ids=TYPES.keys())
def test_a_given_value_is_converted_to_its_type(kind: str, text: str, expected: object) -> None:
    assert value(f'variable "x" {{\n type = {kind}\n}}', variables={"x": text}) == expected


DEFAULT_TYPES = {
    "number": ("1", "5", 5),
    "string": ('"a"', "5", "5"),
    "bool": ("true", "false", False),
    "list": ('["a", 1]', '[5, "6"]', ["5", 6]),
    "object": ('{ a = "x" }', "{ a = 5 }", [{"a": "5"}]),
    "null takes any expression": ("null", '"a"', "a"),
}


@pytest.mark.parametrize(("default", "text", "expected"), DEFAULT_TYPES.values(), ids=DEFAULT_TYPES.keys())
def test_a_variable_without_a_type_has_that_of_its_default(default: str, text: str, expected: object) -> None:
    quoted = text if text[0] in '[{"' else f'"{text}"'
    for top in (f'variable "x" {{\n default = {default}\n}}', f"variables {{\n x = {default}\n}}"):
        for given in (
            {"variables": {"x": text}},
            {"environ": {"NOMAD_VAR_x": text}},
            {"var_files": [("a.hcl", f"x = {quoted}".encode())]},
        ):
            made = value(top, **given)
            wanted = expected[0] if isinstance(expected, list) and isinstance(made, dict) else expected
            assert (made, type(made)) == (wanted, type(wanted)), (top, given)


NO_NUMBERS = {
    "argument": {"variables": {"x": "abc"}},
    "environment": {"environ": {"NOMAD_VAR_x": "abc"}},
    "file": {"var_files": [("a.hcl", b'x = "abc"')]},
}


@pytest.mark.parametrize("given", NO_NUMBERS.values(), ids=NO_NUMBERS.keys())
def test_a_value_that_does_not_fit_the_defaults_type_is_refused(given: dict) -> None:
    for top in ('variable "x" {\n default = 1\n}', "variables {\n x = 1\n}"):
        [fault] = faults(top, **given)
        assert 'number required, found "abc"' in fault


def test_locals_may_refer_to_each_other_in_any_order() -> None:
    top = 'variable "x" {\n default = "v"\n}\nlocals {\n a = "${local.b}!"\n b = upper(var.x)\n}'
    assert value(top, "local.a") == "V!"


WRONG = {
    "no value": ('variable "x" {}', {}, 'the variable "x" has no value'),
    "default of the wrong type": (
        'variable "x" {\n type = number\n default = "http"\n}',
        {},
        "does not fit its type",
    ),
    "default with a reference": ('variable "x" {\n default = var.y\n}', {}, "cannot be used here"),
    "value of the wrong type": (
        'variable "x" {\n type = number\n}',
        {"variables": {"x": "many"}},
        "does not fit",
    ),
    "value that is no expression": (
        'variable "x" {\n type = list(string)\n}',
        {"variables": {"x": "[1"}},
        'expected "," or "]"',
    ),
    "undeclared argument": (STRING, {"variables": {"y": "1"}}, 'declares no variable "y"'),
    "undeclared in a file": (STRING, {"var_files": [("a.hcl", b"y = 1")]}, "a.hcl:1:1"),
    "block in a file": (STRING, {"var_files": [("a.hcl", b"y {}")]}, "arguments only"),
    "unknown type": ('variable "x" {\n type = strring\n default = ""\n}', {}, 'did you mean "string"?'),
    "collection without element type": ('variable "x" {\n type = list\n default = []\n}', {}, "list(string)"),
    "unknown argument": ('variable "x" {\n defualt = 1\n}', {}, 'did you mean "default"?'),
    "declared twice": (
        'variable "x" {\n default = 1\n}\nvariable "x" {\n default = 2\n}',
        {},
        "declared twice",
    ),
    "refused by its validation": (
        'variable "x" {\n default = "a"\n validation {\n condition = length(var.x) > 3\n error_message = "Too short."\n}\n}',
        {},
        "Too short.",
    ),
    "circular locals": ("locals {\n x = local.y\n y = local.x\n}", {}, "in a circle"),
}


def validated(condition: str, message: str = '"Too short."') -> str:
    rule = f"validation {{\n condition = {condition}\n error_message = {message}\n}}"
    return f'variable "y" {{\n default = ""\n}}\nvariable "x" {{\n default = "a"\n {rule}\n}}'


WRONG |= {
    "block in locals": ("locals {\n x = 1\n y {}\n}", {}, 'arguments only, found the block "y"'),
    "block in variables": ("variables {\n x = 1\n y {}\n}", {}, 'arguments only, found the block "y"'),
    "label on locals": ('locals "a" {\n x = 1\n}', {}, "web.hcl:1:8: a locals block has no label"),
    "label on variables": ('variables "a" {\n x = 1\n}', {}, "a variables block has no label"),
    "name that is none": ('variable "a b" {\n default = 1\n}\n' + STRING, {}, '"a b" is no name'),
    "name of a digit": ('variable "1" {\n default = 1\n}\n' + STRING, {}, '"1" is no name'),
    "declared again in short": (STRING + "\nvariables {\n x = 1\n}", {}, "declared twice"),
    "call in a default": ('variable "x" {\n default = upper("a")\n}', {}, "upper() cannot be used here"),
    "try in a default": ('variable "x" {\n default = try("a")\n}', {}, "try() cannot be used here"),
    "call in a file": (STRING, {"var_files": [("a.hcl", b'x = upper("a")')]}, "a.hcl:1:5: upper() cannot"),
    "any": ('variable "x" {\n type = any\n default = 1\n}', {}, "an exact type is required"),
    "list of any": ('variable "x" {\n type = list(any)\n default = []\n}', {}, "an exact type is required"),
    "any inside": (
        'variable "x" {\n type = object({ a = tuple([map(any)]) })\n default = null\n}',
        {},
        "an exact type is required",
    ),
    "default of an attribute": (
        'variable "x" {\n type = object({ a = optional(number, 5) })\n default = {}\n}',
        {},
        "defaults are not supported",
    ),
    "condition about another variable": (
        validated("var.x != var.y"),
        {},
        "can refer to var.x only, found var.y",
    ),
    "condition about the node": (
        validated("var.x != attr.cpu"),
        {},
        "can refer to var.x only, found attr.cpu",
    ),
    "condition about nothing": (validated("1 == 1"), {}, "must refer to var.x"),
    "small message": (validated('var.x == "a"', '"too short."'), {}, "begins with a capital letter"),
    "message without an end": (validated('var.x == "a"', '"Too short"'), {}, "ends with"),
    "empty message": (validated('var.x == "a"', '""'), {}, "ends with"),
    "message with a reference": (validated('var.x == "a"', '"Bad ${var.x}."'), {}, "cannot be used here"),
    "unknown argument in a validation": (
        validated('var.x == "a"', '"No."\n eror = 1'),
        {},
        'unknown argument "eror" in a validation',
    ),
}


@pytest.mark.parametrize("name", ["a-b", "_a", "é1"])
def test_a_name_may_have_letters_digits_and_dashes(name: str) -> None:
    assert value(f'variable "{name}" {{\n default = 1\n}}', f"var.{name}") == 1


@pytest.mark.parametrize(
    "condition",
    ['length([for y in [var.x] : y if y != ""]) == 1', "can(upper(var.x))", 'var.x == "a"'],
)
@pytest.mark.parametrize("message", ['"Why?"', '"1 too many!"', '"É."'])
def test_a_sound_validation_is_accepted(condition: str, message: str) -> None:
    assert value(validated(condition, message)) == "a"


FILE = {"var_files": [("a.hcl", b'\nx = "bb"')]}
PLACES = {
    "the default's": ({}, "web.hcl:5:12"),
    "the file's": (FILE, "a.hcl:2:5"),
    "the variable's, for an argument": (FILE | {"variables": {"x": "c"}}, "web.hcl:4:1"),
    "the variable's, for the environment": ({"environ": {"NOMAD_VAR_x": "c"}}, "web.hcl:4:1"),
}


@pytest.mark.parametrize(("given", "where"), PLACES.values(), ids=PLACES.keys())
def test_a_failed_validation_names_the_place_of_the_value(given: dict, where: str) -> None:
    [fault] = faults(validated("length(var.x) > 3"), **given)
    assert fault == f'{where}: invalid value for variable "x": Too short.'


def test_convert_knows_the_type_any() -> None:
    assert value("locals {\n x = convert([1], list(any))\n}", "local.x") == [1]


def test_a_json_job_file_validates_its_variables() -> None:
    rule = '{"condition": "${var.x != \\"a\\"}", "error_message": "Not a."}'
    text = f'{{"variable": {{"x": {{"default": "a", "validation": {rule}}}}}, "job": {{"web": {{}}}}}}'
    with pytest.raises(JobspecError, match=r"Not a\."):
        jobspec.parse(text.encode(), file="web.json")


@pytest.mark.parametrize(("top", "given", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_variable_is_refused(top: str, given: dict, expected: str) -> None:
    assert expected in faults(top, '"${try(var.x, local.x)}"', **given)[0]


def test_a_broken_local_is_reported_once_however_often_it_is_used() -> None:
    assert len(faults("locals {\n a = upper([])\n b = local.a\n}", "[local.a, local.b]")) == 1
