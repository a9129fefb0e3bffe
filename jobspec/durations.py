"""How long is "1h30m"? Go's duration texts to nanoseconds and back."""

import re

from model.wire import Nanoseconds

_UNITS: dict[str, int] = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_UNITS |= {"m": 60 * _UNITS["s"], "h": 3600 * _UNITS["s"]}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")
# What people write, and what Go reads.
_MEANT = {"sec": "s", "secs": "s", "second": "s", "seconds": "s", "S": "s"}
_MEANT |= {
    "min": "m",
    "mins": "m",
    "minute": "m",
    "minutes": "m",
    "M": "m",
    "hr": "h",
    "hrs": "h",
    "hour": "h",
}
_MEANT |= {"hours": "h", "H": "h", "msec": "ms", "millis": "ms", "milliseconds": "ms", "MS": "ms"}
_HOURS = {"d": 24, "day": 24, "days": 24, "D": 24, "w": 168, "week": 168, "weeks": 168, "W": 168}
_LONGEST = (1 << 63) - 1


class DurationFault(ValueError):
    """A text is no duration; the message says why and, where it can be guessed, what was meant."""


def parse_duration(text: str) -> Nanoseconds:
    """`"1h30m"` as nanoseconds. Raises DurationFault."""
    shown = text if len(text) <= 40 else text[:40] + "…"
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return Nanoseconds(0)
    if not rest:
        raise DurationFault(
            f'invalid duration "{shown}" (expected a number with a unit, as "30s" or "1h30m")'
        )
    total: int = 0
    pos: int = 0
    while pos < len(rest):
        match = _PART.match(rest, pos)
        if match is None or not (match[1] or match[2]) or len(match[1]) > 20:
            raise DurationFault(
                f'invalid duration "{shown}" (expected a number with a unit, as "30s" or "1h30m")'
            )
        total += _part(match[1], match[2] or "", match[3], shown)
        pos = match.end()
    if total > _LONGEST:
        raise DurationFault(f'invalid duration "{shown}" (more than 292 years)')
    return Nanoseconds(-total if text.startswith("-") else total)


def _part(digits: str, fraction: str, unit: str, shown: str) -> int:
    scale = _UNITS.get(unit)
    if scale is not None:
        fraction = fraction[:20]
        return int(digits or "0") * scale + int(fraction or "0") * scale // int("1" + "0" * len(fraction))
    number = digits + ("." + fraction if fraction else "")
    name = unit.strip()
    if not unit:
        raise DurationFault(f'missing unit in duration "{shown}" (did you mean "{number}s"?)')
    if name in _UNITS or name in _MEANT:
        meant = f' (did you mean "{number}{_MEANT.get(name, name)}"?)'
    elif name in _HOURS and digits and not fraction:
        meant = f' (did you mean "{int(digits) * _HOURS[name]}h"?)'
    else:
        meant = " (known: ns, us, ms, s, m, h)"
    raise DurationFault(f'unknown unit "{unit}" in duration "{shown}"{meant}')


def duration_text(ns: int) -> str:
    """Nanoseconds as Go prints them: `1m30s`, `1h0m0s`, `500ms`, `0s`."""
    if ns < 0:
        return "-" + duration_text(-ns)
    if ns == 0:
        return "0s"
    if ns < _UNITS["s"]:
        unit = next(unit for unit in ("ms", "µs", "ns") if ns >= _UNITS[unit])
        return f"{_trimmed(ns, _UNITS[unit])}{unit}"
    minutes, rest = divmod(ns, _UNITS["m"])
    text = f"{_trimmed(rest, _UNITS['s'])}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{minutes}m{text}"
        if hours:
            text = f"{hours}h{text}"
    return text


def _trimmed(ns: int, unit: int) -> str:
    whole, part = divmod(ns, unit)
    if not part:
        return str(whole)
    return f"{whole}.{str(part).rjust(len(str(unit)) - 1, '0').rstrip('0')}"
