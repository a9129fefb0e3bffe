"""Which token comes next?

One regular expression finds the white space and the token after it; possessive quantifiers keep it
linear. Strings with templates and heredocs are only announced here ("quote", "heredoc"): their inside
is another language, read by `template.py`.
"""

import re
from typing import NoReturn

from jobspec.syntax.source import Source

# The kinds: "newline", "name", "number", "string" (a whole quoted string without escapes or templates),
# "quote" (the opening quote of any other), "heredoc", "end", or the operator itself.
_TOKEN = re.compile(
    r"""
    (?:[ \t]++ | \r(?=\n) | (?:\#|//)[^\n]*+ | /\*(?:[^*]|\*(?!/))*+\*/ )*+
    (?:
      (?P<newline>\n)
    | (?P<name>[^\W\d][\w-]*+)
    | (?P<number>[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)
    | "(?P<string>[^"\\$%\n\r]*+)"
    | (?P<quote>")
    | (?P<heredoc><<-?[^\W\d][\w-]*+[ \t]*\r?\n)
    | (?P<operator>\.\.\.|==|!=|<=|>=|&&|\|\||=>|~\}|[-+*/%{}()\[\].,:?=!<>])
    | (?P<end>\Z)
    )
    """,
    re.VERBOSE,
)

_HINTS = {
    "'": "single quotes do not enclose strings (use double quotes)",
    "“": "curly quotes do not enclose strings (use plain double quotes)",
    "”": "curly quotes do not enclose strings (use plain double quotes)",
    "`": "backquotes do not enclose strings (use double quotes or a heredoc)",
    ";": "a semicolon separates nothing here (put each argument on a line of its own)",
    "&": '"&" is no operator (the logical and is "&&")',
    "|": '"|" is no operator (the logical or is "||")',
    "^": '"^" is no operator',
    "@": '"@" has no meaning here',
    "$": 'a template sequence stands outside a string (write "${…}" inside quotes)',
    "~": '"~" has no meaning here',
    "\ufeff": "a byte order mark in the middle of the text",
}


class Scanner:
    """The current token of a text: `kind`, and from `start` to `end`. `advance` goes to the next.

    skips_newlines: inside parentheses and brackets line ends are only white space.
    """

    __slots__ = ("end", "kind", "skips_newlines", "source", "start", "text", "value")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.kind = ""
        self.value = ""
        self.start = 0
        self.end = 0
        self.skips_newlines = False

    def advance(self) -> None:
        while True:
            match = _TOKEN.match(self.text, self.end)
            if match is None:
                self._refuse_character()
            kind = match.lastgroup or ""
            value = match[kind]
            self.value = value
            self.end = match.end()
            self.start = match.start(kind)
            if kind == "operator":
                self.kind = value
                return
            if kind == "newline" and self.skips_newlines:
                continue
            if kind == "string":
                self.start -= 1
            self.kind = kind
            return

    def resume(self, at: int) -> None:
        """Goes on at an offset, after something else than the scanner read the text up to there."""
        self.end = at
        self.advance()

    def describe(self) -> str:
        """The current token as an error message names it."""
        if self.kind == "end":
            return "the end of the file"
        if self.kind == "newline":
            return "the end of the line"
        if self.kind in ("string", "quote"):
            return "a string"
        if self.kind == "heredoc":
            return "a heredoc"
        return f'"{self.value[:40]}"'

    def refuse(self, message: str, at: int | None = None) -> NoReturn:
        self.source.refuse(self.start if at is None else at, message)

    def _refuse_character(self) -> NoReturn:
        # The token expression did not match: step over the white space alone, and say what stands there.
        space = re.compile(r"(?:[ \t]++|\r(?=\n)|(?:\#|//)[^\n]*+|/\*(?:[^*]|\*(?!/))*+\*/)*+").match(
            self.text, self.end
        )
        at = space.end() if space else self.end
        character = self.text[at]
        hint = _HINTS.get(character)
        if hint is None:
            shown = character if character.isprintable() else f"U+{ord(character):04X}"
            hint = f'the character "{shown}" has no meaning here'
        self.source.refuse(at, hint)
