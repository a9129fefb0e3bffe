"""The functions of job files that make texts out of texts: words, patterns, formats, encodings, paths."""

import json
import re
from base64 import b64decode, b64encode
from decimal import Decimal, InvalidOperation

from jobspec.evaluate import Function
from jobspec.patterns import PatternFault, compile_pattern
from jobspec.values import (
    ConversionFault,
    Value,
    from_json,
    to_bool,
    to_index,
    to_json,
    to_number,
    to_text,
    to_texts,
)

# Longest text a function may make: a job file must not be a way to eat the leader's memory.
_SIZE_MAX = 10_000_000


# ---- texts


def _upper(text: Value) -> Value:
    return to_text(text).upper()


def _lower(text: Value) -> Value:
    return to_text(text).lower()


def _title(text: Value) -> Value:
    return re.sub(r"(?<!\w)\w", lambda match: match[0].upper(), to_text(text))


def _trim(text: Value, characters: Value) -> Value:
    return to_text(text).strip(to_text(characters))


def _trimprefix(text: Value, prefix: Value) -> Value:
    return to_text(text).removeprefix(to_text(prefix))


def _trimsuffix(text: Value, suffix: Value) -> Value:
    return to_text(text).removesuffix(to_text(suffix))


def _trimspace(text: Value) -> Value:
    return to_text(text).strip()


def _chomp(text: Value) -> Value:
    return to_text(text).rstrip("\r\n")


def _indent(spaces: Value, text: Value) -> Value:
    count = to_index(spaces)
    if not 0 <= count <= 1000:
        raise ConversionFault("between 0 and 1000 spaces required")
    return to_text(text).replace("\n", "\n" + " " * count)


def _replace(text: Value, old: Value, new: Value) -> Value:
    subject, search, put = to_text(text), to_text(old), to_text(new)
    if len(search) > 1 and search.startswith("/") and search.endswith("/"):
        return _regex(search[1:-1]).sub(lambda match: _expand(match, put), subject)
    if subject.count(search) * len(put) > _SIZE_MAX:
        raise ConversionFault("the result is too long")
    return subject.replace(search, put)


def _regex_replace(text: Value, pattern: Value, new: Value) -> Value:
    put = to_text(new)
    return _regex(to_text(pattern)).sub(lambda match: _expand(match, put), to_text(text))


def _regex(pattern: str) -> "re.Pattern[str]":
    try:
        return compile_pattern(pattern)
    except PatternFault as fault:
        raise ConversionFault(str(fault)) from None


def _expand(match: "re.Match[str]", replacement: str) -> str:
    """Go's `$1`, `${name}` and `$$`."""

    def group(reference: "re.Match[str]") -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        try:
            return match[int(name) if name.isdigit() else name] or ""
        except (IndexError, re.error):
            return ""

    return re.sub(r"\$(?:\{(\w+)\}|(\w+)|\$)", group, replacement)


def _regex_find(pattern: Value, text: Value) -> Value:
    match = _regex(to_text(pattern)).search(to_text(text))
    if match is None:
        raise ConversionFault("the pattern did not match")
    return _captured(match)


def _regexall(pattern: Value, text: Value) -> Value:
    return [_captured(match) for match in _regex(to_text(pattern)).finditer(to_text(text))]


def _captured(match: "re.Match[str]") -> Value:
    if match.re.groupindex:
        return {str(name): value for name, value in match.groupdict().items()}
    return list(match.groups()) if match.re.groups else match[0]


def _substr(text: Value, offset: Value, length: Value) -> Value:
    subject, start, count = to_text(text), to_index(offset), to_index(length)
    if start < 0:
        start += len(subject)
    return subject[start:] if count < 0 else subject[start : start + count]


def _strrev(text: Value) -> Value:
    return to_text(text)[::-1]


def _join(separator: Value, *lists: Value) -> Value:
    return to_text(separator).join(text for values in lists for text in to_texts(values))


def _split(separator: Value, text: Value) -> Value:
    mark, subject = to_text(separator), to_text(text)
    return list(subject.split(mark)) if mark else list(subject)


def _startswith(text: Value, prefix: Value) -> Value:
    return to_text(text).startswith(to_text(prefix))


def _endswith(text: Value, suffix: Value) -> Value:
    return to_text(text).endswith(to_text(suffix))


def _strlen(text: Value) -> Value:
    return len(to_text(text))


_VERB = re.compile(r"%(\[\d+\])?([-+ 0#]*)(\d{1,3}|\*)?(?:\.(\d{1,3}))?([a-zA-Z%])")


def _format(template: Value, *values: Value) -> Value:
    """Go's Printf verbs: %s %d %q %t %v %f %g %e %x %o %b and their flags."""
    arguments = list(values)
    used = 0

    def verb(match: "re.Match[str]") -> str:
        nonlocal used
        if match[5] == "%":
            return "%"
        position = int(match[1][1:-1]) - 1 if match[1] else used
        if not 0 <= position < len(arguments):
            raise ConversionFault(f"no value for {match[0]}")
        used = max(used, position + 1) if not match[1] else position + 1
        return _format_one(match, arguments[position])

    text = _VERB.sub(verb, to_text(template))
    if used < len(arguments) and "[" not in to_text(template):
        raise ConversionFault(f"{len(arguments)} values for {used} verbs")
    return text


def _format_one(match: "re.Match[str]", value: Value) -> str:
    flags, width, precision, letter = match[2], match[3] or "", match[4], match[5]
    if letter in "sqv":
        text = to_text(value) if isinstance(value, str | bool | int | Decimal) else _json_text(value)
        if precision is not None:
            text = text[: int(precision)]
        if letter == "q":
            text = json.dumps(text, ensure_ascii=False)
        return text.ljust(int(width or 0)) if "-" in flags else text.rjust(int(width or 0))
    if letter == "t":
        return "true" if to_bool(value) else "false"
    number = to_number(value)
    spec = "%" + flags + width
    if letter in "dxXo":
        return (spec + letter) % int(number)
    if letter == "b":
        return format(int(number), "b").rjust(int(width or 0), "0" if "0" in flags else " ")
    if letter in "fFeEgG":
        return (spec + (f".{precision}" if precision is not None else "") + letter) % float(number)
    raise ConversionFault(f"unknown verb %{letter}")


def _formatlist(template: Value, *values: Value) -> Value:
    lengths = {len(value) for value in values if isinstance(value, list)}
    if len(lengths) > 1:
        raise ConversionFault("all lists must have the same length")
    count = lengths.pop() if lengths else 1
    return [
        _format(template, *(value[number] if isinstance(value, list) else value for value in values))
        for number in range(count)
    ]


# ---- encodings


def _json_text(value: Value) -> str:
    text = json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _ordered(value: Value) -> object:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    return to_json(value)


def _jsonencode(value: Value) -> Value:
    return _json_text(value)


def _jsondecode(text: Value) -> Value:
    try:
        return from_json(json.loads(to_text(text), parse_float=Decimal))
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise ConversionFault(f"not JSON: {error}") from None


def _csvdecode(text: Value) -> Value:
    import csv
    import io

    try:
        rows = list(csv.reader(io.StringIO(to_text(text)), strict=True))
    except csv.Error as error:
        raise ConversionFault(f"not CSV: {error}") from None
    if not rows:
        raise ConversionFault("a header line is missing")
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def _base64encode(text: Value) -> Value:
    return b64encode(to_text(text).encode()).decode()


def _base64decode(text: Value) -> Value:
    return b64decode(to_text(text), validate=True).decode()


def _urlencode(text: Value) -> Value:
    from urllib.parse import quote_plus

    return quote_plus(to_text(text), safe="~")


def _md5(text: Value) -> Value:
    import hashlib

    return hashlib.md5(to_text(text).encode(), usedforsecurity=False).hexdigest()


def _sha1(text: Value) -> Value:
    import hashlib

    return hashlib.sha1(to_text(text).encode(), usedforsecurity=False).hexdigest()


def _sha256(text: Value) -> Value:
    import hashlib

    return hashlib.sha256(to_text(text).encode()).hexdigest()


def _sha512(text: Value) -> Value:
    import hashlib

    return hashlib.sha512(to_text(text).encode()).hexdigest()


def _uuidv4() -> Value:
    import uuid

    return str(uuid.uuid4())


def _uuidv5(namespace: Value, name: Value) -> Value:
    import uuid

    space = to_text(namespace)
    known = {
        "dns": uuid.NAMESPACE_DNS,
        "url": uuid.NAMESPACE_URL,
        "oid": uuid.NAMESPACE_OID,
        "x500": uuid.NAMESPACE_X500,
    }
    return str(uuid.uuid5(known.get(space) or uuid.UUID(space), to_text(name)))


# ---- paths (of text only; those that read files are in jobspec.files)


def _basename(path: Value) -> Value:
    return to_text(path).rstrip("/").rsplit("/", 1)[-1] or "/"


def _dirname(path: Value) -> Value:
    import posixpath

    return posixpath.normpath(posixpath.dirname(to_text(path)) or ".")


TEXT_FUNCTIONS: dict[str, Function] = {
    "base64decode": _base64decode,
    "base64encode": _base64encode,
    "basename": _basename,
    "chomp": _chomp,
    "csvdecode": _csvdecode,
    "dirname": _dirname,
    "endswith": _endswith,
    "format": _format,
    "formatlist": _formatlist,
    "indent": _indent,
    "join": _join,
    "jsondecode": _jsondecode,
    "jsonencode": _jsonencode,
    "lower": _lower,
    "md5": _md5,
    "regex": _regex_find,
    "regex_replace": _regex_replace,
    "regexall": _regexall,
    "replace": _replace,
    "sha1": _sha1,
    "sha256": _sha256,
    "sha512": _sha512,
    "split": _split,
    "startswith": _startswith,
    "strlen": _strlen,
    "strrev": _strrev,
    "substr": _substr,
    "title": _title,
    "trim": _trim,
    "trimprefix": _trimprefix,
    "trimspace": _trimspace,
    "trimsuffix": _trimsuffix,
    "upper": _upper,
    "urlencode": _urlencode,
    "uuidv4": _uuidv4,
    "uuidv5": _uuidv5,
}
