"""The functions of job files that fill values into a text: `format` and `formatlist`.

The verbs are Go's, as far as HCL knows them. Width is counted in characters as a reader counts them.
"""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

from jobspec.document_functions import json_text
from jobspec.evaluate import Function
from jobspec.graphemes import clusters
from jobspec.values import ConversionFault, Value, to_bool, to_number, to_text

# %, flags, width, precision, the number of the value it takes, the verb.
_VERB = re.compile(r"%([-+ 0#]*)([0-9]{1,4})?(?:\.([0-9]{1,4}))?(?:\[([0-9]{1,4})\])?(.?)", re.DOTALL)
_INTEGER = "bdoxX"
_FLOAT = "eEfgG"
# Wide enough for 512-bit numbers, as ARITHMETIC in values.py.
_ROUNDING = Context(prec=400, rounding=ROUND_HALF_EVEN)


def _format(template: Value, *values: Value) -> Value:
    highest = 0
    following = 1

    def verb(match: "re.Match[str]") -> str:
        nonlocal highest, following
        if match[0] == "%%":
            return "%"
        letter = match[5]
        if not letter or letter not in "vtsq" + _INTEGER + _FLOAT:
            raise ConversionFault(
                f'"{match[0]}" is no verb (known: %v %t %s %q %b %d %o %x %X %e %E %f %g %G %%)'
            )
        number = int(match[4]) if match[4] else following
        if not 1 <= number <= len(values):
            raise ConversionFault(f"there is no value number {number} for {match[0]}")
        highest, following = max(highest, number), number + 1
        return _verb_text(match, values[number - 1])

    text = _VERB.sub(verb, to_text(template))
    if highest < len(values):
        raise ConversionFault(f"{len(values)} values are given, the text uses {highest}")
    return text


def _verb_text(match: "re.Match[str]", value: Value) -> str:
    flags, letter = match[1], match[5]
    width = int(match[2] or 0)
    if letter == "v":
        return _padded(_default_text(value, is_json="#" in flags), flags, width)
    if value is None:
        raise ConversionFault(f"null cannot be put in place of {match[0]}")
    if letter == "t":
        return "true" if to_bool(value) else "false"
    if letter in "sq":
        text = to_text(value)
        if match[3] and int(match[3]):
            text = "".join(clusters(text)[: int(match[3])])
        return _padded(json_text(text) if letter == "q" else text, flags, width)
    number = to_number(value)
    precision = int(match[3]) if match[3] is not None else None
    if letter in _INTEGER:
        if not isinstance(number, int):
            raise ConversionFault(f"{match[0]} needs a whole number, found {to_text(number)}")
        sign, digits = _integer_digits(abs(number), letter, flags, precision), number < 0
        return _signed(sign, digits, flags, width, fills_with_zeros=precision is None)
    decimal = Decimal(number)
    text = _float_digits(abs(decimal), letter, precision)
    return _signed(text, decimal < 0, flags, width, fills_with_zeros=True)


def _default_text(value: Value, *, is_json: bool) -> str:
    if isinstance(value, str) and not is_json:
        return value
    if isinstance(value, int | Decimal) and not isinstance(value, bool) and not is_json:
        return ("-" if value < 0 else "") + _float_digits(abs(Decimal(value)), "g", None)
    return json_text(value)


def _padded(text: str, flags: str, width: int) -> str:
    missing = width - len(clusters(text)) if width else 0
    if missing <= 0:
        return text
    fill = ("0" if "0" in flags else " ") * missing
    return text + fill if "-" in flags else fill + text


def _signed(digits: str, is_negative: bool, flags: str, width: int, *, fills_with_zeros: bool) -> str:
    sign = "-" if is_negative else "+" if "+" in flags else " " if " " in flags else ""
    if "-" in flags:
        return (sign + digits).ljust(width)
    if "0" in flags and fills_with_zeros:
        return sign + digits.rjust(width - len(sign), "0")
    return (sign + digits).rjust(width)


def _integer_digits(number: int, letter: str, flags: str, precision: int | None) -> str:
    digits = format(number, letter).rjust(precision or 0, "0")
    if "#" in flags:
        digits = {"o": "0", "x": "0x", "X": "0X", "b": "0b"}.get(letter, "") + digits
    return digits


def _float_digits(number: Decimal, letter: str, precision: int | None) -> str:
    """A number that is not negative, as Go writes it."""
    if letter == "f":
        return format(_ROUNDING.create_decimal(number), f".{6 if precision is None else precision}f")
    if letter in "eE":
        return _with_exponent(format(number, f".{6 if precision is None else precision}e"), letter)
    return _shortest(number, letter, precision)


def _with_exponent(text: str, letter: str) -> str:
    """Python writes e+0, Go e+00."""
    digits, _, exponent = text.lower().partition("e")
    return f"{digits}{'E' if letter in 'EG' else 'e'}{exponent[0]}{exponent[1:].rjust(2, '0')}"


def _shortest(number: Decimal, letter: str, precision: int | None) -> str:
    """%g: all digits there are (or `precision` of them), with an exponent when that is much shorter."""
    if precision is not None:
        number = Context(prec=max(precision, 1), rounding=ROUND_HALF_EVEN).create_decimal(number)
    number = number.normalize(_ROUNDING)
    _, digits, _ = number.as_tuple()
    if not number:
        return "0"
    before_point = number.adjusted() + 1
    limit = 6 if precision is None else max(precision, 1)
    if precision is not None and limit > len(digits) >= before_point:
        limit = len(digits)
    if -4 <= number.adjusted() < limit:
        return format(number, "f")
    return _with_exponent(format(number, f".{len(digits) - 1}e"), letter)


def _formatlist(template: Value, *values: Value) -> Value:
    lengths = {len(value) for value in values if isinstance(value, list)}
    if len(lengths) > 1:
        raise ConversionFault(f"all lists must have the same length, found {sorted(lengths)}")
    count = lengths.pop() if lengths else 1
    return [
        _format(template, *(value[number] if isinstance(value, list) else value for value in values))
        for number in range(count)
    ]


FORMAT_FUNCTIONS: dict[str, Function] = {"format": _format, "formatlist": _formatlist}
