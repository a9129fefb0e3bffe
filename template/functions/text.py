"""consul-template's functions of texts."""

import base64 as base64_
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from model.patterns import PatternFault, compile_pattern
from template.budget import TEXT_MAX, spend
from template.faults import Refusal
from template.values import from_bytes, strings, to_bytes


def room(length: int) -> None:
    """Raises Refusal for a text that would be too long, before it is made."""
    if length > TEXT_MAX:
        raise Refusal(f"a text of more than {TEXT_MAX} characters")


def upper(text: str) -> str:
    """Character by character, as Go does it: ß stays."""
    whole = text.upper()
    return whole if len(whole) == len(text) else "".join(u if len(u := sign.upper()) == 1 else sign for sign in text)


def lower(text: str) -> str:
    whole = text.lower()
    return whole if len(whole) == len(text) else "".join(u if len(u := sign.lower()) == 1 else sign for sign in text)


def title(text: str) -> str:
    """The first letter of each word in upper case; the others stay."""
    return _FIRST.sub(lambda match: u if len(u := match[0].title()) == 1 else match[0], text)


# Go takes every sign of ASCII that is no letter, digit or underscore for the end of a word, and white space.
_FIRST = re.compile(r"(?<![^\W]|[^\x00-\x7f\s])\w")


def trim(signs: str, text: str) -> str:
    return text.strip(signs) if signs else text


def trim_space(text: str) -> str:
    return text.strip()


def trim_prefix(prefix: str, text: str) -> str:
    return text.removeprefix(prefix)


def trim_suffix(suffix: str, text: str) -> str:
    return text.removesuffix(suffix)


def replace_all(old: str, new: str, text: str) -> str:
    room(len(text) + text.count(old) * (len(new) - len(old)))
    return text.replace(old, new)


def split(separator: str, text: str) -> list[object]:
    text = text.strip()
    return list(pieces(text, separator)) if text else []


def pieces(text: str, separator: str) -> list[str]:
    """Go's strings.Split: without a separator, character by character."""
    return text.split(separator) if separator else list(text)


def split_to_map(separator: str, sign: str, text: str) -> dict[str, object]:
    parts = [pieces(part, sign) for part in split(separator, text) if isinstance(part, str)]
    return {part[0]: part[1] if len(part) > 1 else "" for part in parts if part}


def join(separator: str, parts: list[object]) -> str:
    texts = strings(parts)
    room(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def indent(count: int, text: str) -> str:
    """Every line that is not empty, moved to the right."""
    if count < 0:
        raise Refusal("indent value must be a positive integer")
    lines = text.split("\n")
    room(len(text) + count * len(lines))
    return "\n".join(" " * count + line if line else line for line in lines)


def regex_match(pattern: str, text: str) -> bool:
    return compiled(pattern).search(searchable(text)) is not None


def regex_replace_all(pattern: str, replacement: str, text: str) -> str:
    return replaced(compiled(pattern), expansion(replacement), text)


@lru_cache(256)
def compiled(pattern: str) -> re.Pattern[str]:
    spend(500)  # up to a millisecond
    try:
        return compile_pattern(pattern)
    except PatternFault:
        # Not with RE2's own words: they quote the pattern, and that may be computed.
        raise Refusal("bad regular expression") from None


def searchable(text: str) -> str:
    """RE2 reads no surrogates."""
    return text if text.isascii() else to_bytes(text).decode("utf-8", "replace")


def matches(pattern: re.Pattern[str], text: str) -> "Iterator[re.Match[str]]":
    """As Go finds them: an empty one right behind another does not count."""
    end = -1
    for match in pattern.finditer(text):
        if match.start() != match.end() or match.start() != end:
            yield match
        end = match.end()


def replaced(pattern: re.Pattern[str], filled: "Callable[[re.Match[str]], str]", text: str) -> str:
    text = searchable(text)
    parts: list[str] = []
    end = length = 0
    for match in matches(pattern, text):
        parts += (text[end : match.start()], new := filled(match))
        length += len(new)
        room(length)
        end = match.end()
    return "".join((*parts, text[end:]))


_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})", re.ASCII)


def expansion(replacement: str) -> "Callable[[re.Match[str]], str]":
    """What fills $1, ${1}, $name and ${name} in; $$ is a dollar, what there is not is empty."""

    def filled(match: "re.Match[str]") -> str:
        def one(reference: "re.Match[str]") -> str:
            name = reference[1] or reference[2]
            return "$" if name is None else group(match, name)

        return _REFERENCE.sub(one, replacement)

    return filled


def group(match: "re.Match[str]", name: str) -> str:
    try:
        return match[int(name) if name.isdecimal() and len(name) < 6 else name] or ""
    except (IndexError, KeyError):
        return ""


def base64_encode(text: str) -> str:
    return base64_.b64encode(to_bytes(text)).decode()


def base64_url_encode(text: str) -> str:
    return base64_.urlsafe_b64encode(to_bytes(text)).decode()


def base64_decode(text: str) -> str:
    return _decoded(text, b"+/")


def base64_url_decode(text: str) -> str:
    return _decoded(text, b"-_")


def _decoded(text: str, signs: bytes) -> str:
    raw = to_bytes(text).replace(b"\r", b"").replace(b"\n", b"")
    try:
        # Python would take the other alphabet's signs as well.
        if signs == b"-_" and any(sign in raw for sign in b"+/"):
            raise binascii.Error
        return from_bytes(base64_.b64decode(raw, altchars=signs, validate=True))
    except (binascii.Error, ValueError):
        raise Refusal("illegal base64 data") from None


def sha256_hex(text: str) -> str:
    return hashlib.sha256(to_bytes(text)).hexdigest()


def md5sum(text: str) -> str:
    return hashlib.md5(to_bytes(text), usedforsecurity=False).hexdigest()


def hmac_sha256_hex(message: str, key: str) -> str:
    return hmac.new(to_bytes(key), to_bytes(message), hashlib.sha256).hexdigest()


TEXT: Mapping[str, Callable[..., object]] = {
    "toLower": lower,
    "toUpper": upper,
    "toTitle": title,
    "trim": trim,
    "trimSpace": trim_space,
    "trimPrefix": trim_prefix,
    "trimSuffix": trim_suffix,
    "replaceAll": replace_all,
    "split": split,
    "splitToMap": split_to_map,
    "join": join,
    "indent": indent,
    "regexMatch": regex_match,
    "regexReplaceAll": regex_replace_all,
    "base64Encode": base64_encode,
    "base64Decode": base64_decode,
    "base64URLEncode": base64_url_encode,
    "base64URLDecode": base64_url_decode,
    "sha256Hex": sha256_hex,
    "md5sum": md5sum,
    "hmacSHA256Hex": hmac_sha256_hex,
}
