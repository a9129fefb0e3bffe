"""Which variables does a rendered file with `env = true` hold?

    # a comment
    export NAME=a value   # a comment
    OTHER="with \\n, \\t, \\" and \\u00e9"  'and this as it is'

As Nomad reads it (hashicorp/go-envparse): one variable a line, quotes anywhere in a value, escapes in double quotes only. No
message holds a value.
"""

import re

_NAME = re.compile(r"[A-Za-z_][^\s=]*")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEX4 = re.compile(r"[0-9a-fA-F]{4}")


class EnvFault(ValueError):
    """line: from 1."""

    def __init__(self, line: int, words: str) -> None:
        self.line = line
        super().__init__(f"line {line}: {words}")


def parse_env(text: str) -> dict[str, str]:
    """Raises EnvFault for the first line that is none."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise EnvFault(number, 'expected NAME=value, found no "="')
        name = name.strip()
        name = name.removeprefix("export ").strip()
        if not _NAME.fullmatch(name):
            raise EnvFault(number, "the name of a variable begins with a letter or _ and holds no space")
        found[name] = _value(value.strip(), number)
    return found


def _value(text: str, line: int) -> str:
    out: list[str] = []
    kept = 0  # what of `out` is not space before a comment
    at = 0
    while at < len(text):
        letter = text[at]
        if letter == "#":
            return "".join(out[:kept])
        if letter == '"':
            value, at = _double(text, at + 1, line)
        elif letter == "'":
            end = text.find("'", at + 1)
            if end < 0:
                raise EnvFault(line, "a ' without its other one")
            value, at = text[at + 1 : end], end + 1
        else:
            value, at = letter, at + 1
        if any(ord(one) < 32 for one in value) and letter not in '"\t':
            raise EnvFault(line, "a control character")
        out.append(value)
        if letter not in " \t":
            kept = len(out)
    return "".join(out)


def _double(text: str, at: int, line: int) -> tuple[str, int]:
    """What is in double quotes, and where it goes on after them."""
    out: list[str] = []
    while at < len(text):
        letter = text[at]
        if letter == '"':
            return "".join(out), at + 1
        if letter != "\\":
            if ord(letter) < 32:
                raise EnvFault(line, "a control character")
            out.append(letter)
            at += 1
            continue
        escape = text[at + 1 : at + 2]
        digits = _HEX4.match(text, at + 2)
        if escape == "u" and digits:
            out.append(chr(int(digits[0], 16)))
            at += 6
        elif escape in _ESCAPES and escape:
            out.append(_ESCAPES[escape])
            at += 2
        else:
            raise EnvFault(line, "an escape in double quotes that is none")
    raise EnvFault(line, 'a " without its other one')
