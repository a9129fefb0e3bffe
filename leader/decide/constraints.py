"""Does a node satisfy a constraint, and if not, why?

Nomad's operators on `${node.*}`, `${attr.*}`, `${meta.*}` and literals. A target that a node lacks
satisfies only `is_not_set` and `!=`, as in Nomad.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from model.job import Constraint
from model.node import Node

_TARGET = re.compile(r"^\$\{(.+)\}$")


def resolve(target: str, node: Node) -> str | None:
    """The value of `${attr.kernel.name}` and the like on this node, None when it has none; a literal is itself."""
    match = _TARGET.match(target)
    if match is None:
        return target
    name = match.group(1)
    fixed = {
        "node.unique.id": node.id,
        "node.unique.name": node.name,
        "node.datacenter": node.datacenter,
        "node.class": node.node_class,
    }
    if name in fixed:
        return fixed[name]
    prefix, _, rest = name.partition(".")
    if prefix == "attr":
        return node.attributes.get(rest)
    if prefix == "meta":
        return node.meta.get(rest)
    return None


def violated(constraint: Constraint, node: Node) -> bool:
    """Whether this node is ruled out. distinct_hosts and distinct_property are place.py's: they need the job."""
    if constraint.operand in ("distinct_hosts", "distinct_property"):
        return False
    left, right = resolve(constraint.ltarget, node), resolve(constraint.rtarget, node)
    match constraint.operand:
        case "is_set":
            return left is None
        case "is_not_set":
            return left is not None
        case "!=" | "not":
            return left == right
    if left is None or right is None:
        return True
    check = _CHECKS.get(constraint.operand)
    return check is None or not check(left, right)


def reason(constraint: Constraint) -> str:
    """The filter's name in an evaluation's metrics, as Nomad prints it."""
    return f"{constraint.ltarget} {constraint.operand} {constraint.rtarget}".strip()


def _ordered(compare: Callable[[int], bool]) -> Callable[[str, str], bool]:
    """Numbers compare as numbers, everything else as text (Nomad: lexical, numeric since 1.1)."""

    def check(left: str, right: str) -> bool:
        try:
            a, b = float(left), float(right)
        except ValueError:
            return compare((left > right) - (left < right))
        return compare((a > b) - (a < b))

    return check


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(","))


def _matches(left: str, pattern: str) -> bool:
    try:
        return _pattern(pattern).search(left) is not None
    except re.error:
        return False


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_VERSION = re.compile(r"^v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.~-]+))?(?:\+[0-9A-Za-z.~-]+)?$")


def parse_version(text: str) -> tuple[tuple[int, ...], tuple[tuple[int, int, str], ...], bool] | None:
    """A version in comparable form, a release after its pre-releases; None when it is none."""
    match = _VERSION.match(text.strip())
    if match is None:
        return None
    numbers = [int(part) for part in match.group(1).split(".")]
    numbers += [0] * (3 - len(numbers))
    pre = match.group(2)
    parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in pre.split(".")) if pre else ()
    return tuple(numbers), parts, pre is not None


def _version_key(version: tuple[tuple[int, ...], tuple[tuple[int, int, str], ...], bool]) -> tuple[object, ...]:
    numbers, pre, is_pre = version
    return (numbers, not is_pre, pre)


def _version_check(is_semver: bool) -> Callable[[str, str], bool]:
    def check(left: str, right: str) -> bool:
        version = parse_version(left)
        return version is not None and all(
            _satisfies(version, part.strip(), is_semver) for part in right.split(",")
        )

    return check


_CLAUSE = re.compile(r"^(>=|<=|!=|~>|>|<|=)?\s*(\S+)$")


def _satisfies(
    version: tuple[tuple[int, ...], tuple[tuple[int, int, str], ...], bool], clause: str, is_semver: bool
) -> bool:
    match = _CLAUSE.match(clause)
    wanted = parse_version(match.group(2)) if match else None
    if match is None or wanted is None:
        return False
    # Outside semver mode a pre-release never satisfies a clause that names none (go-version's rule).
    if not is_semver and version[2] and not wanted[2]:
        return False
    a, b = _version_key(version), _version_key(wanted)
    match match.group(1) or "=":
        case ">=":
            return a >= b
        case "<=":
            return a <= b
        case ">":
            return a > b
        case "<":
            return a < b
        case "!=":
            return a != b
        case "~>":
            # At least this, and the same but for the last number written.
            fixed = match.group(2).count(".") or 1
            return a >= b and version[0][:fixed] == wanted[0][:fixed]
    return a == b


_CHECKS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "is": lambda a, b: a == b,
    "<": _ordered(lambda c: c < 0),
    "<=": _ordered(lambda c: c <= 0),
    ">": _ordered(lambda c: c > 0),
    ">=": _ordered(lambda c: c >= 0),
    "regexp": _matches,
    "version": _version_check(is_semver=False),
    "semver": _version_check(is_semver=True),
    "set_contains": lambda a, b: _words(b) <= _words(a),
    "set_contains_all": lambda a, b: _words(b) <= _words(a),
    "set_contains_any": lambda a, b: bool(_words(b) & _words(a)),
}
