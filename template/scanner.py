"""Which words does a template consist of?

Text outside of the delimiters, and within them the tokens of Go's text/template. Trim markers and comments end here:
the parser sees neither. One pass, each character looked at once.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from template.faults import TemplateFault

# What Go's templates trim; other white space stays.
_BLANK = " \t\r\n"
_COMMENT, _COMMENT_END = "/*", "*/"


class Kind(StrEnum):
    TEXT = "text"
    LEFT = "left delimiter"
    RIGHT = "right delimiter"
    SPACE = "space"
    DECLARE = ":="
    ASSIGN = "="
    PIPE = "|"
    OPEN = "("
    CLOSE = ")"
    COMMA = ","
    STRING = "string"
    RAW = "raw string"
    CHAR = "character"
    NUMBER = "number"
    VARIABLE = "variable"
    FIELD = "field"
    DOT = "."
    WORD = "word"
    END = "EOF"


class Token(NamedTuple):
    kind: Kind
    text: str
    pos: int


_TOKEN = re.compile(
    r"""(?P<SPACE>[ \t\r\n]+)
    |(?P<DECLARE>:=)|(?P<ASSIGN>=)|(?P<PIPE>\|)|(?P<OPEN>\()|(?P<CLOSE>\))|(?P<COMMA>,)
    |(?P<STRING>"(?:[^"\\\n]|\\[^\n])*")
    |(?P<RAW>`[^`]*`)
    |(?P<CHAR>'(?:[^'\\\n]|\\[^\n])*')
    |(?P<VARIABLE>\$\w*)
    |(?P<FIELD>\.[^\W\d]\w*)
    |(?P<NUMBER>[+-]?(?:
        0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?
        |0[bB][01_]+|0[oO][0-7_]+
        |(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]*)?)i?)
    |(?P<DOT>\.)
    |(?P<WORD>\w+)""",
    re.VERBOSE,
)
_KINDS = dict(Kind.__members__)
# After these a space, a delimiter, or one of the signs below has to follow.
_ENDED = {Kind.VARIABLE, Kind.FIELD, Kind.WORD, Kind.DOT}
_ENDS = ".,|:)( \t\r\n"
_UNENDED = {'"': "unterminated quoted string", "`": "unterminated raw quoted string", "'": "unterminated character constant"}


class Source:
    """A template's text, and where in it something is."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text

    def fault(self, pos: int, words: str) -> TemplateFault:
        begun = self.text.rfind("\n", 0, pos) + 1
        return TemplateFault(self.name, self.text.count("\n", 0, pos) + 1, pos - begun + 1, words)


def scan(source: Source, left: str, right: str) -> Iterator[Token]:
    """The tokens, END last. Raises TemplateFault."""
    text, pos = source.text, 0
    does_trim = False
    while True:
        found = text.find(left, pos)
        end = len(text) if found < 0 else found
        inside = end + len(left)
        trims_before = found >= 0 and text[inside : inside + 1] == "-" and text[inside + 1 : inside + 2] in tuple(_BLANK)
        piece = text[pos:end]
        shown = piece.lstrip(_BLANK) if does_trim else piece
        begun = end - len(shown)
        shown = shown.rstrip(_BLANK) if trims_before else shown
        if shown:
            yield Token(Kind.TEXT, shown, begun)
        if found < 0:
            yield Token(Kind.END, "", len(text))
            return
        inside += 2 if trims_before else 0
        if text.startswith(_COMMENT, inside):
            pos, does_trim = _comment_end(source, found, inside, right)
            continue
        yield Token(Kind.LEFT, left, found)
        for token in _inside(source, inside, found, right):
            yield token
            last = token
        pos, does_trim = last.pos + len(last.text), last.text != right


def _comment_end(source: Source, begun: int, inside: int, right: str) -> tuple[int, bool]:
    end = source.text.find(_COMMENT_END, inside)
    if end < 0:
        raise source.fault(begun, "unclosed comment")
    end += len(_COMMENT_END)
    length = _right_length(source.text, end, right)
    if not length:
        raise source.fault(begun, "comment ends before closing delimiter")
    return end + length, length > len(right)


def _right_length(text: str, pos: int, right: str) -> int:
    """How long the right delimiter that begins here is, with its trim marker; 0: there is none."""
    if text.startswith(right, pos):
        return len(right)
    if text[pos : pos + 1] in tuple(_BLANK) and text.startswith("-" + right, pos + 1):
        return len(right) + 2
    return 0


def _inside(source: Source, pos: int, begun: int, right: str) -> Iterator[Token]:
    """The tokens of one action; the last is its right delimiter."""
    text, depth = source.text, 0
    enders = right[0] + _BLANK
    while True:
        length = _right_length(text, pos, right) if text[pos : pos + 1] in enders else 0
        if length:
            if depth:
                raise source.fault(begun, "unclosed left paren")
            yield Token(Kind.RIGHT, text[pos : pos + length], pos)
            return
        match = _TOKEN.match(text, pos)
        if match is None:
            raise source.fault(pos if pos < len(text) else begun, _unreadable(text, pos))
        kind = _KINDS[match.lastgroup or ""]
        end = match.end()
        if kind is Kind.SPACE and text.startswith("-" + right, end):
            end -= 1  # the last blank belongs to the trim marker
            if end == pos:
                continue
        if kind in _ENDED and end < len(text) and text[end] not in _ENDS and not text.startswith(right, end):
            raise source.fault(end, f"bad character {_codepoint(text[end])}")
        if kind is Kind.NUMBER and end < len(text) and (text[end].isalnum() or text[end] == "_"):
            raise source.fault(pos, f'bad number syntax: "{text[pos : end + 1][:40]}"')
        if kind is Kind.OPEN:
            depth += 1
        elif kind is Kind.CLOSE:
            depth -= 1
            if depth < 0:
                raise source.fault(pos, "unexpected right paren")
        yield Token(kind, text[pos:end], pos)
        pos = end


def _unreadable(text: str, pos: int) -> str:
    if pos >= len(text):
        return "unclosed action"
    sign = text[pos]
    if sign in _UNENDED:
        return _UNENDED[sign]
    if sign == ":":
        return "expected :="
    if sign in "+-":
        return f'bad number syntax: "{text[pos : pos + 2]}"'
    return f"unrecognized character in action: {_codepoint(sign)}"


def _codepoint(sign: str) -> str:
    return f"U+{ord(sign):04X}" + (f" '{sign}'" if sign.isprintable() else "")
