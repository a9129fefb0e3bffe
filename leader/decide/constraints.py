"""Does a node satisfy a constraint, and if not, why?

Nomad's operators on `${node.*}`, `${attr.*}`, `${meta.*}` and literals. A target that a node lacks
satisfies only `is_not_set` and `!=`, as in Nomad.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from model.job import Constraint
from model.node import Node
from model.patterns import PatternFault, compile_pattern

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
        # The name under which a job may ask for it: a virtual datacenter stands in for the physical one.
        "node.datacenter": node.virtual_datacenter or node.datacenter,
        "node.physical_datacenter": node.datacenter,
        "node.virtual_datacenter": node.virtual_datacenter or None,
        "node.class": node.node_class,
    }
    if name in fixed:
        return fixed[name]
    prefix, _, rest = name.partition(".")
    if prefix == "unique":
        return node.attributes.get(name)
    if prefix == "attr":
        return node.attributes.get(rest)
    if prefix == "meta":
        return node.meta.get(rest)
    return None


def is_unique(constraint: Constraint) -> bool:
    """Whether it asks for something that differs between nodes of one class."""
    return "unique." in constraint.ltarget or "unique." in constraint.rtarget


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
        case "not_in":
            return left is not None and right is not None and left in _words(right)
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
        if _NUMBER.fullmatch(left) and _NUMBER.fullmatch(right):
            a, b = Decimal(left), Decimal(right)
            return compare((a > b) - (a < b))
        return compare((left > right) - (left < right))

    return check


_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?")


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(","))


def _matches(left: str, text: str) -> bool:
    pattern = _pattern(text)
    return pattern is not None and pattern.search(left) is not None


@lru_cache(maxsize=256)
def _pattern(text: str) -> re.Pattern[str] | None:
    """None: no pattern, or one that could take for ever. Such a job is refused when it is submitted."""
    try:
        return compile_pattern(text)
    except PatternFault:
        return None


# go-version's: a pre-release needs no dash before a letter (`1.2beta`).
_VERSION = re.compile(
    r"v?([0-9]{1,18}(?:\.[0-9]{1,18})*)"
    r"(?:-([0-9][0-9A-Za-z~-]*(?:\.[0-9A-Za-z~-]+)*)|-?([A-Za-z~-][0-9A-Za-z~-]*(?:\.[0-9A-Za-z~-]+)*))?"
    r"(?:\+[0-9A-Za-z.~-]+)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """numbers: at least three, without further zeros at the end. written: how many its author wrote."""

    numbers: tuple[int, ...]
    pre: tuple[tuple[int, int, str], ...]
    written: int

    @property
    def key(self) -> tuple[object, ...]:
        """Sorts a release after its pre-releases, and in those numbers before words."""
        return self.numbers, not self.pre, self.pre


def parse_version(text: str) -> Version | None:
    """None when it is none."""
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        return None
    numbers = [int(part) for part in match.group(1).split(".")]
    written = len(numbers)
    numbers += [0] * (3 - written)
    while len(numbers) > 3 and not numbers[-1]:
        numbers.pop()
    pre = match.group(2) or match.group(3) or ""
    parts = tuple((0, int(p), "") if p.isdigit() and len(p) <= 18 else (1, 0, p) for p in pre.split(".")) if pre else ()
    return Version(numbers=tuple(numbers), pre=parts, written=written)


def _version_check(is_semver: bool) -> Callable[[str, str], bool]:
    def check(left: str, right: str) -> bool:
        version = parse_version(left)
        return version is not None and all(
            _satisfies(version, part.strip(), is_semver) for part in right.split(",")
        )

    return check


_CLAUSE = re.compile(r"(>=|<=|!=|~>|>|<|=)?\s*(\S+)")


def _satisfies(version: Version, clause: str, is_semver: bool) -> bool:
    match = _CLAUSE.fullmatch(clause)
    wanted = parse_version(match.group(2)) if match else None
    if match is None or wanted is None:
        return False
    operator = match.group(1) or "="
    # go-version's rule, which semver mode does not have: a pre-release satisfies only an order that names a
    # pre-release of the same version.
    if (
        not is_semver
        and operator not in ("=", "!=")
        and version.pre
        and not (wanted.pre and wanted.numbers == version.numbers)
    ):
        return False
    a, b = version.key, wanted.key
    match operator:
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
            if wanted.pre and not version.pre:
                return False
            # At least this, and the same but for the last number written.
            fixed = wanted.written - 1
            return a >= b and version.numbers[:fixed] == wanted.numbers[:fixed]
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
    "in": lambda a, b: a in _words(b),
    "set_contains": lambda a, b: _words(b) <= _words(a),
    "set_contains_all": lambda a, b: _words(b) <= _words(a),
    "set_contains_any": lambda a, b: bool(_words(b) & _words(a)),
}
