"""consul-template's functions of numbers. `7 | subtract 2` is 5: the last argument is what is reckoned with."""

import re
from collections.abc import Callable, Mapping

from template.budget import STEPS_MAX
from template.constants import INT_MAX, INT_MIN
from template.faults import Refusal
from template.values import go_type, is_int, wrapped

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_FLOAT = re.compile(
    r"[+-]?(?:[0-9][0-9_]*\.?[0-9_]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?|inf|infinity)|nan", re.IGNORECASE
)
_TRUE = {"1", "t", "T", "TRUE", "true", "True"}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}

Number = int | float


def parse_int(text: str) -> int:
    return _parsed("parseInt", text, INT_MIN, INT_MAX) if text else 0


def parse_uint(text: str) -> int:
    if text[:1] in ("+", "-"):
        raise Refusal("parseUint: invalid syntax")
    return _parsed("parseUint", text, 0, 2**64 - 1) if text else 0


def _parsed(name: str, text: str, least: int, most: int) -> int:
    if not _INTEGER.fullmatch(text):
        raise Refusal(f"{name}: {'value out of range' if text.isdecimal() and text.isascii() else 'invalid syntax'}")
    if not least <= int(text) <= most:
        raise Refusal(f"{name}: value out of range")
    return int(text)


def parse_float(text: str) -> float:
    if not text:
        return 0.0
    if not _FLOAT.fullmatch(text) or len(text) > 400 or "_" in text:
        raise Refusal("parseFloat: invalid syntax")
    value = float(text)
    if value in (float("inf"), float("-inf")) and "n" not in text.lower():
        raise Refusal("parseFloat: value out of range")
    return value


def parse_bool(text: str) -> bool:
    if text and text not in _TRUE | _FALSE:
        raise Refusal("parseBool: invalid syntax")
    return text in _TRUE


def _pair(name: str, second: object, first: object) -> tuple[Number, Number]:
    for value in (first, second):
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise Refusal(f"{name}: unknown type {go_type(value)}")
    return first, second  # type: ignore[return-value]  # both were seen to be numbers


def _result(value: Number) -> Number:
    return wrapped(value) if is_int(value) else value


def add(second: object, first: object) -> object:
    a, b = _pair("add", second, first)
    return _result(a + b)


def subtract(second: object, first: object) -> object:
    a, b = _pair("subtract", second, first)
    return _result(a - b)


def multiply(second: object, first: object) -> object:
    a, b = _pair("multiply", second, first)
    return _result(a * b)


def divide(second: object, first: object) -> object:
    a, b = _pair("divide", second, first)
    if isinstance(a, int) and isinstance(b, int):
        return quotient(a, b)
    if not b:
        return float("nan") if not a or a != a else float("inf") * (1 if a > 0 else -1)
    return a / b


def quotient(a: int, b: int) -> int:
    """Towards zero, as Go divides."""
    if not b:
        raise Refusal("runtime error: integer divide by zero")
    whole = abs(a) // abs(b)
    return wrapped(whole if (a < 0) == (b < 0) else -whole)


def modulo(second: object, first: object) -> object:
    a, b = _pair("modulo", second, first)
    if not (isinstance(a, int) and isinstance(b, int)):
        raise Refusal("modulo: unknown type float64")
    return a - b * quotient(a, b)


def minimum(second: object, first: object) -> object:
    return min(_pair("minimum", second, first))


def maximum(second: object, first: object) -> object:
    return max(_pair("maximum", second, first))


def loop(*bounds: object) -> object:
    """0 to n - 1, or a to b - 1."""
    if not 1 <= len(bounds) <= 2:
        raise Refusal(f"loop: wrong number of arguments, expected 1 or 2, but got {len(bounds)}")
    given = [parse_int(one) if isinstance(one, str) else one for one in bounds]
    found = [one for one in given if isinstance(one, int) and not isinstance(one, bool)]
    if len(found) != len(given):
        raise Refusal("loop: bad argument: expected integers")
    numbers = range(*found)
    if len(numbers) > STEPS_MAX:
        raise Refusal(f"loop: more than {STEPS_MAX} rounds")
    return numbers


NUMBERS: Mapping[str, Callable[..., object]] = {
    "parseInt": parse_int,
    "parseUint": parse_uint,
    "parseFloat": parse_float,
    "parseBool": parse_bool,
    "add": add,
    "subtract": subtract,
    "multiply": multiply,
    "divide": divide,
    "modulo": modulo,
    "minimum": minimum,
    "maximum": maximum,
    "loop": loop,
}
