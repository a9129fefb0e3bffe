"""When is a periodic job's next run, by its cron expressions and time zone?

    "30 2 * * *"       minute, hour, day of month, month, day of week
    "30 2 * * * 2027"  six fields: with the year; seven: with the second before them (as hashicorp/cronexpr reads them)
    "@daily", "@every 90s"

cronsim knows how a field is written and which wall-clock times it names, with Debian cron's care for the two nights
on which clocks change. What it does not know is here: the year, a nickname, spans. docs/design/017 says what happens at
an hour that is skipped or comes twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import count
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from jobspec.durations import DurationFault, parse_duration

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_YEARS = range(1970, 2100)
_LONG_NAME = re.compile(r"[A-Z]{4,}")
_EXPRESSION_MAX = 200


class CronFault(ValueError):
    """A text is no cron expression, or names no time zone; the message says why."""


class _Hours(CronSim):
    """cronsim, which goes from hour to hour one by one, with a jump to the next that is named: a daily schedule's next
    moment takes a quarter of the time. Where hours are not all alike it goes as ever."""

    def advance_hour(self) -> bool:
        now = self.dt
        if now.hour in self.hours:
            return False
        if now.tzinfo not in (None, UTC):
            return bool(super().advance_hour())
        later = min((hour for hour in self.hours if hour > now.hour), default=None)
        midnight = now.replace(hour=0, minute=0, second=0)
        self.dt = midnight + (timedelta(days=1) if later is None else timedelta(hours=later))
        return True


@dataclass(frozen=True, slots=True)
class _Cron:
    """expression: five fields, or six with the second where that is not just one. years: None for every one."""

    expression: str
    second: int
    years: frozenset[int] | None

    def moments(self, after_s: int, zone: tzinfo) -> Iterator[int]:
        """All after that one, in order. Going on costs a third of starting anew."""
        start = datetime.fromtimestamp(after_s - self.second, UTC).astimezone(zone)
        last_s = after_s
        while True:
            later = None
            for found in _Hours(self.expression, start):
                if self.years is not None and found.year not in self.years:
                    later = min((year for year in self.years if year > found.year), default=None)
                    break
                moment_s = round(found.timestamp()) + self.second
                # In an hour that comes twice cronsim names the first time, be that already over.
                if moment_s > last_s:
                    last_s = moment_s
                    yield moment_s
            if later is None:
                return  # or it gave up after 50 years
            start = datetime(later, 1, 1, tzinfo=zone) - timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Every:
    """Whole multiples of the span since 1970: so every leader finds the same moments, whenever the job was submitted."""

    span_s: int

    def moments(self, after_s: int, zone: tzinfo) -> Iterator[int]:
        return count((after_s // self.span_s + 1) * self.span_s, self.span_s)


@lru_cache(maxsize=4096)
def parse(expression: str) -> _Cron | _Every:
    """Raises CronFault."""
    text = expression.strip()
    if len(text) > _EXPRESSION_MAX:
        raise CronFault(f"longer than {_EXPRESSION_MAX} characters")
    if text.startswith("@every "):
        return _every(text.removeprefix("@every ").strip())
    fields = _NICKNAMES.get(text.lower(), text).upper().split()
    if text.startswith("@") and text.lower() not in _NICKNAMES:
        raise CronFault(f"{text.split()[0]!r} is not known (known: {', '.join(_NICKNAMES)}, @every SPAN)")
    if not 5 <= len(fields) <= 7:
        raise CronFault(f"expected 5 fields, 6 with the year or 7 with second and year, found {len(fields)}")
    seconds = fields.pop(0) if len(fields) == 7 else "0"
    years = _years(fields.pop()) if len(fields) == 6 else None
    # As cronexpr takes them: ? for *, and names written out.
    fields = [_LONG_NAME.sub(lambda name: name[0][:3], "*" if field == "?" else field) for field in fields]
    is_one_second = seconds.isdecimal() and int(seconds) < 60
    found = _Cron(
        " ".join(fields if is_one_second else [seconds, *fields]), int(seconds) if is_one_second else 0, years
    )
    try:
        CronSim(found.expression, datetime(2024, 1, 1, tzinfo=UTC))
    except (CronSimError, AssertionError, ValueError, TypeError) as error:
        raise CronFault(str(error)[:1].lower() + str(error)[1:] or "not readable") from error
    return found


def _every(text: str) -> _Every:
    try:
        span_ns = parse_duration(text)
    except DurationFault as fault:
        raise CronFault(str(fault)) from fault
    if span_ns < 1_000_000_000 or span_ns % 1_000_000_000:
        raise CronFault(f'"@every" takes whole seconds, at least one, found {text!r}')
    return _Every(span_ns // 1_000_000_000)


def _years(text: str) -> frozenset[int] | None:
    if text in ("*", "?"):
        return None
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(?:(\*)|(\d{4})(?:-(\d{4}))?)(?:/(\d{1,4}))?", part)
        if match is None:
            raise CronFault(f"bad year {part!r}")
        low = _YEARS[0] if match[1] else int(match[2])
        high = int(match[3]) if match[3] else _YEARS[-1] if match[1] or match[4] else low
        if not (low in _YEARS and high in _YEARS and low <= high) or match[4] == "0":
            raise CronFault(f"bad year {part!r} (1970 to 2099)")
        found.update(range(low, high + 1, int(match[4] or 1)))
    return frozenset(found)


@lru_cache(maxsize=512)
def time_zone(name: str) -> tzinfo:
    """Raises CronFault."""
    if name.upper() in ("", "UTC"):
        return UTC
    if name == "Local":
        raise CronFault("the zone of whichever machine leads is no zone: name it")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise CronFault(f'there is no time zone "{name[:60]}"') from error


# Of each expression the span in which the answer is known: [from, next). A look at 1,000 jobs is a look into it.
_known: dict[tuple[str, str], tuple[int, int | None]] = {}
_KNOWN_MAX = 20_000
# How many moments are gone through from the front before a search from the back is the shorter way.
_STEPS_MAX = 8


def next_launch(specs: tuple[str, ...], zone: str, after_s: int) -> int | None:
    """The first moment after that one, in seconds since 1970; None where there is none. Raises CronFault."""
    found = (_after(spec, zone, after_s) for spec in specs)
    return min((moment for moment in found if moment is not None), default=None)


def last_launch(specs: tuple[str, ...], zone: str, since_s: int, until_s: int) -> int | None:
    """The last moment after `since_s` and not after `until_s`. Whatever the schedule, it does not go through all since
    then."""
    found = None
    for spec in specs:
        found = _last(spec, zone, since_s if found is None else found, until_s) or found
    return found


def launches_between(specs: tuple[str, ...], zone: str, since_s: int, until_s: int, at_most: int) -> set[int]:
    """All moments after `since_s` and not after `until_s`; some of them, once there are `at_most`."""
    found: set[int] = set()
    for spec in specs:
        last_s = since_s
        for moment_s in parse(spec).moments(since_s, time_zone(zone)):
            if moment_s > until_s:
                _remember(spec, zone, last_s, moment_s)
                break
            if len(found) >= at_most:
                return found
            found.add(moment_s)
            last_s = moment_s
    return found


def _after(spec: str, zone: str, after_s: int) -> int | None:
    known = _known.get((spec, zone))
    if known is not None and known[0] <= after_s and (known[1] is None or after_s < known[1]):
        return known[1]
    found = next(parse(spec).moments(after_s, time_zone(zone)), None)
    _remember(spec, zone, min(after_s, known[0]) if known is not None and known[1] == found else after_s, found)
    return found


def forget() -> None:
    """What is known of earlier questions; a measurement's first step."""
    _known.clear()


def _remember(spec: str, zone: str, from_s: int, next_s: int | None) -> None:
    if len(_known) >= _KNOWN_MAX:
        _known.clear()
    _known[spec, zone] = from_s, next_s


def _last(spec: str, zone: str, since_s: int, until_s: int) -> int | None:
    first = _after(spec, zone, since_s)
    if first is None or first > until_s:
        return None
    found, is_all = _walk(spec, zone, since_s, until_s, _STEPS_MAX)
    span_s = 30
    while not is_all:
        start_s = max(since_s, until_s - span_s)
        later, is_all = _walk(spec, zone, start_s, until_s, None)
        found, is_all = later or found, later is not None or start_s == since_s
        span_s *= 4
    return found


def _walk(spec: str, zone: str, since_s: int, until_s: int, steps: int | None) -> tuple[int | None, bool]:
    """The last moment seen, and whether it is the last there is until then."""
    found = None
    for number, moment_s in enumerate(parse(spec).moments(since_s, time_zone(zone))):
        if moment_s > until_s:
            return found, True
        if number == steps:
            return found, False
        found = moment_s
    return found, True
