"""What do the functions that Go's text/template has by itself compute?

and, or and call are the engine's own (template/render.py): they decide what is evaluated. Faults use Go's words.
"""

import re
from collections.abc import Callable, Mapping
from urllib.parse import quote_plus

from template.faults import Refusal
from template.formats import sprint, sprintf, sprintln
from template.values import StringMap, go_type, is_int, is_map, is_nil, is_slice, is_true, to_bytes


def equal(first: object, *others: object) -> bool:
    """Whether it equals any of the others."""
    if not others:
        raise Refusal("missing argument for comparison")
    return any(_equals(first, other) for other in others)


def _basic(value: object) -> str:
    """The kind of what can be compared with < ; empty: it cannot."""
    match value:
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "string"
    return ""


def _equals(first: object, other: object) -> bool:
    kind = _basic(first)
    if kind != _basic(other):
        if is_nil(first) or is_nil(other):
            return False
        raise Refusal("incompatible types for comparison")
    if kind:
        return first == other
    if is_nil(first) or is_nil(other):
        return is_nil(first) and is_nil(other)
    if is_map(first) or is_slice(first):
        raise Refusal(f"non-comparable type {go_type(first)}")
    return first is other


def unequal(first: object, other: object) -> bool:
    return not _equals(first, other)


def less(first: object, other: object) -> bool:
    kind, other_kind = _basic(first), _basic(other)
    if not kind or not other_kind:
        raise Refusal("invalid type for comparison")
    if kind != other_kind:
        raise Refusal("incompatible types for comparison")
    if kind == "bool":
        raise Refusal("invalid type for comparison")
    if isinstance(first, str) and isinstance(other, str):
        return to_bytes(first) < to_bytes(other)
    return first < other  # type: ignore[operator, no-any-return]  # two numbers of one kind


def less_or_equal(first: object, other: object) -> bool:
    return less(first, other) or _equals(first, other)


def greater(first: object, other: object) -> bool:
    return not less_or_equal(first, other)


def greater_or_equal(first: object, other: object) -> bool:
    return not less(first, other)


def negation(value: object) -> bool:
    return not is_true(value)


def length(value: object) -> int:
    if isinstance(value, str):
        return len(to_bytes(value))
    if is_nil(value):
        raise Refusal("len of nil pointer")
    if is_map(value) or is_slice(value):
        return len(value)
    raise Refusal(f"len of type {go_type(value)}")


def index(value: object, *indexes: object) -> object:
    """`index x 1 "a"` is x[1]["a"]; what a map lacks is nil, or "" where it holds strings."""
    if is_nil(value):
        raise Refusal("index of untyped nil")
    for one in indexes:
        value = _indexed(value, one)
    return value


def _indexed(value: object, at: object) -> object:
    if is_map(value):
        if is_nil(at):
            raise Refusal("value is nil; should be of type string")
        if not isinstance(at, str) and (not isinstance(at, int | float) or at not in value):
            raise Refusal(f"value has type {go_type(at)}; should be string")
        return value.get(at, "" if isinstance(value, StringMap) else None)
    if isinstance(value, str) or is_slice(value):
        if is_nil(at):
            raise Refusal("cannot index slice/array with nil")
        if not is_int(at):
            raise Refusal(f"cannot index slice/array with type {go_type(at)}")
        inside = to_bytes(value) if isinstance(value, str) else value
        if not 0 <= at < len(inside):
            raise Refusal(f"index out of range: {at}")
        return inside[at]
    if is_nil(value):
        raise Refusal("index of nil pointer")
    raise Refusal(f"can't index item of type {go_type(value)}")


def part(value: object, *indexes: object) -> object:
    """`slice x 1 2` is x[1:2]; strings are cut by bytes."""
    if is_nil(value):
        raise Refusal("slice of untyped nil")
    if len(indexes) > 3:
        raise Refusal(f"too many slice indexes: {len(indexes)}")
    if isinstance(value, str) and len(indexes) == 3:
        raise Refusal("cannot 3-index slice a string")
    if not isinstance(value, str) and not is_slice(value):
        raise Refusal(f"can't slice item of type {go_type(value)}")
    inside = to_bytes(value) if isinstance(value, str) else value
    bounds = [0, len(inside), len(inside)]
    for number, one in enumerate(indexes):
        if not is_int(one):
            raise Refusal(f"cannot index slice/array with {'nil' if is_nil(one) else f'type {go_type(one)}'}")
        if not 0 <= one <= bounds[2]:
            raise Refusal(f"index out of range: {one}")
        bounds[number] = one
    if bounds[0] > bounds[1]:
        raise Refusal(f"invalid slice index: {bounds[0]} > {bounds[1]}")
    if bounds[1] > bounds[2]:
        raise Refusal(f"invalid slice index: {bounds[1]} > {bounds[2]}")
    cut = inside[bounds[0] : bounds[1]]
    return cut.decode("utf-8", "surrogateescape") if isinstance(cut, bytes) else cut


def printf(form: str, *values: object) -> str:
    return sprintf(form, values)


def print_(*values: object) -> str:
    return sprint(values)


def println(*values: object) -> str:
    return sprintln(values)


def _one_text(values: tuple[object, ...]) -> str:
    if len(values) == 1 and isinstance(values[0], str):
        return values[0]
    return sprint(["<no value>" if is_nil(value) else value for value in values])


_HTML = str.maketrans({'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"})


def html(*values: object) -> str:
    return _one_text(values).translate(_HTML)


_JS = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}


def js(*values: object) -> str:
    return _JS_SPECIAL.sub(_js_sign, _one_text(values))


# The special signs, control characters, and what is beyond ASCII.
_JS_SPECIAL = re.compile(r"""[\x00-\x1f\\'"<>&=]|[^\x00-\x7f]""")


def _js_sign(match: "re.Match[str]") -> str:
    sign = match[0]
    if sign in _JS:
        return _JS[sign]
    code = 0xFFFD if 0xDC80 <= ord(sign) <= 0xDCFF else ord(sign)
    return f"\\u{code:04X}" if code < 0x20 or not sign.isprintable() else sign


def urlquery(*values: object) -> str:
    return quote_plus(to_bytes(_one_text(values)), safe="")


BUILTINS: Mapping[str, Callable[..., object]] = {
    "eq": equal,
    "ne": unequal,
    "lt": less,
    "le": less_or_equal,
    "gt": greater,
    "ge": greater_or_equal,
    "not": negation,
    "len": length,
    "index": index,
    "slice": part,
    "print": print_,
    "printf": printf,
    "println": println,
    "html": html,
    "js": js,
    "urlquery": urlquery,
}
