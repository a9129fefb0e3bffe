"""The functions of job files that make texts out of texts: words, patterns, encodings, paths."""

import re
from base64 import b64decode, b64encode

from jobspec.evaluate import Function
from jobspec.graphemes import clusters
from jobspec.values import ConversionFault, Value, composed, to_index, to_text, to_texts
from model.patterns import PatternFault, compile_pattern

# Longest text a function may make: a job file must not be a way to eat the leader's memory.
_SIZE_MAX = 10_000_000

# Unicode's white space, as Go's TrimSpace; Python's own strip also takes the four ASCII separators.
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


# ---- words


def _one_by_one(text: str, change: "str") -> str:
    """upper or lower, letter by letter: as in Go, no letter becomes two."""
    changed: str = getattr(text, change)()
    if len(changed) == len(text):
        return changed
    return "".join(new if len(new := getattr(old, change)()) == 1 else old for old in text)


def _upper(text: Value) -> Value:
    return _one_by_one(to_text(text), "upper")


def _lower(text: Value) -> Value:
    return _one_by_one(to_text(text), "lower")


def _title(text: Value) -> Value:
    return re.sub(r"(?<!\w)\w", lambda match: _one_by_one(match[0], "title"), to_text(text))


def _trim(text: Value, characters: Value) -> Value:
    return to_text(text).strip(to_text(characters))


def _trimprefix(text: Value, prefix: Value) -> Value:
    return to_text(text).removeprefix(to_text(prefix))


def _trimsuffix(text: Value, suffix: Value) -> Value:
    return to_text(text).removesuffix(to_text(suffix))


def _trimspace(text: Value) -> Value:
    return to_text(text).strip(_SPACES)


def _chomp(text: Value) -> Value:
    return to_text(text).rstrip("\r\n")


def _indent(spaces: Value, text: Value) -> Value:
    count, subject = to_index(spaces), to_text(text)
    if count < 0:
        raise ConversionFault("the number of spaces must not be negative")
    _refuse_long(subject.count("\n") * count)
    return subject.replace("\n", "\n" + " " * count) if "\n" in subject else subject


def _replace(text: Value, old: Value, new: Value) -> Value:
    subject, search, put = to_text(text), to_text(old), to_text(new)
    _refuse_long(subject.count(search) * len(put))
    return subject.replace(search, put)


def _regex_replace(text: Value, pattern: Value, new: Value) -> Value:
    """Go's ReplaceAll: an empty match right behind another match is none."""
    subject, put = to_text(text), to_text(new)
    try:
        compiled = compile_pattern(to_text(pattern))
    except PatternFault as fault:
        raise ConversionFault(str(fault)) from None
    parts: list[str] = []
    copied = size = 0
    end_before = -1
    for match in compiled.finditer(subject):
        if match.start() == match.end() == end_before:
            continue
        end_before = match.end()
        parts += (subject[copied : match.start()], _expand(match, put))
        copied = match.end()
        size += len(parts[-1])
        _refuse_long(size)
    parts.append(subject[copied:])
    return "".join(parts)


def _expand(match: "re.Match[str]", replacement: str) -> str:
    """Go's `$1`, `${name}` and `$$`."""

    def group(reference: "re.Match[str]") -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        try:
            return match[int(name) if name.isdigit() else name] or ""
        except (IndexError, KeyError, OverflowError):
            return ""

    return re.sub(r"\$(?:\{(\w+)\}|(\w+)|\$)", group, replacement)


def _refuse_long(size: int) -> None:
    if size > _SIZE_MAX:
        raise ConversionFault(f"the result is too long (more than {_SIZE_MAX // 1_000_000} MB)")


# ---- characters, as a reader counts them


def _strlen(text: Value) -> Value:
    return len(clusters(to_text(text)))


def _strrev(text: Value) -> Value:
    return "".join(reversed(clusters(to_text(text))))


def _substr(text: Value, offset: Value, length: Value) -> Value:
    subject, start, count = clusters(to_text(text)), to_index(offset), to_index(length)
    if start < 0:
        start = max(0, start + len(subject))
    return "".join(subject[start:] if count < 0 else subject[start : start + count])


# ---- lists of texts


def _join(separator: Value, *lists: Value) -> Value:
    if not lists:
        raise ConversionFault("at least one list required")
    return to_text(separator).join(text for values in lists for text in to_texts(values))


def _split(separator: Value, text: Value) -> Value:
    mark, subject = to_text(separator), to_text(text)
    return list(subject.split(mark)) if mark else list(subject)


# ---- encodings


def _base64encode(text: Value) -> Value:
    return b64encode(to_text(text).encode()).decode()


def _base64decode(text: Value) -> Value:
    try:
        data = b64decode(to_text(text).translate({10: None, 13: None}), validate=True)
    except ValueError:
        raise ConversionFault("the text is not base64") from None
    try:
        return composed(data.decode())
    except UnicodeDecodeError:
        raise ConversionFault("what the base64 text holds is not UTF-8 text") from None


def _urlencode(text: Value) -> Value:
    from urllib.parse import quote_plus

    return quote_plus(to_text(text), safe="~")


# ---- paths (of text only; those that read files are in jobspec.files)


def _basename(path: Value) -> Value:
    written = to_text(path)
    if not written:
        return "."
    return written.rstrip("/").rsplit("/", 1)[-1] or "/"


def _dirname(path: Value) -> Value:
    import posixpath

    folder = posixpath.normpath(posixpath.dirname(to_text(path)) or ".")
    return folder[1:] if folder.startswith("//") else folder


TEXT_FUNCTIONS: dict[str, Function] = {
    "base64decode": _base64decode,
    "base64encode": _base64encode,
    "basename": _basename,
    "chomp": _chomp,
    "dirname": _dirname,
    "indent": _indent,
    "join": _join,
    "lower": _lower,
    "regex_replace": _regex_replace,
    "replace": _replace,
    "split": _split,
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
}
