"""The functions of job files that read and write whole documents: JSON, CSV and YAML.

Written with a stack of their own: a value may nest deeper than Python's calls.
"""

import json
from decimal import Decimal, InvalidOperation

from jobspec.evaluate import Function
from jobspec.values import ConversionFault, Value, from_json, number_text, to_text

# A value may stand in many places of another: `[local.a, local.a]`, and that again twice, and so on.
_NODES_MAX = 1_000_000

# As Go: a JSON text may be put into a page.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_quoted = json.encoder.JSONEncoder(ensure_ascii=False).encode


def json_text(value: Value) -> str:
    """The value as JSON without spaces, keys in order."""
    parts: list[str] = []
    left: list[tuple[str, Value]] = [("", value)]  # a text that goes before, and a value
    count = 0
    while left:
        before, item = left.pop()
        parts.append(before)
        count += 1
        if count > _NODES_MAX:
            raise ConversionFault("the value is too large for JSON")
        if isinstance(item, _End):
            continue
        if isinstance(item, dict):
            parts.append("{")
            left.append(("}", _END))
            keys = sorted(item)
            left += [
                (("," if number else "") + _string(key) + ":", item[key])
                for number, key in reversed(list(enumerate(keys)))
            ]
        elif isinstance(item, list):
            parts.append("[")
            left.append(("]", _END))
            left += [("," if number else "", inner) for number, inner in reversed(list(enumerate(item)))]
        else:
            parts.append(_scalar(item))
    return "".join(parts)


class _End(list["Value"]):
    """Stands in the stack of json_text for "nothing more comes here"."""


_END = _End()


def _scalar(value: str | int | Decimal | bool | None) -> str:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else number_text(value)


def _string(text: str) -> str:
    return _quoted(text).translate(_ESCAPES)


def _jsonencode(value: Value) -> Value:
    return json_text(value)


def _jsondecode(text: Value) -> Value:
    try:
        return from_json(json.loads(to_text(text), parse_float=Decimal, parse_constant=_refuse_constant))
    except RecursionError:
        raise ConversionFault("not JSON that can be read: nested too deeply") from None
    except (ValueError, InvalidOperation) as error:
        raise ConversionFault(f"not JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _csvdecode(text: Value) -> Value:
    import csv
    import io

    try:
        rows = [row for row in csv.reader(io.StringIO(to_text(text)), strict=True) if row]
    except csv.Error as error:
        raise ConversionFault(f"not CSV: {error}") from None
    if not rows:
        raise ConversionFault("a header line is missing")
    header = rows[0]
    twice = [name for number, name in enumerate(header) if name in header[:number]]
    if twice:
        raise ConversionFault(f'two columns are called "{twice[0]}"')
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise ConversionFault(f"row {number} has {len(row)} columns, the header has {len(header)}")
    return [dict(zip(header, row, strict=True)) for row in rows[1:]]


def _yamlencode(value: Value) -> Value:
    from jobspec.yaml_functions import encode

    return encode(value)


def _yamldecode(text: Value) -> Value:
    from jobspec.yaml_functions import decode

    return decode(text)


DOCUMENT_FUNCTIONS: dict[str, Function] = {
    "csvdecode": _csvdecode,
    "jsondecode": _jsondecode,
    "jsonencode": _jsonencode,
    "yamldecode": _yamldecode,
    "yamlencode": _yamlencode,
}
