"""What do the functions over numbers, lists and maps answer? Examples and edges as published for Nomad."""

from typing import Any

import pytest

from tests.unit.jobspec.calls import Examples, each, fault_of, value_of

EXAMPLES: Examples = {
    "abs": [("abs(23)", 23), ("abs(0)", 0), ("abs(-12.4) == 12.4", True)],
    "ceil": [("ceil(5)", 5), ("ceil(5.1)", 6), ("ceil(-1.5)", -1)],
    "chunklist": [
        ('chunklist(["a", "b", "c", "d", "e"], 2)', [["a", "b"], ["c", "d"], ["e"]]),
        ('chunklist(["a", "b"], 0)', [["a", "b"]]),
        ("chunklist([], 0)", []),
        ('chunklist(["a", 1], 1)', [["a"], ["1"]]),
    ],
    "coalesce": [
        ('coalesce("a", "b")', "a"),
        ('coalesce(null, "b")', "b"),
        ('coalesce("", "b")', ""),
        ("coalesce(1, 2)", 1),
        ('coalesce(null, 5, "x")', "5"),
        ('coalesce([null, "b"]...)', "b"),
    ],
    "coalescelist": [
        ('coalescelist(["a", "b"], ["c", "d"])', ["a", "b"]),
        ('coalescelist([], ["c", "d"])', ["c", "d"]),
    ],
    "compact": [('compact(["a", "", "b", "c"])', ["a", "b", "c"]), ("compact([1, null])", ["1"])],
    "concat": [('concat(["a", ""], ["b", "c"])', ["a", "", "b", "c"])],
    "contains": [
        ('contains(["a", "b", "c"], "a")', True),
        ('contains(["a", "b", "c"], "d")', False),
        ('contains([1], "1")', False),
    ],
    "distinct": [
        ('distinct(["a", "b", "a", "c", "d", "b"])', ["a", "b", "c", "d"]),
        ('distinct(["1", 1])', ["1"]),
    ],
    "element": [
        ('element(["a", "b", "c"], 1)', "b"),
        ('element(["a", "b", "c"], 3)', "a"),
        ('element(["a", "b", "c"], length(["a", "b", "c"]) - 1)', "c"),
    ],
    "flatten": [
        ('flatten([["a", "b"], [], ["c"]])', ["a", "b", "c"]),
        ('flatten([[["a", "b"], []], ["c"]])', ["a", "b", "c"]),
        ("flatten([])", []),
    ],
    "floor": [("floor(5)", 5), ("floor(4.9)", 4), ("floor(-1.5)", -2)],
    "index": [
        ('index(["a", "b", "c"], 1)', "b"),
        ('index({ "a" = 1, "c" = 2, "d" = 3 }, "c")', 2),
    ],
    "keys": [("keys({ a = 1, c = 2, d = 3 })", ["a", "c", "d"]), ("keys({})", [])],
    "length": [
        ("length([])", 0),
        ('length(["a", "b"])', 2),
        ('length({ "a" = "b" })', 1),
        ('length("hello")', 5),
        ('length("👾🕹️")', 2),
    ],
    "log": [("log(16, 2)", 4), ("log(1, 10)", 0)],
    "lookup": [
        ('lookup({ a = "ay", b = "bee" }, "a", "what?")', "ay"),
        ('lookup({ a = "ay", b = "bee" }, "c", "what?")', "what?"),
    ],
    "max": [("max(12, 54, 3)", 54), ("max([12, 54, 3]...)", 54)],
    "merge": [
        ('merge({ a = "b", c = "d" }, { e = "f", c = "z" })', {"a": "b", "c": "z", "e": "f"}),
        ("merge({ a = 1 }, null)", {"a": 1}),
        (
            'merge({ a = "b" }, { a = [1, 2], c = "z" }, { d = 3 })',
            {"a": [1, 2], "c": "z", "d": 3},
        ),
    ],
    "min": [("min(12, 54, 3)", 3), ("min([12, 54, 3]...)", 3)],
    "parseint": [
        ('parseint("100", 10)', 100),
        ('parseint("FF", 16)', 255),
        ('parseint("-10", 16)', -16),
        ('parseint("1011111011101111", 2)', 48879),
        ('parseint("aA", 62)', 656),
    ],
    "pow": [("pow(3, 2)", 9), ("pow(4, 0)", 1), ("pow(4, 0.5)", 2), ('"x${pow(10, -1)}"', "x0.1")],
    "range": [
        ("range(3)", [0, 1, 2]),
        ("range(1, 4)", [1, 2, 3]),
        ("range(1, 8, 2)", [1, 3, 5, 7]),
        ("range(1, 4, 0.5)[1] == 1.5", True),
        ("range(4, 1)", [4, 3, 2]),
        ("range(10, 5, -2)", [10, 8, 6]),
    ],
    "reverse": [("reverse([1, 2, 3])", [3, 2, 1]), ('reverse("hello")', "olleh")],
    "setintersection": [
        ('setintersection(["a", "b"], ["b", "c"], ["b", "d"])', ["b"]),
        ("setintersection([1, 2], [2, 3])", [2]),
    ],
    "setproduct": [
        (
            'setproduct(["development", "staging"], ["app1", "app2"])',
            [["development", "app1"], ["development", "app2"], ["staging", "app1"], ["staging", "app2"]],
        ),
        ("setproduct([], [1])", []),
    ],
    "setunion": [('setunion(["a", "b"], ["b", "c"], ["d"])', ["a", "b", "c", "d"])],
    "signum": [("signum(-13)", -1), ("signum(0)", 0), ("signum(344)", 1)],
    "slice": [('slice(["a", "b", "c", "d"], 1, 3)', ["b", "c"])],
    "sort": [('sort(["e", "d", "a", "x"])', ["a", "d", "e", "x"]), ("sort([10, 9])", ["10", "9"])],
    "values": [("values({ a = 3, c = 2, d = 1 })", [3, 2, 1])],
    "zipmap": [('zipmap(["a", "b"], [1, 2])', {"a": 1, "b": 2})],
}


@each(EXAMPLES)
def test_a_function_gives_nomads_answer(expression: str, expected: Any) -> None:
    assert value_of(expression) == expected


FAULTS = {
    'parseint("12", 2)': "no whole number in base 2",
    'parseint("1_0", 10)': "no whole number",
    'parseint("0xff", 16)': "no whole number",
    'parseint("1", 63)': "between 2 and 62",
    "parseint(12, 10)": "string required",
    "signum(1.5)": "whole number required",
    'lookup({}, "a")': "3 arguments required, found 2",
    'index(["a"], "a")': "number required",
    "index([1], 1)": "out of range",
    'index({}, "a")': 'no element "a"',
    "element([], 0)": "empty list",
    "element([1], -1)": "must not be negative",
    "slice([1], 0, 2)": "outside of the list",
    "setproduct([1])": "at least two lists",
    "range(1, 10, 0)": "never reaches",
    "range(2000)": "more than 1024",
    "pow(10, 1000)": "pow",
    "pow(-1, 0.5)": "not a finite number",
    "max()": "at least one number",
    "coalescelist([])": "no list that is not empty",
    "coalesce(null, null)": "no value that is not null",
    'zipmap(["a"], [])': "1 keys for 0 values",
    "log(0, 2)": "log",
    "keys([])": "map required",
}


@pytest.mark.parametrize(("expression", "expected"), FAULTS.items())
def test_a_wrong_argument_is_refused(expression: str, expected: str) -> None:
    assert expected in fault_of(expression)
