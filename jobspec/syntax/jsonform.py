"""Which tree does a JSON text make, with positions?

The standard library's reader knows no positions, and a job file's faults must name a line. Strings are
templates, as HCL's JSON form has it.
"""

import re
from typing import Any

from jobspec.syntax.parser import NESTING_MAX, NUMBER_TOO_LARGE, parse_template, read_number
from jobspec.syntax.source import Source
from jobspec.syntax.tree import Expression, Literal, Node, ObjectOf, TupleOf

_SPACE = re.compile(r"[ \t\r\n]*+")
_STRING = re.compile(r'"((?:[^"\\\x00-\x1f]|\\.)*+)"', re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_WORDS = {"true": True, "false": False, "null": None}
_WORD = re.compile(r"true|false|null")


def parse_json(source: Source) -> Expression:
    """A JSON text as expression nodes. Raises JobspecError at the first fault."""
    value, at = _value(source, _skip(source, 0), 0)
    at = _skip(source, at)
    if at < len(source.text):
        source.refuse(at, "expected the end of the JSON text")
    return value


def _skip(source: Source, at: int) -> int:
    match = _SPACE.match(source.text, at)
    return match.end() if match else at


def _value(source: Source, at: int, depth: int) -> tuple[Expression, int]:
    text = source.text
    source.count_node(at)
    if depth > NESTING_MAX:
        source.refuse(at, f"nested too deeply (at most {NESTING_MAX} levels)")
    character = text[at : at + 1]
    if character == "{":
        return _object(source, at, depth)
    if character == "[":
        return _array(source, at, depth)
    if character == '"':
        decoded, end = _string(source, at)
        template = parse_template(Source(decoded, source.file))
        return _at(template, at), end
    word = _WORD.match(text, at)
    if word:
        return Literal(at, _WORDS[word[0]]), word.end()
    number = _NUMBER.match(text, at)
    if number:
        value = read_number(number[0])
        if value is None:
            source.refuse(at, NUMBER_TOO_LARGE)
        return Literal(at, value), number.end()
    found = f'"{character}"' if character else "the end of the file"
    return source.refuse(at, f"expected a JSON value, found {found}")


def _at(template: Expression, at: int) -> Expression:
    """Offsets inside a decoded string mean nothing in the file: every node of it stands at the string."""
    moved: Expression = _moved(template, at)
    return moved


def _moved(part: Any, at: int) -> Any:
    if isinstance(part, tuple):
        return tuple(_moved(item, at) for item in part)
    if not isinstance(part, Node):
        return part
    fields = {name: _moved(getattr(part, name), at) for name in part.__struct_fields__ if name != "at"}
    return type(part)(at, **fields)


def _string(source: Source, at: int) -> tuple[str, int]:
    import json

    match = _STRING.match(source.text, at)
    if match is None:
        source.refuse(at, "the string that starts here is not closed")
    try:
        decoded = json.loads(match[0])
    except ValueError as error:
        source.refuse(at, f"bad string: {str(error).split(':')[0]}")
    return str(decoded), match.end()


def _array(source: Source, at: int, depth: int) -> tuple[Expression, int]:
    items: list[Expression] = []
    pos = _skip(source, at + 1)
    while source.text[pos : pos + 1] != "]":
        item, pos = _value(source, pos, depth + 1)
        items.append(item)
        pos = _skip(source, pos)
        if source.text[pos : pos + 1] == ",":
            pos = _skip(source, pos + 1)
        elif source.text[pos : pos + 1] != "]":
            source.refuse(pos, 'expected "," or "]"')
    return TupleOf(at, tuple(items)), pos + 1


def _object(source: Source, at: int, depth: int) -> tuple[Expression, int]:
    items: list[tuple[Expression, Expression]] = []
    pos = _skip(source, at + 1)
    while source.text[pos : pos + 1] != "}":
        if source.text[pos : pos + 1] != '"':
            source.refuse(pos, "expected a name in quotes")
        name, end = _string(source, pos)
        key = Literal(pos, name)
        pos = _skip(source, end)
        if source.text[pos : pos + 1] != ":":
            source.refuse(pos, 'expected ":"')
        value, pos = _value(source, _skip(source, pos + 1), depth + 1)
        items.append((key, value))
        pos = _skip(source, pos)
        if source.text[pos : pos + 1] == ",":
            pos = _skip(source, pos + 1)
        elif source.text[pos : pos + 1] != "}":
            source.refuse(pos, 'expected "," or "}"')
    return ObjectOf(at, tuple(items)), pos + 1
