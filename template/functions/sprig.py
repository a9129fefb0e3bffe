"""The functions of the Sprig library that consul-template offers as `sprig_…`: the ones that templates of jobs use.

The last argument is what is worked on, so that they can stand in a pipeline. Not here: what differs from one rendering to
the next (random texts, keys, certificates), what asks the machine or the network, semantic versions, URLs.
"""

import base64
import binascii
import hashlib
import math
import posixpath
import re
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from template.budget import STEPS_MAX, shown
from template.constants import INT_MAX, INT_MIN
from template.faults import Refusal
from template.formats import plain, quoted
from template.functions import documents, numbers, text
from template.functions.moments import Moment, formatted
from template.functions.sprig_collections import COLLECTIONS, text_of, texts_of
from template.functions.text import room
from template.values import (
    from_bytes,
    go_type,
    is_map,
    is_nil,
    is_slice,
    is_true,
    to_bytes,
    wrapped,
)

# Texts.


def _trim_all(signs: str, value: str) -> str:
    return value.strip(signs) if signs else value


def _repeat(count: int, value: str) -> str:
    if count < 0:
        raise Refusal("strings: negative Repeat count")
    room(count * len(value))
    return value * count


def _substr(start: int, end: int, value: str) -> str:
    raw = to_bytes(value)
    start = max(0, start)
    if end < 0 or end > len(raw):
        end = len(raw)
    if start > end:
        raise Refusal("substr: the start is behind the end")
    return from_bytes(raw[start:end])


def _trunc(length: int, value: str) -> str:
    raw = to_bytes(value)
    if length < 0:
        return from_bytes(raw[length:]) if len(raw) + length > 0 else value
    return from_bytes(raw[:length])


def _abbrev(width: int, value: str) -> str:
    if width < 4:
        return value
    return value if len(value) <= width else value[: width - 3] + "..."


def _initials(value: str) -> str:
    return "".join(word[0] for word in value.split())


def _quote(*values: object) -> str:
    return " ".join(quoted(text_of(one)) for one in values if not is_nil(one))


def _squote(*values: object) -> str:
    return " ".join(f"'{text_of(one)}'" for one in values if not is_nil(one))


def _cat(*values: object) -> str:
    return " ".join(plain(one) for one in values if not is_nil(one))


def _indent(count: int, value: str) -> str:
    """Every line, the empty ones too."""
    room(len(value) + max(0, count) * (value.count("\n") + 1))
    pad = " " * max(0, count)
    return pad + value.replace("\n", "\n" + pad)


def _nindent(count: int, value: str) -> str:
    return "\n" + _indent(count, value)


def _plural(one: str, many: str, count: int) -> str:
    return one if count == 1 else many


def _words(value: str) -> list[str]:
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\dA-Za-z_]+", value)


def _snake(value: str) -> str:
    return "_".join(word.lower() for word in _words(value))


def _kebab(value: str) -> str:
    return "-".join(word.lower() for word in _words(value))


def _camel(value: str) -> str:
    return "".join(word[:1].upper() + word[1:].lower() for word in _words(value))


def _split(separator: str, value: str) -> dict[str, object]:
    return {f"_{number}": part for number, part in enumerate(text.pieces(value, separator))}


def _splitn(separator: str, count: int, value: str) -> dict[str, object]:
    if count <= 0:
        return {} if not count else _split(separator, value)
    parts = value.split(separator, count - 1) if separator else list(value)
    return {f"_{number}": part for number, part in enumerate(parts)}


def _split_list(separator: str, value: str) -> list[object]:
    return list(text.pieces(value, separator))


def _join(separator: str, values: object) -> str:
    parts = texts_of(values)
    room(sum(map(len, parts)) + len(separator) * len(parts))
    return separator.join(parts)


def _untitle(value: str) -> str:
    return re.sub(r"(?<!\w)\w", lambda match: match[0].lower(), value)


# Defaults and choices.


def _default(default: object, *value: object) -> object:
    return value[0] if value and is_true(value[0]) else default


def _coalesce(*values: object) -> object:
    return next((one for one in values if is_true(one)), None)


def _ternary(yes: object, no: object, condition: bool) -> object:
    return yes if condition else no


def _fail(message: str) -> str:
    raise Refusal(shown(message)[:200])


# Numbers.


def _int(value: object) -> int:
    """Of a text too; what is no number is 0."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and abs(value) < 2**63 else INT_MIN
    if not isinstance(value, str) or len(value) > 64:
        return 0
    try:
        found = int(value, 0) if value[:1] != "0" or value[1:2].lower() in tuple("xob") else int(value, 8)
    except ValueError:
        return 0
    return found if INT_MIN <= found <= INT_MAX else 0


def _to_decimal(value: object) -> int:
    """Of an octal number, as file modes are written."""
    digits = text_of(value)
    return int(digits, 8) if re.fullmatch(r"[+-]?[0-7]{1,20}", digits) else 0


def _float(value: object) -> float:
    if isinstance(value, bool | int | float):
        return float(value)
    try:
        return numbers.parse_float(value) if isinstance(value, str) else 0.0
    except Refusal:
        return 0.0


def _add(*values: object) -> int:
    return wrapped(sum(_int(one) for one in values))


def _mul(first: object, *others: object) -> int:
    product = _int(first)
    for one in others:
        product = wrapped(product * _int(one))
    return product


def _sub(first: object, second: object) -> int:
    return wrapped(_int(first) - _int(second))


def _div(first: object, second: object) -> int:
    return numbers.quotient(_int(first), _int(second))


def _mod(first: object, second: object) -> int:
    a, b = _int(first), _int(second)
    return a - b * numbers.quotient(a, b)


def _add1(value: object) -> int:
    return wrapped(_int(value) + 1)


def _max(first: object, *others: object) -> int:
    return max(_int(first), *map(_int, others)) if others else _int(first)


def _min(first: object, *others: object) -> int:
    return min(_int(first), *map(_int, others)) if others else _int(first)


def _ceil(value: object) -> float:
    return float(math.ceil(_float(value)))


def _floor(value: object) -> float:
    return float(math.floor(_float(value)))


def _round(value: object, places: int, *on: float) -> float:
    if abs(places) > 300:
        raise Refusal("round: more than 300 places")
    shifted = _float(value) * 10.0**places
    part, whole = math.modf(shifted)
    up = abs(part) >= (on[0] if on else 0.5)
    return (whole + (math.copysign(1, shifted) if up else 0)) / 10.0**places


def _until(count: int) -> object:
    return _steps(0, count, 1 if count >= 0 else -1)


def _until_step(start: int, stop: int, step: int) -> object:
    return _steps(start, stop, step)


def _steps(start: int, stop: int, step: int) -> list[object]:
    if not step:
        return []
    found = range(start, stop, step)
    if len(found) > STEPS_MAX:
        raise Refusal(f"more than {STEPS_MAX} numbers")
    return list(found)


# Encodings.


def _b32enc(value: str) -> str:
    return base64.b32encode(to_bytes(value)).decode()


def _b32dec(value: str) -> str:
    try:
        return from_bytes(base64.b32decode(to_bytes(value)))
    except (binascii.Error, ValueError):
        raise Refusal("illegal base32 data") from None


def _b64dec(value: str) -> str:
    return text.base64_decode(value)


def _sha1(value: str) -> str:
    return hashlib.sha1(to_bytes(value), usedforsecurity=False).hexdigest()


def _sha512(value: str) -> str:
    return hashlib.sha512(to_bytes(value)).hexdigest()


def _adler32(value: str) -> str:
    return str(zlib.adler32(to_bytes(value)))


# Regular expressions: pattern, text.


def _regex_find(pattern: str, value: str) -> str:
    match = text.compiled(pattern).search(text.searchable(value))
    return match[0] if match else ""


def _regex_find_all(pattern: str, value: str, count: int) -> list[object]:
    found: list[object] = []
    for match in text.matches(text.compiled(pattern), text.searchable(value)):
        if 0 <= count <= len(found):
            break
        found.append(match[0])
    return found


def _regex_replace_all(pattern: str, value: str, replacement: str) -> str:
    return text.replaced(text.compiled(pattern), text.expansion(replacement), value)


def _regex_replace_all_literal(pattern: str, value: str, replacement: str) -> str:
    return text.replaced(text.compiled(pattern), lambda match: replacement, value)


def _regex_split(pattern: str, value: str, count: int) -> list[object]:
    value = text.searchable(value)
    parts: list[object] = []
    if not count:
        return parts
    begin = end = 0
    for match in text.matches(text.compiled(pattern), value):
        if len(parts) == count - 1:
            break
        end = match.start()
        if match.end():
            parts.append(value[begin:end])
        begin = match.end()
    return parts if value and end == len(value) else [*parts, value[begin:]]


def _regex_quote_meta(value: str) -> str:
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", value)


# Moments and types.


def _moment(value: object) -> datetime:
    if isinstance(value, Moment):
        return value.moment
    seconds = _int(value)
    if not 0 <= seconds < 2**37:
        raise Refusal("expected a moment")
    return datetime.fromtimestamp(seconds, UTC)


def _date(layout: str, value: object) -> str:
    return formatted(_moment(value), layout)


def _date_in_zone(layout: str, value: object, zone: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        known = UTC if zone in ("", "UTC") else ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise Refusal("there is no such time zone") from None
    return formatted(_moment(value).astimezone(known), layout)


def _html_date(value: object) -> str:
    return _date("2006-01-02", value)


def _unix_epoch(value: object) -> str:
    return str(int(_moment(value).timestamp()))


def _kind_of(value: object) -> str:
    if is_nil(value):
        return "invalid"
    return (
        "map"
        if is_map(value)
        else "slice"
        if is_slice(value)
        else go_type(value)
        if isinstance(value, str | int | float)
        else "ptr"
    )


def _kind_is(kind: str, value: object) -> bool:
    return _kind_of(value) == kind


def _type_is(name: str, value: object) -> bool:
    return go_type(value) == name


def _empty(value: object) -> bool:
    return not is_true(value)


def _all(*values: object) -> bool:
    return all(map(is_true, values))


def _any(*values: object) -> bool:
    return any(map(is_true, values))


def _base(path: str) -> str:
    return posixpath.basename(path.rstrip("/")) or ("/" if path else ".")


def _dir(path: str) -> str:
    return _clean(posixpath.dirname(path))


def _ext(path: str) -> str:
    name = path.rpartition("/")[2]
    return name[name.rindex(".") :] if "." in name else ""


def _clean(path: str) -> str:
    clean = posixpath.normpath(path) if path else "."
    return clean[1:] if clean.startswith("//") else clean


def _has_prefix(prefix: str, value: str) -> bool:
    return value.startswith(prefix)


def _has_suffix(suffix: str, value: str) -> bool:
    return value.endswith(suffix)


def _contains(part: str, value: str) -> bool:
    return part in value


def _nospace(value: str) -> str:
    return "".join(value.split())


def _to_string(value: object) -> str:
    return plain(value)


def _seq(*bounds: int) -> str:
    """first, step and last, as seq(1) has them."""
    match bounds:
        case (last,):
            first, step = 1, 1 if last >= 1 else -1
        case (first, last):
            step = 1 if last >= first else -1
        case (first, step, last):
            pass
        case _:
            return ""
    found = _steps(first, last + (1 if step > 0 else -1), step)
    return " ".join(map(str, found))


_FUNCTIONS: Mapping[str, Callable[..., object]] = {
    **COLLECTIONS,
    "trim": text.trim_space, "trimAll": _trim_all, "trimall": _trim_all,
    "trimPrefix": text.trim_prefix, "trimSuffix": text.trim_suffix,
    "upper": text.upper, "lower": text.lower, "title": text.title, "untitle": _untitle,
    "repeat": _repeat, "substr": _substr, "trunc": _trunc, "abbrev": _abbrev, "initials": _initials,
    "nospace": _nospace, "contains": _contains, "hasPrefix": _has_prefix, "hasSuffix": _has_suffix,
    "quote": _quote, "squote": _squote, "cat": _cat, "indent": _indent, "nindent": _nindent,
    "replace": text.replace_all, "plural": _plural,
    "snakecase": _snake, "camelcase": _camel, "kebabcase": _kebab,
    "split": _split, "splitn": _splitn, "splitList": _split_list, "join": _join,
    "toString": _to_string,
    "default": _default, "empty": _empty, "coalesce": _coalesce, "ternary": _ternary,
    "all": _all, "any": _any, "fail": _fail,
    "int": _int, "int64": _int, "float64": _float, "atoi": _int, "toDecimal": _to_decimal,
    "add": _add, "add1": _add1, "sub": _sub, "mul": _mul, "div": _div, "mod": _mod,
    "max": _max, "biggest": _max, "min": _min, "ceil": _ceil, "floor": _floor, "round": _round,
    "until": _until, "untilStep": _until_step, "seq": _seq,
    "b64enc": text.base64_encode, "b64dec": _b64dec, "b32enc": _b32enc, "b32dec": _b32dec,
    "sha1sum": _sha1, "sha256sum": text.sha256_hex, "sha512sum": _sha512, "adler32sum": _adler32,
    "toJson": documents.to_json, "toPrettyJson": documents.to_json_pretty, "toRawJson": documents.to_unescaped_json,
    "fromJson": documents.parse_json,
    "regexMatch": text.regex_match, "regexFind": _regex_find, "regexFindAll": _regex_find_all,
    "regexReplaceAll": _regex_replace_all, "regexReplaceAllLiteral": _regex_replace_all_literal,
    "regexSplit": _regex_split, "regexQuoteMeta": _regex_quote_meta,
    "date": _date, "dateInZone": _date_in_zone, "date_in_zone": _date_in_zone, "htmlDate": _html_date,
    "base": _base, "dir": _dir, "ext": _ext, "clean": _clean,
    "unixEpoch": _unix_epoch, "kindOf": _kind_of, "kindIs": _kind_is, "typeOf": go_type, "typeIs": _type_is,
}  # fmt: skip

# With `must` they give an error where Sprig's others give nothing: here all do.
_MUST = (
    "append", "push", "prepend", "first", "last", "rest", "initial", "reverse", "uniq", "without", "has", "compact", "slice", "chunk",
    "merge", "mergeOverwrite", "deepCopy", "toJson", "toPrettyJson", "toRawJson", "fromJson",
    "regexMatch", "regexFind", "regexFindAll", "regexReplaceAll", "regexReplaceAllLiteral", "regexSplit",
)  # fmt: skip
SPRIG: Mapping[str, Callable[..., object]] = {
    **{f"sprig_{name}": function for name, function in _FUNCTIONS.items()},
    **{f"sprig_must{name[0].upper()}{name[1:]}": _FUNCTIONS[name] for name in _MUST},
}
