"""What do the functions over texts answer? Examples and edges as published for Nomad."""

from typing import Any

import pytest

from tests.unit.jobspec.calls import Examples, each, fault_of, value_of

EXAMPLES: Examples = {
    "base64decode": [
        ('base64decode("SGVsbG8gV29ybGQ=")', "Hello World"),
        (r'base64decode("SGVs\nbG8=")', "Hello"),
    ],
    "base64encode": [('base64encode("Hello World")', "SGVsbG8gV29ybGQ=")],
    "basename": [
        ('basename("foo/bar/baz.txt")', "baz.txt"),
        ('basename("/")', "/"),
        ('basename("a/")', "a"),
        ('basename("")', "."),
    ],
    "chomp": [
        (r'chomp("hello\n")', "hello"),
        (r'chomp("hello\r\n")', "hello"),
        (r'chomp("hello\n\n")', "hello"),
    ],
    "dirname": [
        ('dirname("foo/bar/baz.txt")', "foo/bar"),
        ('dirname("a")', "."),
        ('dirname("/a/")', "/a"),
        ('dirname("//a/../b/c")', "/b"),
    ],
    "format": [
        ('format("Hello, %s!", "Ander")', "Hello, Ander!"),
        ('format("There are %d lights", 4)', "There are 4 lights"),
        ('format("Hello, %v!", "Valentina")', "Hello, Valentina!"),
        ('format("%v %v %v", true, null, [1, "<"])', 'true null [1,"\\u003c"]'),
        ('format("%v %v %v %v", 5, 1.5, 1000000, 0.00001)', "5 1.5 1e+06 1e-05"),
        ('format("%#v", "a")', '"a"'),
        ('format("%s %s", 1000000, true)', "1000000 true"),
        (
            'format("%05d|%+d|% d|%-4d|%x|%X|%#x|%o|%b", 42, 1, 1, 7, 255, 255, 255, 8, 5)',
            "00042|+1| 1|7   |ff|FF|0xff|10|101",
        ),
        ('format("%-05d|%.3d|%+06d", 42, 7, 42)', "42   |007|+00042"),
        (
            'format("%f|%.2f|%8.3f|%08.2f|%+.1f", 1.5, 2.345, 3.14159, -1.5, 2)',
            "1.500000|2.34|   3.142|-0001.50|+2.0",
        ),
        ('format("%e|%E|%.1e", 1234.5, 0.00012, 15)', "1.234500e+03|1.200000E-04|1.5e+01"),
        ('format("%g|%G|%.3g|%.3g|%g", 100000, 1e21, 1234.5, 100, 0)', "100000|1E+21|1.23e+03|100|0"),
        ('format("%t %t", "true", false)', "true false"),
        ('format("%5s|%-5s|%05s|%.2s", "ab", "ab", "ab", "abc")', "   ab|ab   |000ab|ab"),
        ('format("%3s", "é")', "  é"),
        ('format("%q", "a\\"b<")', '"a\\"b\\u003c"'),
        ('format("%[2]s %[1]s %s", "a", "b")', "b a b"),
        ('format("100%%")', "100%"),
    ],
    "formatlist": [
        (
            'formatlist("Hello, %s!", ["Valentina", "Ander", "Olivia", "Sam"])',
            ["Hello, Valentina!", "Hello, Ander!", "Hello, Olivia!", "Hello, Sam!"],
        ),
        (
            'formatlist("%s, %s!", "Salutations", ["Valentina", "Ander"])',
            ["Salutations, Valentina!", "Salutations, Ander!"],
        ),
        ('formatlist("%s=%s", ["a", "b"], [1, 2])', ["a=1", "b=2"]),
        ('formatlist("%s", [])', []),
        ('formatlist("a")', ["a"]),
    ],
    "indent": [(r'indent(2, "[\n  foo,\n  bar,\n]\n")', "[\n    foo,\n    bar,\n  ]\n  ")],
    "join": [
        ('join(", ", ["foo", "bar", "baz"])', "foo, bar, baz"),
        ('join(", ", ["foo"])', "foo"),
        ('join("-", ["a"], [1, 2])', "a-1-2"),
    ],
    "lower": [('lower("HELLO")', "hello"), ('lower("АЛЛО!")', "алло!"), ('lower("İ")', "İ")],
    "regex_replace": [
        ('regex_replace("hello world", "world", "everybody")', "hello everybody"),
        (r'regex_replace("3c7b", "(\\d)(\\w)", "$2$${1}x")', "c3xb7x"),
        ('regex_replace("-ab-axxb-", "a(?P<x>x*)b", "$${x}W")', "-W-xxW-"),
        ('regex_replace("-ab-axxb-", "a(x*)b", "$1W")', "---"),
        ('regex_replace("ab", "b", "$$")', "a$"),
        ('regex_replace("a1 b2", "[[:alpha:]_]+[[:digit:]]", "x")', "x x"),
        (r'regex_replace("aa", "a\\z", "b")', "ab"),
        ('regex_replace("abc", "b*", "-")', "-a-c-"),
        ('regex_replace("añb", "", "-")', "-a-ñ-b-"),
        ('regex_replace("ab", "(?i)(B)|(x)", "<$1$2$3$${no}>")', "a<b>"),
        (r'regex_replace("éa", "\\pL", "x")', "xx"),
    ],
    "replace": [
        ('replace("1 + 2 + 3", "+", "-")', "1 - 2 - 3"),
        ('replace("hello world", "world", "everybody")', "hello everybody"),
        ('replace("a/b/c", "/b/", "-")', "a-c"),  # no pattern, as elsewhere
        ('replace("ab", "", "-")', "-a-b-"),
    ],
    "split": [
        ('split(",", "foo,bar,baz")', ["foo", "bar", "baz"]),
        ('split(",", "foo")', ["foo"]),
        ('split(",", "")', [""]),
        ('split("", "ab")', ["a", "b"]),
    ],
    "strlen": [
        ('strlen("hello")', 5),
        ('strlen("👾🕹️")', 2),
        (r'strlen("\r\n")', 1),
        ('strlen("👨‍👩‍👧🇩🇪🇫🇷👍🏽")', 4),
    ],
    "strrev": [('strrev("hello")', "olleh"), ('strrev("a ☃")', "☃ a"), (r'strrev("ab̈c")', "cb̈a")],
    "substr": [
        ('substr("hello world", 1, 4)', "ello"),
        ('substr("hello world", -5, -1)', "world"),
        ('substr("🤔🤷", 0, 1)', "🤔"),
        ('substr("abc", -5, 2)', "ab"),
        ('substr("abc", 5, 2)', ""),
        ('substr("abc", 1, 0)', ""),
    ],
    "title": [('title("hello world")', "Hello World"), ('title("a_b it\'s")', "A_b It'S")],
    "trim": [('trim("?!hello?!", "!?")', "hello"), ('trim("a", "")', "a")],
    "trimprefix": [('trimprefix("helloworld", "hello")', "world")],
    "trimspace": [(r'trimspace("  hello\n\n")', "hello"), (r'trimspace("\u00a0a\u001c\u2003")', "a\x1c")],
    "trimsuffix": [('trimsuffix("helloworld", "world")', "hello")],
    "upper": [('upper("hello")', "HELLO"), ('upper("алло!")', "АЛЛО!"), ('upper("straße")', "STRAßE")],
    "urlencode": [
        ('urlencode("Hello World!")', "Hello+World%21"),
        ('urlencode("☃")', "%E2%98%83"),
        (
            '"http://example.com/search?q=${urlencode("terraform urlencode")}"',
            "http://example.com/search?q=terraform+urlencode",
        ),
        ('urlencode("a-b_c.d~e/")', "a-b_c.d~e%2F"),
    ],
}


@each(EXAMPLES)
def test_a_function_gives_nomads_answer(expression: str, expected: Any) -> None:
    assert value_of(expression) == expected


FAULTS = {
    'format("%d", 1.5)': "needs a whole number",
    'format("%s")': "no value number 1",
    'format("%s", "a", "b")': "2 values are given, the text uses 1",
    'format("%z", 1)': '"%z" is no verb',
    'format("100%")': '"%" is no verb',
    'format("%s", null)': "null cannot be put",
    'format("%d", "a")': "number required",
    'formatlist("%s %s", [1], [1, 2])': "the same length",
    'base64decode("a")': "not base64",
    'base64decode("/w==")': "not UTF-8",
    'join(",")': "at least one list",
    'join(",", [null])': "string required",
    'regex_replace("a", "(", "")': "bad regular expression",
    'regex_replace("a", "(?=a)", "")': "bad regular expression",
    'indent(-1, "a")': "must not be negative",
    'replace(replace("a", "a", format("%9999s", "")), " ", format("%9999s", ""))': "too long",
}


@pytest.mark.parametrize(("expression", "expected"), FAULTS.items())
def test_a_wrong_argument_is_refused(expression: str, expected: str) -> None:
    assert expected in fault_of(expression)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "a*a*a*a*a*a*a*c"])
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    assert len(value_of(f'regex_replace("{"a" * 50_000}b", "{pattern}", "")')) == 50_001
