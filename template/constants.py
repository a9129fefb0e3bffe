"""Which value does a constant of a template stand for: a text in quotes, a character, a number?"""

import re

_ESCAPE = re.compile(r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))", re.DOTALL)
_SIGNS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "'": "'", '"': '"'}
_DIGITS = re.compile(
    r"[+-]?(?:0[xX]_?[0-9a-fA-F](?:_?[0-9a-fA-F])*|0[bB]_?[01](?:_?[01])*|0[oO]?_?[0-7](?:_?[0-7])*|0|[1-9](?:_?[0-9])*)"
)
_DECIMAL = re.compile(r"[+-]?(?:[0-9](?:_?[0-9])*)?\.?(?:[0-9](?:_?[0-9])*)?(?:[eE][+-]?[0-9](?:_?[0-9])*)?")
_HEX_FLOAT = re.compile(r"[+-]?0[xX][0-9a-fA-F]*\.?[0-9a-fA-F]*[pP][+-]?[0-9]+")
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


class BadConstant(ValueError):
    """A constant is none; the message says why."""


def quoted(text: str) -> str:
    """The value of an interpreted string with its quotes. Bytes that are no UTF-8 become surrogates."""
    return _unescaped(text[1:-1], "'")


def rune(text: str) -> int:
    value = _unescaped(text[1:-1], '"')
    if len(value) != 1 or (value == "'" and text == "'''"):
        raise BadConstant("malformed character constant")
    code = ord(value)
    return code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code


def _unescaped(inner: str, foreign: str) -> str:
    """foreign: the quote that needs no escape here, and so has none."""
    raw = False

    def one(match: "re.Match[str]") -> str:
        nonlocal raw
        sign, pair, four, eight, octal, _ = match.groups()
        if sign and sign != foreign:
            return _SIGNS[sign]
        if pair or octal:
            byte = int(pair, 16) if pair else int(octal, 8)
            if byte > 0xFF:
                raise BadConstant("invalid syntax: an octal escape above 377")
            raw = raw or byte > 0x7F
            return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
        code = int(four or eight, 16) if four or eight else -1
        if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise BadConstant("invalid syntax: an unknown escape in a constant")
        return chr(code)

    value = _ESCAPE.sub(one, inner)
    # Escaped bytes may together be a character.
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") if raw else value


def number(text: str) -> int | float:
    if text.endswith("i") and not text.lower().startswith("0x"):
        raise BadConstant(f'complex numbers are not supported: "{text[:40]}"')
    if len(text) > 400:
        raise BadConstant("a number of more than 400 characters")
    if _DIGITS.fullmatch(text):
        value = _integer(text)
        if not INT_MIN <= value <= INT_MAX:
            raise BadConstant(f"{text[:40]} overflows int")
        return value
    plain = text.replace("_", "")
    try:
        if _HEX_FLOAT.fullmatch(plain):
            return float.fromhex(plain)
        if _DECIMAL.fullmatch(text):
            result = float(plain)
            if result in (float("inf"), float("-inf")):
                raise BadConstant(f'bad number syntax: "{text[:40]}"')
            return result
    except (ValueError, OverflowError):
        pass
    raise BadConstant(f'bad number syntax: "{text[:40]}"')


def _integer(text: str) -> int:
    digits = text.replace("_", "").lower()
    bare = digits.lstrip("+-")
    if len(bare) > 1 and bare[0] == "0" and bare[1].isdigit():
        digits = digits.replace("0", "0o", 1)  # 0755
    return int(digits, 0)
