"""How does Go's fmt write a value? Sprint, Sprintln and Sprintf with its verbs, flags, widths and faults in the text."""

import re
from collections.abc import Sequence

import msgspec

from template.budget import TEXT_MAX
from template.faults import Refusal
from template.values import (
    Function,
    Methods,
    NoValue,
    bounded,
    go_type,
    is_map,
    is_nil,
    is_slice,
    items,
    to_bytes,
)

# Go's own bound of a width or a precision.
_WIDTH_MAX = 1_000_000
_DECLARATION = re.compile(
    r"%(?P<flags>[-+# 0]*)(?:\[(?P<wi>\d{1,4})\])?(?P<width>\d{1,9}|\*)?(?:\.(?:\[(?P<pi>\d{1,4})\])?(?P<precision>\d{0,9}|\*))?"
    r"(?:\[(?P<ai>\d{1,4})\])?(?P<verb>.?)",
    re.DOTALL,
)


def sprint(values: Sequence[object]) -> str:
    """Values one after the other, a space between two that are no strings."""
    parts: list[str] = []
    for number, value in enumerate(values):
        if number and not isinstance(value, str) and not isinstance(values[number - 1], str):
            parts.append(" ")
        parts.append(plain(value))
    return "".join(parts)


def sprintln(values: Sequence[object]) -> str:
    return " ".join(plain(value) for value in values) + "\n"


def plain(value: object) -> str:
    """A value as %v has it."""
    if isinstance(value, str):
        return value
    bounded(value)
    return _value(value, "v", _Spec())


class _Spec:
    """Flags, width and precision of one verb."""

    __slots__ = ("is_named", "minus", "plus", "precision", "sharp", "space", "width", "zero")

    def __init__(self, flags: str = "", width: int | None = None, precision: int | None = None) -> None:
        self.minus, self.plus, self.sharp = "-" in flags, "+" in flags, "#" in flags
        self.space, self.zero = " " in flags, "0" in flags and "-" not in flags
        self.width, self.precision = width, precision
        self.is_named = False

    def of_values(self) -> "_Spec":
        """With %v a plus asks for the names of fields, and not for signs."""
        self.is_named, self.plus = self.plus, False
        return self

    def padded(self, text: str, *, is_number: bool = False) -> str:
        lack = (self.width or 0) - len(text)
        if lack <= 0:
            return text
        if self.minus:
            return text + " " * lack
        if not self.zero:
            return " " * lack + text
        sign = text[:1] if is_number and text[:1] in ("+", "-", " ") else ""
        return sign + "0" * lack + text[len(sign) :]


def sprintf(form: str, values: Sequence[object]) -> str:
    for value in values:
        bounded(value)
    taken = _Arguments(values)
    text = _DECLARATION.sub(taken.written, form)
    return text + taken.left_over()


class _Arguments:
    """The values of one Sprintf, and which is next."""

    def __init__(self, values: Sequence[object]) -> None:
        self._values, self._next, self._is_reordered, self._length = values, 0, False, 0

    def written(self, match: "re.Match[str]") -> str:
        text = self._written(match)
        self._length += len(text)
        if self._length > TEXT_MAX:
            raise Refusal(f"a text of more than {TEXT_MAX} characters")
        return text

    def _written(self, match: "re.Match[str]") -> str:
        verb, flags = match["verb"], match["flags"]
        self._seek(match["wi"] if match["width"] == "*" else None)
        faults = ""
        width = precision = None
        if match["width"] == "*":
            width, faults = self._number("%!(BADWIDTH)")
            if width is not None and width < 0:
                width, flags = -width, flags + "-"
        elif match["width"]:
            width = int(match["width"])
        if match["precision"] == "*":
            self._seek(match["pi"])
            precision, bad = self._number("%!(BADPREC)")
            faults += bad
            precision = None if precision is not None and precision < 0 else precision
        elif match["precision"] is not None:
            precision = int(match["precision"] or 0)
        if max(width or 0, precision or 0) > _WIDTH_MAX:
            raise Refusal(f"a width or precision of more than {_WIDTH_MAX}")
        if not verb:
            return faults + "%!(NOVERB)"
        if verb == "%":
            return faults + "%"
        index = match["ai"] or (match["wi"] if match["width"] != "*" else None)
        if not self._seek(index):
            return f"{faults}%!{verb}(BADINDEX)"
        if self._next >= len(self._values):
            return f"{faults}%!{verb}(MISSING)"
        value = self._values[self._next]
        self._next += 1
        return faults + verb_text(value, verb, _Spec(flags, width, precision))

    def _seek(self, index: str | None) -> bool:
        if index is None:
            return True
        self._is_reordered = True
        if not 1 <= int(index) <= len(self._values):
            return False
        self._next = int(index) - 1
        return True

    def _number(self, fault: str) -> tuple[int | None, str]:
        """A width or precision among the values."""
        value = self._values[self._next] if self._next < len(self._values) else None
        self._next += 1
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _WIDTH_MAX:
            return None, fault
        return value, ""

    def left_over(self) -> str:
        if self._is_reordered or self._next >= len(self._values):
            return ""
        shown = (f"{go_type(v)}={plain(v)}" if not is_nil(v) else "<nil>" for v in self._values[self._next :])
        return f"%!(EXTRA {', '.join(shown)})"


def verb_text(value: object, verb: str, spec: _Spec) -> str:
    if verb == "T":
        return spec.padded(go_type(value))
    if verb == "v" and spec.sharp:
        return spec.padded(go_syntax(value))
    spec = spec.of_values() if verb == "v" else spec
    if is_nil(value):
        return spec.padded("<nil>") if verb == "v" else f"%!{verb}(<nil>)"
    return _value(value, verb, spec)


def _value(value: object, verb: str, spec: _Spec) -> str:
    match value:
        case None | NoValue():
            return spec.padded("<nil>") if verb in "vs" else f"%!{verb}(<nil>)"
        case bool():
            return spec.padded("true" if value else "false") if verb in "vt" else _bad(value, verb)
        case int():
            return _integer(value, verb, spec)
        case float():
            return _float(value, verb, spec)
        case str():
            return _text(value, verb, spec)
        case Methods() if not isinstance(value, list):
            return spec.padded(str(value))
        case msgspec.Struct():
            parts = (f"{name}:{_value(v, verb, spec)}" if spec.is_named else _value(v, verb, spec) for name, v in items(value))
            return "{" + " ".join(parts) + "}"
        case Function():
            return "0x0"
    if is_map(value):
        return "map[" + " ".join(f"{_value(k, verb, spec)}:{_value(v, verb, spec)}" for k, v in items(value)) + "]"
    if is_slice(value):
        return "[" + " ".join(_value(one, verb, spec) for one in value) + "]"
    return f"({type(value).__name__})"


def go_syntax(value: object) -> str:
    """A value as %#v has it: as a Go program would."""
    if is_nil(value):
        return "<nil>"
    if isinstance(value, str):
        return quoted(value)
    if is_map(value):
        return f"{go_type(value)}{{" + ", ".join(f"{go_syntax(k)}:{_inner_syntax(v)}" for k, v in items(value)) + "}"
    if is_slice(value):
        return f"{go_type(value)}{{" + ", ".join(map(_inner_syntax, value)) + "}"
    if isinstance(value, msgspec.Struct):
        return f"&{type(value).__name__}{{" + ", ".join(f"{k}:{_inner_syntax(v)}" for k, v in items(value)) + "}"
    return plain(value)


def _inner_syntax(value: object) -> str:
    return "interface {}(nil)" if is_nil(value) else go_syntax(value)


def _bad(value: object, verb: str) -> str:
    return f"%!{verb}({go_type(value)}={plain(value)})"


def _integer(value: int, verb: str, spec: _Spec) -> str:
    if verb in "vd":
        return _digits(value, str(abs(value)), spec, "")
    if verb in "xXobO":
        kind = "o" if verb == "O" else verb
        mark = "0o" if verb == "O" else {"x": "0x", "X": "0X", "o": "0", "b": "0b"}[verb] if spec.sharp else ""
        return _digits(value, format(abs(value), kind), spec, mark)
    if verb in "cqU":
        code = value if 0 <= value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF else 0xFFFD
        if verb == "c":
            return spec.padded(chr(code))
        return spec.padded(quoted(chr(code), "'") if verb == "q" else f"U+{value & (2**64 - 1):04X}")
    return _bad(value, verb)


def _digits(value: int, digits: str, spec: _Spec, mark: str) -> str:
    if spec.precision is not None:
        digits = "" if not spec.precision and not value else digits.zfill(spec.precision)
    sign = "-" if value < 0 else "+" if spec.plus else " " if spec.space else ""
    if spec.zero and spec.precision is None and spec.width:
        # Go's zeros stand between the mark and the digits, and the mark is not counted.
        digits = digits.zfill(spec.width - len(sign))
    text = sign + mark + digits
    lack = " " * max(0, (spec.width or 0) - len(text))
    return text + lack if spec.minus else lack + text


def _float(value: float, verb: str, spec: _Spec) -> str:
    if verb not in "vgGeEfFxX":
        return _bad(value, verb)
    if value != value or value in (float("inf"), float("-inf")):
        text = "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
        return _Spec("-" if spec.minus else "", spec.width).padded(text)
    if verb in "vgG" and spec.precision is None:
        text = shortest(value)
        text = text.upper() if verb == "G" else text
    elif verb in "xX":
        text = _hex_float(value, spec.precision)
        text = text.upper() if verb == "X" else text
    else:
        kind = "g" if verb == "v" else verb.replace("F", "f")
        text = f"{value:{'#' if spec.sharp else ''}.{6 if spec.precision is None else spec.precision}{kind}}"
    if text[0] != "-":
        text = ("+" if spec.plus else " " if spec.space else "") + text
    return spec.padded(text, is_number=True)


def shortest(value: float, least: int = -4, most: int = 6) -> str:
    """The fewest digits that are this number, with an exponent outside of 10^least … 10^most."""
    sign, digits, exponent = decimal(value)
    if exponent < least or exponent >= most:
        rest = "." + digits[1:] if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    return sign + positional(digits, exponent)


def decimal(value: float) -> tuple[str, str, int]:
    """(sign, digits, exponent): 12.5 is ("", "125", 1)."""
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign, mantissa = ("-", mantissa[1:]) if mantissa[0] == "-" else ("", mantissa)
    whole, _, part = mantissa.partition(".")
    digits = (whole + part).lstrip("0")
    shift = len(whole) - 1 if whole.strip("0") else -(len(part) - len(part.lstrip("0"))) - 1
    if whole.strip("0"):
        shift = len(whole.lstrip("0")) - 1
    digits = digits.rstrip("0")
    return (sign, digits, shift + int(exponent or 0)) if digits else (sign, "0", 0)


def positional(digits: str, exponent: int) -> str:
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    whole, part = digits[: exponent + 1].ljust(exponent + 1, "0"), digits[exponent + 1 :]
    return whole + ("." + part if part else "")


def _hex_float(value: float, precision: int | None) -> str:
    if precision is not None:
        raise Refusal("%x of a float with a precision is not supported")
    head, _, exponent = value.hex().partition("p")
    power = int(exponent)
    return f"{head.rstrip('0').rstrip('.') if '.' in head else head}p{'-' if power < 0 else '+'}{abs(power):02d}"


def _text(value: str, verb: str, spec: _Spec) -> str:
    if verb in "xX":
        raw = to_bytes(value)
        raw = raw[: spec.precision]
        pairs = raw.hex(" ") if spec.space else raw.hex()
        return spec.padded(pairs.upper() if verb == "X" else pairs)
    if verb not in "vsq":
        return _bad(value, verb)
    cut = value if spec.precision is None else value[: spec.precision]
    if verb != "q":
        return spec.padded(cut)
    if spec.sharp and "`" not in cut and all(sign == "\t" or " " <= sign != "\x7f" for sign in cut):
        return spec.padded(f"`{cut}`")
    return spec.padded(quoted(cut))


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}


# What has to be looked at before it is quoted.
_SPECIAL = re.compile(r"[^ !#-&(-\[\]-~]")


def quoted(text: str, quote: str = '"') -> str:
    """A text as Go's strconv quotes it."""
    return quote + _SPECIAL.sub(lambda match: _escaped(match[0], quote), text) + quote


def _escaped(sign: str, quote: str) -> str:
    if sign == quote:
        return "\\" + sign
    if sign in _ESCAPES:
        return _ESCAPES[sign]
    code = ord(sign)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if sign.isprintable():
        return sign
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
