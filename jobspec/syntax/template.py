"""What do quoted strings and heredocs hold?

Both are templates: text with `${ }` and `%{ }` sequences. A quoted string knows backslash escapes and
ends on its line; a heredoc knows neither. The template is first read as a flat list of pieces, then
`%{ if }` and `%{ for }` are nested. Trim markers (`~`) work on the piece next to them, where a piece of
a heredoc never reaches over a line end: so does Nomad.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from jobspec.syntax.source import LEVELS_MAX
from jobspec.syntax.tree import Expression, ForDirective, If, Literal, Reference, Template

if TYPE_CHECKING:
    from jobspec.syntax.parser import Parser

# A sign that opens no sequence and escapes none is text like any other.
_SIGN = r"\$(?!\$?\{)|%(?!%?\{)"
_QUOTED_TEXT = re.compile(rf'(?:[^"\\$%\n]|{_SIGN})++')
_HEREDOC_TEXT = re.compile(rf"(?:[^$%\n]|{_SIGN})*+\n|(?:[^$%\n]|{_SIGN})++")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_OPENS = {"if": 1, "for": 1, "endif": -1, "endfor": -1}
_DIRECTIVE = re.compile(r"[ \t\r\n]*+(if|else|endif|for|endfor)\b")


@dataclass(slots=True)
class _Piece:
    """Text, or a sequence: `kind` is "text", "value", "if", "else", "endif", "for", "endfor"."""

    kind: str
    at: int
    text: str = ""
    value: Expression | None = None
    names: tuple[str, str] = ("", "")
    trims_left: bool = False
    trims_right: bool = False
    open_directives: int = 0  # behind this piece


def read_quoted(parser: "Parser") -> Expression:
    """Reads from behind an opening quote; leaves the scanner at the token after the closing one."""
    scanner, text = parser.scanner, parser.scanner.text
    at, pos, size = scanner.start, scanner.end, len(text)
    pieces: list[_Piece] = []
    run: list[str] = []
    while True:
        if pos >= size:
            scanner.refuse('the string that starts here is not closed (expected ")', at)
        match = _QUOTED_TEXT.match(text, pos)
        if match:
            run.append(match[0])
            pos = match.end()
            continue
        character = text[pos]
        if character == '"':
            break
        if character == "\n":
            scanner.refuse(
                'a quoted string ends on its line (close it with ", write \\n, or use a heredoc)', at
            )
        if character == "\\":
            decoded, pos = _escape(parser, pos)
            run.append(decoded)
        else:
            pos = _dollar_or_percent(parser, pos, run, pieces)
    _flush(run, pieces, at)
    scanner.resume(pos + 1)
    return _assemble(parser, pieces, at)


def read_heredoc(parser: "Parser") -> Expression:
    """Reads from behind `<<MARK` and its line end; leaves the scanner at the line end after the mark."""
    scanner, text = parser.scanner, parser.scanner.text
    at, body = scanner.start, scanner.end
    opening = scanner.value
    is_flush = opening.startswith("<<-")
    mark = opening.strip()[3 if is_flush else 2 :]
    closing = re.compile(rf"^[ \t]*+{re.escape(mark)}(?=[ \t]*+\r?(?:\n|\Z))", re.MULTILINE).search(
        text, body
    )
    if closing is None:
        scanner.refuse(
            f"the heredoc that starts here is not closed (expected {mark} on a line of its own)", at
        )
    stop = closing.start()
    if not is_flush and text.find("${", body, stop) < 0 and text.find("%{", body, stop) < 0:
        scanner.resume(closing.end())
        return Literal(at, text[body:stop])
    pieces: list[_Piece] = []
    run: list[str] = []
    pos = body
    while pos < stop:
        match = _HEREDOC_TEXT.match(text, pos, stop)
        if match:
            run.append(match[0])
            pos = match.end()
            if match[0][-1] == "\n":  # a piece per line: trim markers and <<- count lines
                _flush(run, pieces, pos)
            continue
        pos = _dollar_or_percent(parser, pos, run, pieces)
        if pos > stop:
            scanner.refuse("a template sequence runs past the end of its heredoc", at)
    _flush(run, pieces, at)
    if is_flush:
        _outdent(pieces)
    scanner.resume(closing.end())
    return _assemble(parser, pieces, at)


def _flush(run: list[str], pieces: list[_Piece], at: int) -> None:
    if run:
        pieces.append(_Piece("text", at, "".join(run), open_directives=_open_directives(pieces)))
        run.clear()


def _open_directives(pieces: list[_Piece]) -> int:
    return pieces[-1].open_directives if pieces else 0


def _escape(parser: "Parser", pos: int) -> tuple[str, int]:
    text = parser.scanner.text
    selector = text[pos + 1 : pos + 2]
    if selector in _ESCAPES and selector:
        return _ESCAPES[selector], pos + 2
    digits = {"u": 4, "U": 8}.get(selector)
    if digits is None:
        parser.scanner.refuse(
            f'unknown escape "\\{selector}" (known: \\n \\r \\t \\" \\\\ \\uNNNN \\UNNNNNNNN)', pos
        )
    code = text[pos + 2 : pos + 2 + digits]
    if not re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", code):
        parser.scanner.refuse(f"\\{selector} must be followed by {digits} hexadecimal digits", pos)
    number = int(code, 16)
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        return "\ufffd", pos + 2 + digits
    return chr(number), pos + 2 + digits


def _dollar_or_percent(parser: "Parser", pos: int, run: list[str], pieces: list[_Piece]) -> int:
    """At a `$` or `%`: adds what it stands for, and returns where to go on."""
    text = parser.scanner.text
    sign = text[pos]
    if text.startswith(sign + sign + "{", pos):
        run.append(sign + "{")
        return pos + 3
    if not text.startswith("{", pos + 1):
        run.append(sign)
        return pos + 1
    _flush(run, pieces, pos)
    piece = _interpolation(parser, pos) if sign == "$" else _directive(parser, pos)
    piece.open_directives = _open_directives(pieces) + _OPENS.get(piece.kind, 0)
    if piece.open_directives > LEVELS_MAX:  # said here, and not after megabytes of them were read
        parser.scanner.refuse(f"nested too deeply (at most {LEVELS_MAX} levels)", piece.at)
    pieces.append(piece)
    return parser.scanner.end


def _interpolation(parser: "Parser", at: int) -> _Piece:
    scanner = parser.scanner
    trims_left = scanner.text.startswith("~", at + 2)
    inside = at + 3 if trims_left else at + 2
    with parser.inside_sequence():
        scanner.resume(inside)
        value = parser.expression()
    trims_right = _close(parser, at, "interpolation")
    if isinstance(value, Reference):
        value = msgspec.structs.replace(value, raw=scanner.text[inside : scanner.start])
    return _Piece("value", at, value=value, trims_left=trims_left, trims_right=trims_right)


def _close(parser: "Parser", at: int, what: str) -> bool:
    """At the `}` or `~}` that ends a sequence; returns whether it trims."""
    scanner = parser.scanner
    if scanner.kind not in ("}", "~}"):
        if scanner.kind == "end":
            scanner.refuse(f"the {what} that starts here is not closed (expected }})", at)
        scanner.refuse(f"expected }} at the end of the {what}, found {scanner.describe()}")
    return scanner.kind == "~}"


def _directive(parser: "Parser", at: int) -> _Piece:
    scanner = parser.scanner
    trims_left = scanner.text.startswith("~", at + 2)
    inside = at + 3 if trims_left else at + 2
    match = _DIRECTIVE.match(scanner.text, inside)
    if match is None:
        scanner.refuse("unknown template directive (expected if, else, endif, for or endfor)", at)
    piece = _Piece(match[1], at, trims_left=trims_left)
    with parser.inside_sequence():
        scanner.resume(match.end())
        if piece.kind == "if":
            piece.value = parser.expression()
        elif piece.kind == "for":
            piece.names = parser.loop_names()
            piece.value = parser.expression()
    piece.trims_right = _close(parser, at, "directive")
    return piece


def _outdent(pieces: list[_Piece]) -> None:
    """`<<-`: takes the smallest indentation off every line; blank lines do not count and stay."""
    starts_line = True
    indented: list[_Piece] = []
    smallest: int | None = None
    for piece in pieces:
        if starts_line:
            spaces = 0
            if piece.kind == "text":
                rest = piece.text.lstrip()
                if not rest and piece.text.endswith("\n"):
                    continue
                spaces = len(piece.text) - len(rest)
                indented.append(piece)
            smallest = spaces if smallest is None else min(smallest, spaces)
        starts_line = piece.kind == "text" and piece.text.endswith("\n")
    for piece in indented:
        piece.text = piece.text[smallest:]


def _assemble(parser: "Parser", pieces: list[_Piece], at: int) -> Expression:
    if not pieces:
        return Literal(at, "")
    if all(piece.kind == "text" for piece in pieces):
        return Literal(at, "".join(piece.text for piece in pieces))
    _trim(pieces)
    template, rest = _nest(parser, pieces, 0, at, ())
    if rest < len(pieces):
        parser.scanner.refuse(f"%{{ {pieces[rest].kind} }} closes nothing", pieces[rest].at)
    return template


def _trim(pieces: list[_Piece]) -> None:
    for number, piece in enumerate(pieces):
        if piece.trims_left and number > 0 and pieces[number - 1].kind == "text":
            pieces[number - 1].text = pieces[number - 1].text.rstrip()
        if piece.trims_right and number + 1 < len(pieces) and pieces[number + 1].kind == "text":
            pieces[number + 1].text = pieces[number + 1].text.lstrip()


def _nest(
    parser: "Parser", pieces: list[_Piece], start: int, at: int, closers: tuple[str, ...]
) -> tuple[Template, int]:
    """The pieces from `start` up to one of `closers` as a template; returns it and where it stopped."""
    parts: list[str | Expression] = []
    number = start
    with parser.nested(at):
        while number < len(pieces):
            piece = pieces[number]
            number += 1
            if piece.kind == "text":
                if piece.text:
                    parts.append(piece.text)
            elif piece.kind == "value" and piece.value is not None:
                parts.append(piece.value)
            elif piece.kind == "if" and piece.value is not None:
                then, number = _nest(parser, pieces, number, piece.at, ("else", "endif"))
                other = Template(piece.at, ())
                if pieces[number].kind == "else":
                    other, number = _nest(parser, pieces, number + 1, piece.at, ("endif",))
                number += 1
                parts.append(If(piece.at, piece.value, then, other))
            elif piece.kind == "for" and piece.value is not None:
                body, number = _nest(parser, pieces, number, piece.at, ("endfor",))
                number += 1
                parts.append(ForDirective(piece.at, *piece.names, piece.value, body))
            elif piece.kind in closers:
                return Template(at, tuple(parts)), number - 1
            else:
                parser.scanner.refuse(f"%{{ {piece.kind} }} closes nothing", piece.at)
    if closers:
        parser.scanner.refuse(
            f"the template directive that starts here is not closed (expected %{{ {closers[-1]} }})", at
        )
    return Template(at, tuple(parts)), number
