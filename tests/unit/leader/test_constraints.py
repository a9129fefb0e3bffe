"""Every operator of a constraint, with Nomad's semantics."""

import time

import pytest

from leader.decide.constraints import parse_version, reason, resolve, violated
from model.job import Constraint
from tests.build import node

NODE = node(
    "n1",
    datacenter="dc7",
    node_class="big",
    attributes={"kernel.name": "linux", "cpu.numcores": "8", "driver.list": "docker, raw_exec,java", "v": "1.10.2"},
    meta={"rack": "r1", "empty": ""},
)


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("${node.unique.id}", "n1"),
        ("${node.unique.name}", "n1"),
        ("${node.datacenter}", "dc7"),
        ("${node.class}", "big"),
        ("${attr.kernel.name}", "linux"),
        ("${attr.missing}", None),
        ("${meta.rack}", "r1"),
        ("${meta.empty}", ""),
        ("${meta.missing}", None),
        ("${nonsense}", None),
        ("${env.X}", None),
        ("literal", "literal"),
        ("", ""),
        ("$attr.x", "$attr.x"),
    ],
)
def test_a_target_means(target: str, value: str | None) -> None:
    assert resolve(target, NODE) == value


# (left, operator, right, whether a node satisfies it); left is an attribute's value, None where it has none.
CASES: list[tuple[str | None, str, str, bool]] = [
    ("a", "=", "a", True), ("a", "==", "a", True), ("a", "is", "a", True), ("a", "=", "b", False), (None, "=", "a", False),
    ("A", "=", "a", False), ("", "=", "", True), ("1", "=", "1.0", False),
    ("a", "!=", "b", True), ("a", "not", "b", True), ("a", "!=", "a", False), (None, "!=", "a", True), (None, "not", "a", True),
    ("2", "<", "10", True), ("10", "<", "9", False), ("b", "<", "c", True), ("b10", "<", "b9", True), (None, "<", "1", False),
    ("2.5", "<=", "2.50", True), ("-3", "<", "2", True), ("3", "<=", "2", False), ("10", ">", "9", True), ("1.5", ">", "1.25", True),
    ("9", ">=", "9", True), ("8", ">=", "9", False), (None, ">=", "0", False), ("nan", ">=", "5", True), ("1_0", "<", "9", True),
    ("linux", "regexp", "^lin", True), ("linux", "regexp", "nu", True), ("linux", "regexp", "^nu", False), (None, "regexp", ".*", False),
    ("linux", "regexp", "(", False), ("linux", "regexp", "(a+)+$", False), ("n-07", "regexp", r"^n-\d{2}$", True),
    ("1.10.2", "version", ">= 1.9", True), ("1.10.2", "version", "< 1.9", False), ("1.10.2", "version", ">= 1.9, < 2.0", True),
    ("1.10.2", "version", ">= 1.9, < 1.10", False), ("1.10", "version", "= 1.10.0", True), ("1.10", "version", "1.10", True),
    ("1.10.0.0", "version", "= 1.10", True), ("v1.2.3", "version", "= 1.2.3", True), ("1.2.3", "version", "!= 1.2.3", False),
    ("1.2.3", "version", "!= 1.2.4", True), ("1.2.3", "version", "> 1.2.3", False), ("20.10.5+dfsg1", "version", ">= 20.10", True),
    ("1.2.9", "version", "~> 1.2.3", True), ("1.3.0", "version", "~> 1.2.3", False), ("1.3.0", "version", "~> 1.2", True),
    ("2.0.0", "version", "~> 1.2", False), ("1.1.0", "version", "~> 1.2", False), ("2.5", "version", "~> 1", True), ("0.9", "version", "~> 1", False),
    # A pre-release satisfies no order that does not name one of the same version.
    ("1.3.0-beta1", "version", ">= 1.2", False), ("1.3.0-beta1", "version", "!= 1.2", True), ("1.3.0-beta2", "version", "> 1.3.0-beta1", True),
    ("1.4.0-beta1", "version", "> 1.3.0-beta1", False), ("1.4.0", "version", "> 1.3.0-beta1", True), ("1.3.0", "version", "~> 1.3.0-beta1", False),
    ("5.10.0-8-amd64", "version", ">= 4.0", False),
    ("1.3.0-beta1", "semver", ">= 1.2", True), ("1.3.0-beta1", "semver", "< 1.3.0", True), ("1.3.0-rc.10", "semver", "> 1.3.0-rc.9", True),
    ("1.3.0-alpha", "semver", "< 1.3.0-beta", True), ("1.3.0-1", "semver", "< 1.3.0-alpha", True), ("5.10.0-8-amd64", "semver", ">= 4.0", True),
    ("1.3.0beta1", "semver", "< 1.3.0", True),
    ("nonsense", "version", ">= 0", False), ("1.2", "version", ">= nonsense", False), ("1.2", "version", "", False), (None, "version", ">= 0", False),
    (None, "semver", ">= 0.0.0", False), ("9" * 5000, "version", ">= 1", False), ("1.2", "version", ">> 1", False),
    ("a,b , c", "set_contains", "c,a", True), ("a,b", "set_contains", "a,d", False), ("a,b", "set_contains_all", "b", True),
    (None, "set_contains", "a", False), ("a,b", "set_contains_any", "x, b", True), ("a,b", "set_contains_any", "x,y", False),
    (None, "set_contains_any", "a", False), ("ab", "set_contains", "a", False),
    ("a", "is_set", "", True), ("", "is_set", "", True), (None, "is_set", "", False),
    (None, "is_not_set", "", True), ("a", "is_not_set", "", False), ("", "is_not_set", "", False),
    ("a", "distinct_hosts", "", True), (None, "distinct_property", "", True), ("a", "unknown", "a", False),
]


@pytest.mark.parametrize(("left", "operator", "right", "is_satisfied"), CASES, ids=lambda v: repr(v)[:24])
def test_an_operator_means(left: str | None, operator: str, right: str, is_satisfied: bool) -> None:
    attributes = {} if left is None else {"x": left}
    constraint = Constraint(ltarget="${attr.x}", operand=operator, rtarget=right)
    assert violated(constraint, node("n1", attributes=attributes)) is not is_satisfied


def test_a_missing_attribute_on_the_right_satisfies_only_a_difference() -> None:
    def satisfied(operator: str) -> bool:
        return not violated(Constraint(ltarget="linux", operand=operator, rtarget="${meta.missing}"), NODE)

    operators = ("=", "!=", "<", ">=", "regexp", "version", "set_contains", "is_set")
    assert {operator for operator in operators if satisfied(operator)} == {"!=", "is_set"}


def test_two_missing_attributes_are_no_difference() -> None:
    assert violated(Constraint(ltarget="${meta.a}", operand="!=", rtarget="${meta.b}"), NODE)


def test_versions_sort_as_they_were_released() -> None:
    order = ["0.9", "1.0.0-1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0-rc.2", "1.0.0-rc.11", "1.0", "1.0.1", "1.9", "1.10"]
    parsed = [version for text in order if (version := parse_version(text)) is not None]
    assert len(parsed) == len(order)
    assert sorted(parsed, key=lambda v: v.key) == parsed


def test_no_pattern_takes_for_ever() -> None:
    begun = time.perf_counter()
    constraint = Constraint(ltarget="${attr.x}", operand="regexp", rtarget="(x+x+)+y")
    assert violated(constraint, node("n1", attributes={"x": "x" * 40}))
    assert time.perf_counter() - begun < 1.0


def test_a_reason_is_the_constraint_as_nomad_prints_it() -> None:
    assert reason(Constraint(ltarget="${attr.x}", operand="=", rtarget="y")) == "${attr.x} = y"
    assert reason(Constraint(operand="distinct_hosts")) == "distinct_hosts"
