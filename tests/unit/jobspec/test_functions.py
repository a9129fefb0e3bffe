"""Does a job file know Nomad's functions, all of them and no other?"""

import subprocess
import sys

import pytest

from jobspec.files import file_functions
from jobspec.functions import FUNCTIONS
from tests.unit.jobspec import (
    test_files,
    test_functions_collections,
    test_functions_others,
    test_functions_texts,
)
from tests.unit.jobspec.calls import fault_of, value_of

NOMADS = """
    abs base64decode base64encode bcrypt can ceil chomp chunklist cidrhost cidrnetmask cidrsubnet cidrsubnets coalesce
    coalescelist compact concat contains convert csvdecode distinct element flatten floor format formatdate formatlist
    indent index join jsondecode jsonencode keys length log lookup lower max md5 merge min parseint pow range reverse
    replace regex_replace rsadecrypt setintersection setproduct setunion sha1 sha256 sha512 signum slice sort split
    strlen strrev substr timeadd title trim trimprefix trimspace trimsuffix try upper urlencode uuidv4 uuidv5 values
    yamldecode yamlencode zipmap
    abspath basename dirname file filebase64 fileexists fileset pathexpand
"""
EVALUATED = {"can", "convert", "try"}


def test_the_functions_are_nomads(tmp_path) -> None:
    assert {*FUNCTIONS, *file_functions(tmp_path), *EVALUATED} == set(NOMADS.split())


def test_every_function_has_an_example(tmp_path) -> None:
    shown = {
        *test_functions_collections.EXAMPLES,
        *test_functions_texts.EXAMPLES,
        *test_functions_others.EXAMPLES,
        *test_files.EXAMPLES,
        *EXAMPLES,
    }
    assert shown == {*FUNCTIONS, *file_functions(tmp_path), *EVALUATED}


EXAMPLES = {
    "can": [
        ("can(1 / 0)", False),
        ("can({ a = 1 }.b)", False),
        ("can({ b = 1 }.b)", True),
    ],
    "convert": [
        ('convert(3, string)', "3"),
        ('convert("1", number)', 1),
        ('convert(["b", "a", "b"], set(string))', ["a", "b"]),
        ('convert({ a = "1" }, map(number))', {"a": 1}),
        ('convert({ a = 1, c = 2 }, object({ a = string }))', {"a": "1"}),
    ],
    "try": [
        ('try({ a = 1 }.b, "fallback")', "fallback"),
        ("try(1, 2)", 1),
        ('try(upper(1, 2), 1 / 0, [for x in 5 : x], "last")', "last"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), [case for cases in EXAMPLES.values() for case in cases])
def test_what_takes_expressions_gives_nomads_answer(expression: str, expected: object) -> None:
    assert value_of(expression) == expected


def test_convert_and_try_say_what_is_wrong() -> None:
    assert "number required" in fault_of('convert("a", number)')
    assert '"text" is no type' in fault_of("convert(1, text)")
    assert "no argument has a value" in fault_of("try(1 / 0)")


@pytest.mark.parametrize("name", ["tostring", "regex", "templatefile", "timestamp", "sum", "startswith"])
def test_what_only_other_dialects_know_is_unknown(name: str) -> None:
    assert f'there is no function "{name}"' in fault_of(f'{name}("a")')


def test_heavy_libraries_are_loaded_by_the_call_that_needs_them() -> None:
    code = (
        "import sys, jobspec.functions;"
        "sys.exit(' '.join(sys.modules.keys() & {'yaml', 'cryptography', 'bcrypt'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).stderr == b"\n"
