"""The functions of job files that reckon with moments: RFC 3339 texts in, texts out."""

import re
from datetime import UTC, datetime, timedelta, timezone

from jobspec.durations import DurationFault, parse_duration
from jobspec.evaluate import Function
from jobspec.values import ConversionFault, Value, to_text

_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,][0-9]+)?(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)
# A literal in quotes, a run of one letter, or anything else.
_PART = re.compile(r"'(?:[^']|'')*'|([A-Za-z])\1*|[^A-Za-z']+")
_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def _moment(text: Value) -> datetime:
    written = to_text(text)
    match = _MOMENT.fullmatch(written)
    if match is None:
        raise ConversionFault(
            f'"{written[:60]}" is no RFC 3339 timestamp (expected the form 2018-01-02T23:12:01Z)'
        )
    numbers = [int(match[number]) for number in range(1, 7)]
    zone = UTC
    if match[7]:
        ahead = timedelta(hours=int(match[8]), minutes=int(match[9]))
        zone = timezone(ahead if match[7] == "+" else -ahead) if ahead else UTC
    try:
        return datetime(*numbers, tzinfo=zone)  # type: ignore[arg-type, misc]
    except ValueError as error:
        raise ConversionFault(f'"{written}" is no RFC 3339 timestamp: {error}') from None


def _offset(moment: datetime, colon: str) -> str:
    minutes = int((moment.utcoffset() or timedelta()).total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}{colon}{abs(minutes) % 60:02d}"


def _zone(moment: datetime, count: int) -> str:
    is_utc = not moment.utcoffset()
    if count == 1:
        return "Z" if is_utc else _offset(moment, ":")
    if count == 3 and is_utc:
        return "UTC"
    return _offset(moment, ":" if count == 5 else "")


def _verbs(moment: datetime) -> dict[str, str]:
    """What every sequence of letters stands for."""
    half_day = moment.hour % 12 or 12
    half = "am" if moment.hour < 12 else "pm"
    month, day = _MONTHS[moment.month - 1], _DAYS[moment.weekday()]
    return {
        "YYYY": f"{moment.year:04d}",
        "YY": f"{moment.year % 100:02d}",
        "MMMM": month,
        "MMM": month[:3],
        "MM": f"{moment.month:02d}",
        "M": str(moment.month),
        "DD": f"{moment.day:02d}",
        "D": str(moment.day),
        "EEEE": day,
        "EEE": day[:3],
        "hh": f"{moment.hour:02d}",
        "h": str(moment.hour),
        "HH": f"{half_day:02d}",
        "H": str(half_day),
        "AA": half.upper(),
        "aa": half,
        "mm": f"{moment.minute:02d}",
        "m": str(moment.minute),
        "ss": f"{moment.second:02d}",
        "s": str(moment.second),
        **{"Z" * count: _zone(moment, count) for count in (1, 3, 4, 5)},
    }


def _formatdate(specification: Value, time: Value) -> Value:
    verbs, written = _verbs(_moment(time)), to_text(specification)
    parts: list[str] = []
    at = 0
    while at < len(written):
        match = _PART.match(written, at)
        if match is None:
            raise ConversionFault("a literal in single quotes is not closed")
        part = match[0]
        at = match.end()
        if part[0] == "'":
            # Two quotes alone are a quote, too, though nothing stands between them.
            parts.append("'" if part == "''" else part[1:-1].replace("''", "'"))
        elif match[1] is None:
            parts.append(part)
        elif part in verbs:
            parts.append(verbs[part])
        else:
            known = ", ".join(verb for verb in verbs if verb[0] == part[0])
            raise ConversionFault(
                f'"{part[:40]}" stands for no part of a date'
                + (
                    f" (known: {known})"
                    if known
                    else " (write letters that are meant as such in single quotes)"
                )
            )
    return "".join(parts)


def _timeadd(time: Value, duration: Value) -> Value:
    moment = _moment(time)
    try:
        later = moment + timedelta(microseconds=parse_duration(to_text(duration)) // 1000)
    except DurationFault as fault:
        raise ConversionFault(str(fault)) from None
    except OverflowError:
        raise ConversionFault("the result is no year between 1 and 9999") from None
    return f"{later:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + _zone(later, 1)


TIME_FUNCTIONS: dict[str, Function] = {"formatdate": _formatdate, "timeadd": _timeadd}
