"""How does one value of a configuration become what its kind says?"""

import ipaddress
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

from configs.rules import LOG_LEVELS, Kind
from jobspec.durations import DurationFault, parse_duration
from jobspec.suggest import did_you_mean
from model.secret import Secret
from model.wire import seconds

_PORTS_MAX = 65535
# The most that Linux can be built for is 8192.
_CORES_MAX = 8191


class ValueFault(ValueError):
    """A value does not fit; the message says what was expected."""


def convert(kind: Kind, value: object) -> object:
    """The value as the setting's kind wants it. Raises ValueFault."""
    if kind is Kind.DATA:
        return value
    if kind is Kind.TEXTS:
        return _texts(value)
    if kind is Kind.BOOL:
        return _bool(value)
    if kind is Kind.SPAN:
        return _span(value)
    if kind is Kind.SIZE:
        return _size(value)
    if kind in (Kind.INT, Kind.PORT):
        return _whole(value, _PORTS_MAX if kind is Kind.PORT else 1 << 62)
    if kind is Kind.NUMBER:
        return _number(value)
    if kind in (Kind.NETWORKS, Kind.NAMES):
        return _listed(kind, value)
    text = _text(value)
    if kind is Kind.SECRET:
        return Secret(text)
    if kind is Kind.PORTS:
        return parse_ports(text)
    if kind is Kind.CORES:
        return parse_cores(text)
    if kind is Kind.CIDR:
        return _cidr(text)
    if kind is Kind.LEVEL:
        return _level(text)
    if kind in (Kind.PATH, Kind.FILE):
        return _path(text, is_absolute=kind is Kind.PATH)
    if "{{" in text:
        raise ValueFault("address templates ({{ … }}) are not supported by drover yet (write the address)")
    return text


def parse_ports(text: str) -> tuple[int, ...]:
    """`22,80,8500-8600` as sorted port numbers. Raises ValueFault."""
    return _numbers(text, "port", 1, _PORTS_MAX, "22,80,8500-8600")


def parse_cores(text: str) -> tuple[int, ...]:
    """`0-2,7` as sorted core ids. Raises ValueFault."""
    return _numbers(text, "core", 0, _CORES_MAX, "0-2,7")


def _numbers(text: str, noun: str, least: int, most: int, example: str) -> tuple[int, ...]:
    numbers: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        ends = (first.strip(), last.strip() if dash else first.strip())
        if not all(end.isascii() and end.isdigit() and len(end) <= 5 for end in ends):
            raise ValueFault(f'"{part[:40]}" is no {noun} or range (expected as "{example}")')
        low, high = int(ends[0]), int(ends[1])
        if not least <= low <= high <= most:
            raise ValueFault(f'"{part[:40]}" is no range of {noun}s between {least} and {most}')
        numbers.update(range(low, high + 1))
    return tuple(sorted(numbers))


def _cidr(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueFault(f'"{text[:60]}" is no block of addresses (expected as "10.0.0.0/8")') from None


def _listed(kind: Kind, value: object) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        value = [value]
    texts = [_text(one) for one in value]
    return tuple(ipaddress.ip_network(_cidr(one)) if kind is Kind.NETWORKS else one for one in texts)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a block"
    if isinstance(value, list):
        return "a list"
    return "null" if value is None else f'"{value}"'[:62]


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return str(value)
    raise ValueFault(f"expected a text, found {_shown(value)}")


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "false": False, "0": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueFault(f"expected true or false, found {_shown(value)}")


def _number(value: object) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueFault(f"expected a number, found {_shown(value)}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueFault(f"expected a number, found {_shown(value)}")
    number = float(value)
    if not 0 <= number < 1e300:
        raise ValueFault(f"must not be negative, found {_shown(value)}")
    return number


def _whole(value: object, most: int) -> int:
    number = _number(value)
    if number != int(number) or number > most:
        raise ValueFault(f"expected a whole number of at most {most}, found {_shown(value)}")
    return int(number)


_SIZE = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,6})?)\s*(?:(?P<power>[kmgt])(?P<is_binary>i?)b?|b)?", re.IGNORECASE)


def _size(value: object) -> int:
    """As Nomad reads it: kB, MB, … are powers of 1000, KiB, MiB, … of 1024."""
    found = _SIZE.fullmatch(_text(value).strip())
    if found is None:
        raise ValueFault(f'expected a size (as "100GB"), found {_shown(value)}')
    power = " kmgt".index((found["power"] or " ").lower())
    return int(float(found["number"]) * (1024 if found["is_binary"] else 1000) ** power)


def _span(value: object) -> float:
    if not isinstance(value, str):
        raise ValueFault(f'expected a duration (as "30s"), found {_shown(value)}')
    try:
        ns = parse_duration(value)
    except DurationFault as fault:
        raise ValueFault(str(fault)) from None
    if ns < 0:
        raise ValueFault(f"must not be negative, found {_shown(value)}")
    return seconds(ns)


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueFault(f"expected a block of texts, found {_shown(value)}")
    made: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, bool):
            item = "true" if item else "false"
        try:
            made[str(key)] = _text(item)
        except ValueFault as fault:
            raise ValueFault(f"{str(key)[:60]}: {fault}") from None
    return made


def _level(text: str) -> str:
    level = {"WARNING": "WARN", "ERR": "ERROR"}.get(text.upper(), text.upper())
    if level not in LOG_LEVELS:
        raise ValueFault(
            f'unknown log level "{text[:40]}"{did_you_mean(text.upper(), LOG_LEVELS)} (known: {", ".join(LOG_LEVELS)})'
        )
    return level


def _path(text: str, *, is_absolute: bool) -> Path | None:
    if not text:
        return None
    if "\0" in text:
        raise ValueFault("a path cannot hold a NUL")
    path = Path(text)
    if is_absolute and not path.is_absolute():
        raise ValueFault(f'expected an absolute path, found "{text[:100]}"')
    return path
