"""What does a text in HCL's first version say (`-hcl1`)?

    text --tokens--> pyhcl's grammar --> ObjectOf, TupleOf, Literal

The same tree as of JSON: HCL1 knows neither expressions nor a difference between a block and an object. The
tokens are made here, because pyhcl's own lose what was quoted, all escapes but two and the ends of heredocs;
its grammar is used as it is. What is a token follows hashicorp/hcl v1's scanner.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache
from typing import NamedTuple, NoReturn

import msgspec
from hcl.parser import HclParser
from hcl.ply.lex import LexToken

from jobspec.syntax.parser import NESTING_MAX, read_number
from jobspec.syntax.source import Source
from jobspec.syntax.tree import Expression, Literal, ObjectOf, TupleOf

_BLANK = re.compile(r"(?: [ \t\n]++ | (?:\#|//)[^\n]*+ | /\*(?:[^*]|\*(?!/))*+\*/ )*+", re.VERBOSE)
_TOKEN = re.compile(
    rf"""
    {_BLANK.pattern}
    (?:
      (?P<word>[^\W\d][\w.-]*+)
    | (?P<hex>-?0[xX][0-9a-fA-F]+)
    | (?P<number>-?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)
    | (?P<quote>")
    | (?P<heredoc><<(?P<unindent>-?)(?P<marker>\w++)\n)
    | (?P<sign>[={{}}\[\],])
    | (?P<end>\Z)
    )
    """,
    re.VERBOSE,
)
_SIGNS = {
    "=": "EQUAL",
    "{": "LEFTBRACE",
    "}": "RIGHTBRACE",
    "[": "LEFTBRACKET",
    "]": "RIGHTBRACKET",
    ",": "COMMA",
}
# Up to what ends a string or needs a second look in it.
_PLAIN = re.compile(r'(?:[^"\\$\n]++|\$(?!\{))*+')
_BRACE = re.compile(r"[{}]")
_ESCAPE = re.compile(
    r"""\\(?:(?P<one>[abfnrtv\\"])|(?P<octal>[0-7]{3})|x(?P<x>[0-9a-fA-F]{2})"""
    r"""|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8}))"""
)
_ONE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


# A large job has a thousand. The grammar's time grows with the square of a block's items.
_TOKENS_MAX = 60_000


class _Word(NamedTuple):
    """A name without quotes: a key, never a value."""

    at: int
    text: str


def parse_hcl1(source: Source) -> ObjectOf:
    """The tree of the whole text; a key that is given twice stands in it twice. Raises JobspecError.

    Its line ends must be \\n alone.
    """
    grammar = _grammar()
    reading = _Reading(source)
    # Set on the object and not in a subclass: pyhcl's tables are made for the methods of its own class.
    grammar.objectlist_flat = reading.body
    grammar.yacc.errorfunc = reading.refuse_token
    tree = grammar.yacc.parse(source.text, lexer=_Tokens(list(_lists(source, _tokens(source)))))
    assert isinstance(tree, ObjectOf)
    return tree


@cache
def _grammar() -> HclParser:
    """Its tables take 20 ms to make. One reading at a time uses it (jobspec.deep)."""
    return HclParser()


class _Tokens:
    """The lexer as the parser wants it."""

    def __init__(self, tokens: Sequence[LexToken]) -> None:
        self._tokens = iter(tokens)

    def input(self, text: str) -> None:
        pass

    def token(self) -> LexToken | None:
        return next(self._tokens, None)


def _token(kind: str, value: object, at: int) -> LexToken:
    token = LexToken()
    token.type, token.value, token.lexpos, token.lineno = kind, value, at, 0
    return token


class _Reading:
    """What stands in for the actions of pyhcl's grammar."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def refuse_token(self, token: LexToken | None) -> NoReturn:
        if token is None:
            self._source.refuse(len(self._source.text), "the file ends inside of a block or list")
        shown = {kind: f'"{sign}"' for sign, kind in _SIGNS.items()}
        what = shown.get(token.type, "a name" if token.type == "IDENTIFIER" else "a value")
        self._source.refuse(token.lexpos, f"{what} does not belong here (expected name = value, or name {{ … }})")

    def body(self, items: Sequence[tuple[object, object]], _replace: bool) -> ObjectOf:
        """The items between two braces, or of the file."""
        read = tuple(self._item(key, value) for key, value in items)
        return ObjectOf(read[0][0].at if read else 0, read)

    def _item(self, key: object, value: object) -> tuple[Literal, Expression]:
        if isinstance(key, _Word):
            name = Literal(key.at, key.text)
        elif isinstance(key, Literal) and isinstance(key.value, str):
            name = key
        else:
            at = key.at if isinstance(key, Literal) else 0
            self._source.refuse(at, "a name or a text in double quotes is expected before = or {")
        return name, self._value(value, name.at)

    def _value(self, value: object, at: int) -> Expression:
        if isinstance(value, ObjectOf):
            return msgspec.structs.replace(value, at=at)
        if isinstance(value, Literal | TupleOf):
            return value
        if isinstance(value, list):
            return TupleOf(at, tuple(self._value(item, at) for item in value))
        if isinstance(value, _Word):
            self._source.refuse(value.at, f'unknown word "{value.text[:60]}" (text needs double quotes)')
        if not isinstance(value, dict):
            self._source.refuse(at, "expected a text, a number, true, false, a list or a block")
        # What follows a label; an empty one is an empty block.
        return ObjectOf(at, tuple(self._item(key, inner) for key, inner in value.items()))


def _lists(source: Source, tokens: Iterator[LexToken]) -> Iterator[LexToken]:
    """Lists without objects become one value each: pyhcl's grammar knows no list inside a list."""
    read: list[LexToken] = []
    opened: list[int] = []
    for token in tokens:
        if token.type == "LEFTBRACKET":
            opened.append(len(read))
        elif token.type == "RIGHTBRACKET" and opened:
            start = opened.pop()
            inside = read[start + 1 :]
            if all(one.type in ("STRING", "COMMA", "IDENTIFIER") for one in inside):
                at = read[start].lexpos
                del read[start:]
                read.append(_token("STRING", TupleOf(at, _elements(source, inside)), at))
                continue
        read.append(token)
    yield from read


def _elements(source: Source, tokens: Sequence[LexToken]) -> tuple[Expression, ...]:
    elements: list[Expression] = []
    for number, token in enumerate(tokens):
        if token.type == "IDENTIFIER":
            source.refuse(token.lexpos, f'unknown word "{token.value.text[:60]}" (text needs double quotes)')
        if (token.type == "COMMA") != (number % 2 == 1):
            source.refuse(token.lexpos, "expected one comma between the elements of a list")
        if token.type != "COMMA":
            elements.append(token.value)
    return tuple(elements)


def _tokens(source: Source) -> Iterator[LexToken]:
    text, at, depth, left = source.text, 0, 0, _TOKENS_MAX
    while True:
        left -= 1
        if left < 0:
            source.refuse(at, f"too large for HCL1 (more than {_TOKENS_MAX} names, values and signs)")
        match = _TOKEN.match(text, at)
        if match is None:
            _refuse_text(source, at)
        kind, at = match.lastgroup, match.end()
        start = match.start(kind or 0)
        if kind == "end":
            return
        if kind == "sign":
            sign = match["sign"]
            depth += (sign in "{[") - (sign in "}]")
            if depth > NESTING_MAX:
                source.refuse(start, f"nested too deeply (at most {NESTING_MAX} levels)")
            yield _token(_SIGNS[sign], sign, start)
        elif kind == "word" and match["word"] not in ("true", "false"):
            yield _token("IDENTIFIER", _Word(start, match["word"]), start)
        else:
            value: str | int | Decimal | bool
            if kind == "word":
                value = match["word"] == "true"
            elif kind == "quote":
                value, at = _string(source, at)
            elif match["marker"]:
                start = match.start("heredoc")
                value, at = _heredoc(source, match)
            else:
                value = _number(source, match, start)
            yield _token("STRING", Literal(start, value), start)


def _refuse_text(source: Source, at: int) -> NoReturn:
    """What stands at or after `at`, behind white space and comments, is no token."""
    text = source.text
    blank = _BLANK.match(text, at)
    at = blank.end() if blank else at
    if text.startswith("/*", at):
        source.refuse(at, "the comment is not closed (expected */)")
    if text.startswith("<<", at):
        source.refuse(at, "a heredoc begins with << and a marker, and its text on the next line")
    hint = " (HCL1 knows no expressions: leave -hcl1 away)" if text[at] in "(?:!&|%+*<>" else ""
    source.refuse(at, f'unexpected character "{text[at]}"{hint}')


def _number(source: Source, match: re.Match[str], at: int) -> int | Decimal:
    if match["hex"]:
        return int(match["hex"], 16)
    text = match["number"]
    digits = text.removeprefix("-")
    if digits.isdigit() and digits.startswith("0") and len(digits) > 1:
        if set(digits) - set("01234567"):
            source.refuse(at, f"{text[:60]} is no octal number (a leading 0 makes it one)")
        return int(text, 8)
    number = read_number(digits)
    if number is None:
        source.refuse(at, f"{text[:60]} is too large")
    return -number if text.startswith("-") else number


def _string(source: Source, start: int) -> tuple[str, int]:
    """The text of a quoted string, and where it ends. What stands in ${ } is kept as it is."""
    text, at, parts = source.text, start, []
    while True:
        plain = _PLAIN.match(text, at)
        assert plain is not None
        parts.append(plain.group())
        at = plain.end()
        if text.startswith('"', at):
            return "".join(parts), at + 1
        if text.startswith("${", at):
            end = _interpolation(source, at)
            parts.append(text[at:end])
            at = end
        elif text.startswith("\\", at):
            escape = _ESCAPE.match(text, at)
            if escape is None:
                source.refuse(at, f'unknown escape sequence "{text[at : at + 2]}"')
            parts.append(_escaped(source, escape))
            at = escape.end()
        else:
            source.refuse(start - 1, "the string is not closed on its line")


def _interpolation(source: Source, start: int) -> int:
    depth, at = 0, start
    while at == start or depth:
        brace = _BRACE.search(source.text, at)
        if brace is None:
            source.refuse(start, "${ is not closed")
        depth += 1 if brace.group() == "{" else -1
        at = brace.end()
    return at


def _escaped(source: Source, escape: re.Match[str]) -> str:
    one = escape["one"]
    if one is not None:
        return _ONE.get(one, one)
    digits = escape["octal"] or escape["x"] or escape["u"] or escape["U"]
    number = int(digits, 8 if escape["octal"] else 16)
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        source.refuse(escape.start(), f'"{escape.group()}" is no character')
    return chr(number)


def _heredoc(source: Source, match: re.Match[str]) -> tuple[str, int]:
    """The text of a heredoc, and where the line of its marker ends.

    With `<<-` the white space before the end marker goes from every line, if every line has it; without, what
    stands before the end marker belongs to the text.
    """
    text, start = source.text, match.end()
    closing = re.compile(rf"^([^\S\n]*){re.escape(match['marker'])}$", re.MULTILINE).search(text, start)
    if closing is None:
        source.refuse(match.start("heredoc"), f"the heredoc is not closed (expected a line {match['marker']})")
    body, margin = text[start : closing.start()], closing[1]
    if not match["unindent"]:
        return body + margin, closing.end()
    lines = body.split("\n")[:-1]
    if all(line.startswith(margin) for line in lines):
        body = "".join(line.removeprefix(margin) + "\n" for line in lines)
    return body, closing.end()
