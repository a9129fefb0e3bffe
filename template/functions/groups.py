"""consul-template's functions of lists and maps, and what it has templates remember between actions."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from template.faults import Refusal
from template.lookups import Instance, Pair, Snippet
from template.values import Methods, bounded, go_type, is_map, is_slice, key_order


def is_in(values: object, wanted: object) -> bool:
    """Of a list whether it is among them, of a text whether it is part of it."""
    if isinstance(values, str):
        return isinstance(wanted, str) and wanted in values
    if is_slice(values):
        return any(_same(one, wanted) for one in values)
    return False


def _same(first: object, second: object) -> bool:
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    return isinstance(first, str | int | float) and isinstance(second, str | int | float) and first == second


def contains(wanted: object, values: object) -> bool:
    return is_in(values, wanted)


def contains_all(wanted: list[object], values: object) -> bool:
    return all(is_in(values, one) for one in _list("containsAll", wanted))


def contains_any(wanted: list[object], values: object) -> bool:
    return any(is_in(values, one) for one in _list("containsAny", wanted))


def contains_none(wanted: list[object], values: object) -> bool:
    return not any(is_in(values, one) for one in _list("containsNone", wanted))


def contains_not_all(wanted: list[object], values: object) -> bool:
    return not all(is_in(values, one) for one in _list("containsNotAll", wanted))


def _list(name: str, values: list[object]) -> list[object]:
    # Each of them is looked for in all of the others.
    if len(values) > 10_000:
        raise Refusal(f"{name}: more than 10000 elements to look for")
    return values


def by_key(pairs: list[object]) -> dict[str, object]:
    """{first part of the key: {the rest of it: pair}}."""
    groups: dict[str, dict[str, object]] = {}
    for pair in _pairs("byKey", pairs):
        top, _, rest = pair.key.partition("/")
        if rest:
            groups.setdefault(top, {})[rest] = msgspec.structs.replace(pair, key=rest)
    return dict(groups)


def _pairs(name: str, pairs: Sequence[object]) -> list[Pair]:
    found = [pair for pair in pairs if isinstance(pair, Pair)]
    if len(found) != len(pairs):
        raise Refusal(f"{name}: expected what ls or tree list")
    return found


def by_tag(services: list[object]) -> dict[str, object]:
    """{tag: the services that have it}."""
    groups: dict[str, list[object]] = {}
    for service in services:
        if not isinstance(service, Instance | Snippet):
            raise Refusal(f"byTag: wrong argument type {go_type(service)}")
        for tag in dict.fromkeys(service.tags):
            groups.setdefault(tag, []).append(service)
    return dict(groups)


_NO_WORD = re.compile(r"[^a-zA-Z0-9_-]")


def by_meta(names: str, services: list[object]) -> dict[str, object]:
    """{values of the named service meta, joined by _: services}. `name|int` pads a number to five digits."""
    groups: dict[str, list[object]] = {}
    for service in services:
        if not isinstance(service, Instance):
            raise Refusal(f"byMeta: wrong argument type {go_type(service)}")
        parts = (_NO_WORD.sub("_", _meta(service.service_meta, name)) for name in names.split(","))
        groups.setdefault("_".join(parts), []).append(service)
    return dict(groups)


def _meta(meta: Mapping[str, str], name: str) -> str:
    key, is_int = name.removesuffix("|int"), name.endswith("|int")
    value = meta.get(key, "")
    if is_int:
        return f"{int(value):05d}" if value.isdecimal() and len(value) < 19 else "00000"
    return value or f"_no_{key}_"


def explode(pairs: list[object]) -> dict[str, object]:
    """Pairs as nested maps, divided at each slash."""
    return _nested("explode", ((pair.key, pair.value) for pair in _pairs("explode", pairs)))


def explode_map(values: dict[str, object]) -> dict[str, object]:
    return _nested("explodeMap", sorted(((str(key), value) for key, value in values.items()), key=lambda one: key_order(one[0])))


def _nested(name: str, pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    whole: dict[str, object] = {}
    for path, value in pairs:
        parts = path.strip("/").split("/")
        inner = whole
        for part in parts[:-1]:
            below = inner.setdefault(part, {})
            if not isinstance(below, dict):
                raise Refusal(f"{name}: a key is the beginning of another")
            inner = below
        if parts[-1]:
            inner[parts[-1]] = value
    return whole


def merge_map(into: dict[str, object], values: dict[str, object]) -> dict[str, object]:
    """The second map with what it lacks from the first."""
    return _merged(values, into, 0)


def merge_map_with_override(into: dict[str, object], values: dict[str, object]) -> dict[str, object]:
    return _merged(into, values, 0)


def _merged(first: Mapping[str, object], second: Mapping[str, object], level: int) -> dict[str, object]:
    """Both; of two that are no maps the first's is taken."""
    if not level:
        bounded(first)
        bounded(second)
    merged = dict(second)
    for key, value in first.items():
        other = merged.get(key)
        merged[key] = _merged(value, other, level + 1) if is_map(value) and is_map(other) else value
    return merged


class Scratch(Methods):
    """What a template remembers from one action to the next."""

    go_name = "*scratch.Scratch"
    go_methods = {
        "Key": "has",
        "Get": "get",
        "Set": "set",
        "SetX": "set_if_new",
        "MapSet": "set_in_map",
        "MapSetX": "set_in_map_if_new",
        "MapValues": "values_of_map",
    }

    def __init__(self) -> None:
        self._values: dict[str, object] = {}

    def has(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> object:
        return self._values.get(key)

    def set(self, key: str, value: object) -> str:
        self._values[key] = value
        return ""

    def set_if_new(self, key: str, value: object) -> str:
        self._values.setdefault(key, value)
        return ""

    def set_in_map(self, key: str, name: str, value: object) -> str:
        self._map(key)[name] = value
        return ""

    def set_in_map_if_new(self, key: str, name: str, value: object) -> str:
        self._map(key).setdefault(name, value)
        return ""

    def values_of_map(self, key: str) -> object:
        """In the order of their names."""
        if key not in self._values:
            return []
        inner = self._map(key)
        return [inner[name] for name in sorted(inner, key=key_order)]

    def _map(self, key: str) -> dict[str, object]:
        inner = self._values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise Refusal("scratch: there is something else than a map under this key")
        return inner


GROUPS: Mapping[str, Callable[..., object]] = {
    "in": is_in,
    "contains": contains,
    "containsAll": contains_all,
    "containsAny": contains_any,
    "containsNone": contains_none,
    "containsNotAll": contains_not_all,
    "byKey": by_key,
    "byTag": by_tag,
    "byMeta": by_meta,
    "explode": explode,
    "explodeMap": explode_map,
    "mergeMap": merge_map,
    "mergeMapWithOverride": merge_map_with_override,
}
