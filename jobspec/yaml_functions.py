"""The functions of job files that read and write YAML.

PyYAML's emitter and parser do the work (they are libyaml, from which Nomad's are translated); which value a
plain word means, and which style a value is written in, is Nomad's own and stands here. Imported by the first
call: PyYAML takes 15 ms to load.
"""

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from jobspec.values import ConversionFault, Value, to_text, whole

# Nomad leaves libyaml's own width: a longer quoted text goes on in the next line.
_WIDTH = 80
# Aliases of aliases (and locals of locals) stand for all they hold: ten lines could fill the memory.
_NODES_MAX = 200_000
# libyaml takes time with the square of the depth: a second at ten times as much.
_DEPTH_MAX = 1000
_DIGITS_MAX = 400

_DUMPER = getattr(yaml, "CDumper", yaml.Dumper)
_LOADER = getattr(yaml, "CLoader", yaml.Loader)

_TAG = "tag:yaml.org,2002:"
_WORDS: dict[str, bool | None] = {
    **{word: True for plain in ("y", "yes", "true", "on") for word in (plain, plain.title(), plain.upper())},
    **{
        word: False for plain in ("n", "no", "false", "off") for word in (plain, plain.title(), plain.upper())
    },
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
}
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_OTHER_BASES = re.compile(r"([-+]?)(?:0x([0-9a-fA-F]+)|0o([0-7]+)|0b([01]+))")
_MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:[Tt]([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:\.[0-9]*)?(Z|[+-][0-9]{2}:[0-9]{2})"
    r"| ([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:\.[0-9]*)?)?"
)


# ---- writing


def encode(value: Value) -> Value:
    """YAML in block style, every text quoted, keys in order."""
    if not isinstance(value, str | list | dict):
        return f"{_plain(value)}\n...\n"  # a document that is one plain word is closed explicitly
    try:
        return yaml.emit(_document(value), Dumper=_DUMPER, allow_unicode=True, width=_WIDTH)
    except yaml.YAMLError as error:
        raise ConversionFault(f"cannot be written as YAML: {error}") from None


def _plain(value: int | Decimal | bool | None) -> str:
    return "null" if value is None else to_text(value)


def _document(value: Value) -> Iterator[Event]:
    yield StreamStartEvent()
    yield DocumentStartEvent(explicit=False)
    yield from _events(value)
    yield DocumentEndEvent(explicit=False)
    yield StreamEndEvent()


def _events(value: Value) -> Iterator[Event]:
    """The events of a value, with a stack of its own: values nest deeper than Python calls may."""
    left: list[Value | Event] = [value]
    count = 0
    while left:
        item = left.pop()
        count += 1
        if count > 2 * _NODES_MAX:
            raise ConversionFault("the value is too large for YAML")
        if isinstance(item, Event):
            yield item
        elif isinstance(item, dict):
            yield MappingStartEvent(None, None, True, flow_style=False)
            left.append(MappingEndEvent())
            for key in sorted(item, reverse=True):
                left += (item[key], key)
        elif isinstance(item, list):
            yield SequenceStartEvent(None, None, True, flow_style=False)
            left.append(SequenceEndEvent())
            left += reversed(item)
        elif isinstance(item, str):
            yield ScalarEvent(None, None, (True, True), item, style="|" if "\n" in item else '"')
        else:
            yield ScalarEvent(None, None, (True, True), _plain(item), style="")


# ---- reading


def decode(text: Value) -> Value:
    """The value of a YAML text of one document."""
    written = to_text(text)
    try:
        return _Reader().read(yaml.parse(written, Loader=_LOADER))
    except yaml.YAMLError as error:
        raise ConversionFault(f"not YAML: {_in_one_line(error)}") from None


def _in_one_line(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        problem = error.problem or error.context or "it cannot be read"
        return f"line {error.problem_mark.line + 1}: {problem}"
    return " ".join(str(error).split())


class _Open:
    """A list or map that is being read; key: the one whose value comes next, None when a key comes next."""

    __slots__ = ("anchor", "count", "key", "made", "merges")

    def __init__(self, made: "list[Value] | dict[str, Value]", anchor: str | None) -> None:
        self.made = made
        self.anchor = anchor
        self.key: str | None = None
        self.merges = False
        self.count = 1  # of values in it, those behind aliases counted each time


class _Reader:
    def __init__(self) -> None:
        self._anchors: dict[str, tuple[Value, int]] = {}
        self._open: list[_Open] = []
        self._root: Value = None
        self._documents = 0

    def read(self, events: Iterator[Event]) -> Value:
        for event in events:
            if isinstance(event, DocumentStartEvent):
                self._documents += 1
                if self._documents > 1:
                    raise self._fault(event, "more than one document")
            elif isinstance(event, ScalarEvent):
                self._scalar(event)
            elif isinstance(event, AliasEvent):
                self._alias(event)
            elif isinstance(event, MappingStartEvent | SequenceStartEvent):
                self._start(event)
            elif isinstance(event, MappingEndEvent | SequenceEndEvent):
                closed = self._open.pop()
                if closed.anchor:
                    self._anchors[closed.anchor] = (closed.made, closed.count)
                self._put(event, closed.made, closed.count)
        return self._root

    def _fault(self, event: Event, message: str) -> ConversionFault:
        return ConversionFault(f"line {event.start_mark.line + 1}: {message}")

    def _expects_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].made, dict) and self._open[-1].key is None

    def _start(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        if self._expects_key():
            raise self._fault(event, "only texts may be keys")
        is_map = isinstance(event, MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if is_map else "seq")):
            raise self._fault(event, f"the tag {event.tag} is not supported")
        if event.anchor:
            self._anchors.pop(event.anchor, None)
        if len(self._open) >= _DEPTH_MAX:
            raise self._fault(event, f"nested too deeply (at most {_DEPTH_MAX} levels)")
        self._open.append(_Open({} if is_map else [], event.anchor))

    def _scalar(self, event: ScalarEvent) -> None:
        top = self._open[-1] if self._open else None
        is_plain = event.implicit[0]
        if top is not None and self._expects_key():
            if event.tag == _TAG + "merge" or (is_plain and event.tag is None and event.value == "<<"):
                top.key, top.merges = "<<", True
                return
            key = self._value(event, is_plain)
            if key is None or isinstance(key, list | dict):
                raise self._fault(event, "a key cannot be null")
            top.key = to_text(key)
            return
        value = self._value(event, is_plain)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        self._put(event, value, 1)

    def _value(self, event: ScalarEvent, is_plain: bool) -> Value:
        tag = event.tag
        if tag is None or tag == "!":
            return _word(event.value) if is_plain and tag is None else event.value
        value = event.value if tag == _TAG + "str" else _word(event.value)
        kind = tag.removeprefix(_TAG)
        fits = {
            "str": isinstance(value, str),
            "bool": isinstance(value, bool),
            "int": isinstance(value, int | Decimal) and not isinstance(value, bool),
            "float": isinstance(value, int | Decimal) and not isinstance(value, bool),
            "null": True,
            "timestamp": isinstance(value, str) and value != event.value,
            "binary": _is_base64(event.value),
        }
        if kind not in fits or not tag.startswith(_TAG):
            raise self._fault(event, f"the tag {tag} is not supported")
        if not fits[kind]:
            raise self._fault(event, f'"{event.value[:60]}" is no {kind}')
        if kind == "null":
            return None
        return event.value if kind == "binary" else value

    def _alias(self, event: AliasEvent) -> None:
        if self._expects_key():
            raise self._fault(event, "only texts may be keys")
        if event.anchor not in self._anchors:
            is_open = any(item.anchor == event.anchor for item in self._open)
            what = "refers to itself" if is_open else "is not defined"
            raise self._fault(event, f"the anchor {event.anchor} {what}")
        self._put(event, *self._anchors[event.anchor])

    def _put(self, event: Event, value: Value, count: int) -> None:
        if not self._open:
            self._root = value
            return
        top = self._open[-1]
        top.count += count
        if top.count > _NODES_MAX:
            raise self._fault(event, f"more than {_NODES_MAX} values")
        if isinstance(top.made, list):
            top.made.append(value)
        elif top.merges:
            for part in value if isinstance(value, list) else [value]:
                if not isinstance(part, dict):
                    raise self._fault(event, "only maps can be merged")
                top.made |= part
        elif top.key is not None:
            top.made[top.key] = value
        top.key, top.merges = None, False


def _word(text: str) -> Value:
    """What a word without quotes means: YAML 1.1's many booleans, numbers, dates, or a text."""
    if text in _WORDS:
        return _WORDS[text]
    if _INFINITE.fullmatch(text):
        raise ConversionFault(f"the number {text} is not supported")
    if text[0] not in "+-.0123456789":
        return text
    moment = _MOMENT.fullmatch(text)
    if moment:
        return _timestamp(text, moment)
    plain = text.replace("_", "")
    other = _OTHER_BASES.fullmatch(plain)
    if other and len(plain) <= _DIGITS_MAX:
        base = 16 if other[2] else 8 if other[3] else 2
        number = int(other[2] or other[3] or other[4], base)
        return -number if other[1] == "-" else number
    if _NUMBER.fullmatch(plain) and len(plain) <= _DIGITS_MAX:
        try:
            decimal = Decimal(plain)
        except InvalidOperation:
            return text
        if abs(decimal.adjusted()) <= _DIGITS_MAX:
            return whole(decimal)
    return text


def _timestamp(text: str, match: "re.Match[str]") -> Value:
    """A date or moment as the functions of job files write them; a text when there is no such day."""
    from datetime import datetime

    hour, minute, second = match[4] or match[8], match[5] or match[9], match[6] or match[10]
    numbers = [int(part) for part in (match[1], match[2], match[3], hour or 0, minute or 0, second or 0)]
    try:
        moment = datetime(*numbers)  # type: ignore[arg-type]  # noqa: DTZ001  the zone is put back as written
    except ValueError:
        return text
    zone = match[7] or "Z"
    return moment.isoformat() + ("Z" if zone[1:] == "00:00" else zone)


def _is_base64(text: str) -> bool:
    from base64 import b64decode

    try:
        b64decode(text, validate=True)
    except ValueError:
        return False
    return True
