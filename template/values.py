"""Which values does a template compute with, and what are they to Go?

Python's own: bool, int, float, str, list (a slice), dict (map[string]interface {}), None (nil); and

    NO_VALUE     what is not there: a missing key, a nil that went through a pipeline
    PENDING      an answer that is not there yet; what is computed from it is pending as well
    StringMap    map[string]string: what it lacks is ""
    Document     a struct; its wire names are its fields
    Methods      an object whose methods templates may call, by a table of its own
    Function     a function as a value, for `call`

Nothing else is looked into: no attribute of a Python object can be reached by its name. Texts are str; bytes that are no
UTF-8 are surrogates (`surrogateescape`), so that what Go would pass through passes through here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Final, TypeGuard, get_type_hints

import msgspec

from template.budget import spend
from template.faults import Refusal

# Elements of one value that is printed, compared or encoded: a list that holds itself twice, forty times over, would
# otherwise take for ever. Real values have thousands.
ELEMENTS_MAX = 250_000
# Levels of such a value: each takes two frames of the interpreter's thousand.
LEVELS_MAX = 100


class NoValue:
    def __repr__(self) -> str:
        return "<no value>"


NO_VALUE: Final = NoValue()


class Pending:
    def __repr__(self) -> str:
        return "<pending>"


PENDING: Final = Pending()


class StringMap(dict[str, str]):
    """map[string]string"""


class Methods:
    """An object with methods for templates: {name: attribute}."""

    go_methods: ClassVar[Mapping[str, str]] = {}
    go_name: ClassVar[str] = ""


class Function:
    """A function that data may hold, for `call`."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function


class Tags(list[str], Methods):
    """A service's tags."""

    go_methods = {"Contains": "has"}

    def has(self, tag: str) -> bool:
        return tag in self


def is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)


def is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def is_slice(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple | range) or (isinstance(value, Sequence) and not isinstance(value, str | bytes))


def is_map(value: object) -> TypeGuard[Mapping[Any, object]]:
    return isinstance(value, Mapping)


def is_nil(value: object) -> bool:
    return value is None or value is NO_VALUE


def go_type(value: object) -> str:
    match value:
        case None | NoValue():
            return "<nil>"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float64"
        case str():
            return "string"
        case StringMap():
            return "map[string]string"
        case Methods() if not isinstance(value, list):
            return value.go_name
        case msgspec.Struct():
            return "*" + type(value).__name__
        case Function():
            return "func"
    if is_map(value):
        return "map[string]interface {}"
    return "[]interface {}" if is_slice(value) else "interface {}"


def is_true(value: object) -> bool:
    """Go's truth: false, zero, nil and what is empty are not."""
    match value:
        case None | NoValue():
            return False
        case bool() | int() | float() | str():
            return bool(value)
        case msgspec.Struct() | Function():
            return True
        case Methods() if not isinstance(value, list):
            return True
    return len(value) > 0 if is_map(value) or is_slice(value) else True


@cache
def fields_of(kind: type[msgspec.Struct]) -> Mapping[str, tuple[str, Callable[[Any], object] | None]]:
    """{Go's name: (attribute, what its value has to become first)} of a struct's fields."""
    hints = get_type_hints(kind)
    fields: dict[str, tuple[str, Callable[[Any], object] | None]] = {}
    for one in msgspec.structs.fields(kind):
        is_strings = hints[one.name] == Mapping[str, str]
        becomes = StringMap if is_strings else Tags if one.encode_name == "Tags" else None
        fields[one.encode_name] = (one.name, becomes)
    return fields


def field(value: msgspec.Struct, name: str) -> object:
    """Raises KeyError."""
    attribute, becomes = fields_of(type(value))[name]
    found = getattr(value, attribute)
    return found if becomes is None else becomes(found)


def items(value: object) -> list[tuple[object, object]]:
    """Of a map its entries in Go's order, of a struct its fields in theirs."""
    if isinstance(value, msgspec.Struct):
        return [(name, field(value, name)) for name in fields_of(type(value))]
    return sorted(value.items(), key=lambda pair: key_order(pair[0]))  # type: ignore[attr-defined]  # the caller saw a map


def key_order(key: object) -> tuple[int, float, bytes]:
    """Numbers, then texts by their bytes."""
    if isinstance(key, bool | int | float):
        return 0, key, b""
    return 1, 0, to_bytes(str(key))


def to_bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # surrogates of another kind, as "\ud800" in JSON
        return b"".join(to_bytes_of_one(sign) for sign in text)


def to_bytes_of_one(sign: str) -> bytes:
    try:
        return sign.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return b"\xef\xbf\xbd"


def from_bytes(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def bounded(value: object) -> int:
    """How many elements it has, at all levels. Raises Refusal for a value too large or too deep to be walked through."""
    if isinstance(value, int | float | str) or value is None:
        return 0
    left = ELEMENTS_MAX
    level: list[object] = [value]
    for _ in range(LEVELS_MAX):
        below: list[object] = []
        for one in level:
            parts = _parts(one)
            left -= len(parts)
            if left < 0:
                raise Refusal(f"a value of more than {ELEMENTS_MAX} elements")
            below.extend(part for part in parts if not isinstance(part, str | int | float))
        if not below:
            spend((ELEMENTS_MAX - left) >> 1)
            return ELEMENTS_MAX - left
        level = below
    raise Refusal(f"a value of more than {LEVELS_MAX} levels")


def _parts(value: object) -> Sequence[object]:
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if is_slice(value) and not isinstance(value, range) else ()


def wrapped(value: int) -> int:
    """An int64 as Go's arithmetic leaves it: what overflows comes round again."""
    return (value + 2**63) % 2**64 - 2**63


def strings(values: Iterable[object]) -> list[str]:
    """Raises Refusal unless all are texts."""
    found = [one for one in values if isinstance(one, str)]
    values = list(values) if not isinstance(values, Sequence) else values
    if len(found) != len(values):
        odd = next(one for one in values if not isinstance(one, str))
        raise Refusal(f"expected a list of strings, found a {go_type(odd)} in it")
    return found
