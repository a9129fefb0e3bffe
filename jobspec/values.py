"""What is an HCL value in Python, and how does one turn into another type?

string: str, number: int or (not whole) Decimal, bool, null: None, list and tuple: list, set: SetOf (a
sorted list without doubles), map and object: dict. A text left for run time (`${NOMAD_IP}`) is a string
like any other: so Nomad treats it.

A type constraint (`list(string)`) is a `Type`.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation
from typing import TypeAlias

Value: TypeAlias = "str | int | Decimal | bool | list[Value] | dict[str, Value] | None"

# Nomad calculates with 512-bit floats: 154 decimal digits.
ARITHMETIC = Context(prec=154)


class ConversionFault(Exception):
    """A value cannot become the wanted type; the message says "… required"."""


class SetOf(list["Value"]):
    """A set: without doubles, in sorted order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """A type constraint; `of` is the element's, `fields` an object's or a tuple's."""

    name: str  # any | string | number | bool | list | set | map | object | tuple
    of: "Type | None" = None
    fields: Mapping[str, "Type"] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()

    def __str__(self) -> str:
        if self.of is not None:
            return f"{self.name} of {self.of}"
        return self.name


ANY = Type(name="any")
STRING = Type(name="string")
NUMBER = Type(name="number")
BOOL = Type(name="bool")


def type_name(value: Value) -> str:
    """The type of a value as messages name it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a bool"
    if isinstance(value, int | Decimal):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, dict):
        return "an object"
    return "a set" if isinstance(value, SetOf) else "a list"


def whole(number: int | Decimal) -> int | Decimal:
    """A number in its one form: an int when it is whole and not absurdly large."""
    if isinstance(number, Decimal):
        if number.is_finite() and number.adjusted() < 400 and number == number.to_integral_value():
            return int(number)
    elif number.bit_length() > 1400:
        return ARITHMETIC.create_decimal(number)
    return number


def number_text(number: int | Decimal) -> str:
    if isinstance(number, int):
        return str(number)
    if abs(number.adjusted()) > 400:
        return str(number)
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_text(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return number_text(value)
    raise ConversionFault(f"string required, found {type_name(value)}")


def to_number(value: Value) -> int | Decimal:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.removeprefix("+")
        if (
            len(text) <= 1000
            and text
            and text[0] in "0123456789-."
            and "_" not in text
            and text.strip() == text
        ):
            try:
                return whole(Decimal(text))
            except InvalidOperation:
                pass
        raise ConversionFault(f'number required, found "{value[:60]}"')
    raise ConversionFault(f"number required, found {type_name(value)}")


def to_bool(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value in ("true", "1"):
            return True
        if value in ("false", "0"):
            return False
        raise ConversionFault(f'bool required, found "{value[:60]}"')
    raise ConversionFault(f"bool required, found {type_name(value)}")


def to_list(value: Value) -> "list[Value]":
    if isinstance(value, list):
        return value
    raise ConversionFault(f"list required, found {type_name(value)}")


def to_map(value: Value) -> "dict[str, Value]":
    if isinstance(value, dict):
        return value
    raise ConversionFault(f"map required, found {type_name(value)}")


def to_index(value: Value) -> int:
    number = to_number(value)
    if not isinstance(number, int):
        raise ConversionFault("whole number required")
    return number


def composed(text: str) -> str:
    """As Nomad keeps every text: a letter and its accent are one character."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def to_texts(value: Value) -> list[str]:
    return [to_text(item) for item in to_list(value)]


def make_set(values: "list[Value]") -> SetOf:
    kept: list[Value] = []
    for value in sorted(values, key=sort_key):
        if not kept or not equal(kept[-1], value):
            kept.append(value)
    return SetOf(kept)


def sort_key(value: Value) -> tuple[int, str | int | Decimal]:
    """An order for sets: numbers by size, everything else by its text."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return (0, value)
    return (1, value if isinstance(value, str) else repr(value))


def equal(left: Value, right: Value) -> bool:
    """HCL's ==: values of different types are never equal."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, str) != isinstance(right, str):
        return False
    return left == right


def unified(items: "list[Value]") -> "list[Value]":
    """The elements with one type, as a list has them: numbers and booleans beside a text are texts."""
    if any(isinstance(item, str) for item in items) and not any(
        isinstance(item, list | dict) for item in items
    ):
        return [item if item is None else to_text(item) for item in items]
    return items


def convert(value: Value, wanted: Type) -> Value:
    """The value as `wanted`, as Nomad converts it. Raises ConversionFault."""
    if value is None or wanted.name == "any":
        return value
    if wanted.name == "string":
        return to_text(value)
    if wanted.name == "number":
        return to_number(value)
    if wanted.name == "bool":
        return to_bool(value)
    if wanted.name in ("list", "set"):
        if not isinstance(value, list):
            raise ConversionFault(f"{wanted} required, found {type_name(value)}")
        items = [convert(item, wanted.of or ANY) for item in value]
        return make_set(items) if wanted.name == "set" else items
    if wanted.name == "tuple":
        if not isinstance(value, list) or len(value) != len(wanted.fields):
            raise ConversionFault(f"tuple of {len(wanted.fields)} values required, found {type_name(value)}")
        return [convert(item, kind) for item, kind in zip(value, wanted.fields.values(), strict=True)]
    if not isinstance(value, dict):
        raise ConversionFault(f"{wanted} required, found {type_name(value)}")
    if wanted.name == "map":
        return {key: convert(item, wanted.of or ANY) for key, item in value.items()}
    return _convert_object(value, wanted)


def _convert_object(value: "dict[str, Value]", wanted: Type) -> Value:
    made: dict[str, Value] = {}
    for name, kind in wanted.fields.items():
        if name in value:
            made[name] = convert(value[name], kind)
        elif name in wanted.optional:
            made[name] = None
        else:
            raise ConversionFault(f'attribute "{name}" is required')
    return made


# A local of two locals of two locals …: thirty lines are a thousand million values once written out.
_WRITTEN_MAX = 1_000_000


def weight(value: Value, enough: int = _WRITTEN_MAX) -> int:
    """How many values a value holds when it is written out, itself included; counted no further than `enough`."""
    if not isinstance(value, list | dict):
        return 1
    left: list[Value] = [value]
    count = 0
    while left and count <= enough:
        item = left.pop()
        count += 1
        if isinstance(item, dict):
            left += item.values()
        elif isinstance(item, list):
            left += item
    return count


def to_json(value: Value) -> object:
    """The value as plain Python for a document: Decimals become floats. Raises ConversionFault when it is huge."""
    left = _WRITTEN_MAX

    def written(item: Value) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise ConversionFault(f"the value holds more than {_WRITTEN_MAX} values")
        if isinstance(item, Decimal):
            return float(item)
        if isinstance(item, list):
            return [written(inner) for inner in item]
        if isinstance(item, dict):
            return {key: written(inner) for key, inner in item.items()}
        return item

    return written(value)


def from_json(value: object) -> Value:
    """Plain decoded JSON as a value: floats become exact numbers."""
    if isinstance(value, float):
        return whole(Decimal(repr(value)))
    if isinstance(value, list | tuple):
        return [from_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): from_json(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | Decimal):
        return value
    raise ConversionFault(f"no HCL value: {type(value).__name__}")
