"""How does Go write a moment by a layout such as `2006-01-02T15:04:05Z07:00`?"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from template.faults import Refusal
from template.functions.text import room
from template.values import Methods

RFC3339 = "2006-01-02T15:04:05Z07:00"
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_MONTHS = [
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
]  # fmt: skip
# Longest first where one begins another. A fraction stands behind a second's dot or comma.
_PART = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST|2006|_2006|__2|002|01|02|03|04|05|06|1[5]|PM|pm|"
    r"Z070000|Z07:00:00|Z0700|Z07:00|Z07|-070000|-07:00:00|-0700|-07:00|-07|[.,]0+(?![0-9])|[.,]9+(?![0-9])|_2|1|2|3|4|5"
)


def formatted(moment: datetime, layout: str) -> str:
    room(len(layout) * 10)
    return _PART.sub(lambda match: _part(moment, match[0]), layout)


def _part(moment: datetime, part: str) -> str:
    hour = moment.hour % 12 or 12
    plain: Mapping[str, str] = {
        "January": _MONTHS[moment.month - 1],
        "Jan": _MONTHS[moment.month - 1][:3],
        "Monday": _DAYS[moment.weekday()],
        "Mon": _DAYS[moment.weekday()][:3],
        "MST": moment.tzname() or "UTC",
        "2006": f"{moment.year:04d}",
        "_2006": f"_{moment.year:04d}",
        "__2": f"{moment.timetuple().tm_yday:3d}",
        "002": f"{moment.timetuple().tm_yday:03d}",
        "01": f"{moment.month:02d}",
        "1": str(moment.month),
        "02": f"{moment.day:02d}",
        "_2": f"{moment.day:2d}",
        "2": str(moment.day),
        "15": f"{moment.hour:02d}",
        "03": f"{hour:02d}",
        "3": str(hour),
        "04": f"{moment.minute:02d}",
        "4": str(moment.minute),
        "05": f"{moment.second:02d}",
        "5": str(moment.second),
        "06": f"{moment.year % 100:02d}",
        "PM": "PM" if moment.hour >= 12 else "AM",
        "pm": "pm" if moment.hour >= 12 else "am",
    }
    if part in plain:
        return plain[part]
    return _fraction(moment, part) if part[0] in ".," else _zone(moment, part)


def _fraction(moment: datetime, part: str) -> str:
    digits = f"{moment.microsecond:06d}".ljust(len(part) - 1, "0")[: len(part) - 1]
    if part[1] == "0":
        return part[0] + digits
    digits = digits.rstrip("0")
    return part[0] + digits if digits else ""


def _zone(moment: datetime, part: str) -> str:
    offset = moment.utcoffset()
    seconds = int(offset.total_seconds()) if offset else 0
    if part[0] == "Z" and not seconds:
        return "Z"
    sign, rest = "-" if seconds < 0 else "+", abs(seconds)
    pieces = [f"{rest // 3600:02d}", f"{rest // 60 % 60:02d}", f"{rest % 60:02d}"]
    count = {"07": 1, "0700": 2, "07:00": 2, "070000": 3, "07:00:00": 3}[part[1:]]
    return sign + (":" if ":" in part else "").join(pieces[:count])


class Moment(Methods):
    """A moment, as `sprig_now` gives it."""

    go_name = "time.Time"
    go_methods = {
        "Format": "format",
        "Unix": "unix",
        "UTC": "utc",
        "Year": "year",
        "Day": "day",
        "Hour": "hour",
        "Minute": "minute",
    }

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __str__(self) -> str:
        return formatted(self.moment, "2006-01-02 15:04:05.999999999 -0700 MST")

    def format(self, layout: str) -> str:
        return formatted(self.moment, layout)

    def unix(self) -> int:
        return int(self.moment.timestamp())

    def utc(self) -> object:
        return Moment(self.moment.astimezone(UTC))

    def year(self) -> int:
        return self.moment.year

    def day(self) -> int:
        return self.moment.day

    def hour(self) -> int:
        return self.moment.hour

    def minute(self) -> int:
        return self.moment.minute


class Clock:
    """The functions that ask what time it is."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    def timestamp(self, *layout: str) -> str:
        """RFC 3339 in UTC; with "unix" the seconds since 1970, else by the layout."""
        if len(layout) > 1:
            raise Refusal(f"timestamp: wrong number of arguments, expected 0 or 1, but got {len(layout)}")
        moment = self._now().astimezone(UTC)
        if layout[:1] == ("unix",):
            return str(int(moment.timestamp()))
        return formatted(moment, layout[0] if layout else RFC3339)

    def now(self) -> object:
        return Moment(self._now().astimezone(UTC))

    def functions(self) -> dict[str, Callable[..., object]]:
        return {"timestamp": self.timestamp, "sprig_now": self.now}
