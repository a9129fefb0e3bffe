"""Sprig's functions of lists and maps."""

from collections.abc import Callable, Mapping

from template.faults import Refusal
from template.formats import plain
from template.functions.groups import merge_map, merge_map_with_override
from template.values import bounded, is_map, is_nil, is_slice, is_true, key_order, to_bytes

# Elements of a list compared pair by pair.
_PAIRS_MAX = 2_000


def text_of(value: object) -> str:
    return value if isinstance(value, str) else "" if is_nil(value) else plain(value)


def texts_of(value: object) -> list[str]:
    if is_slice(value):
        return [text_of(one) for one in value if not is_nil(one)]
    return [] if is_nil(value) else [text_of(value)]


# Lists.


def _list(*values: object) -> list[object]:
    return list(values)


def _first(values: list[object]) -> object:
    return values[0] if values else None


def _last(values: list[object]) -> object:
    return values[-1] if values else None


def _rest(values: list[object]) -> list[object]:
    return list(values[1:])


def _initial(values: list[object]) -> list[object]:
    return list(values[:-1])


def _append(values: list[object], value: object) -> list[object]:
    return [*values, value]


def _prepend(values: list[object], value: object) -> list[object]:
    return [value, *values]


def _concat(*lists: list[object]) -> list[object]:
    return [one for values in lists for one in values]


def _reverse(values: list[object]) -> list[object]:
    return list(values)[::-1]


def _uniq(values: list[object]) -> list[object]:
    bounded(values)
    found: list[object] = []
    simple: set[tuple[type, object]] = set()
    for one in values:
        if isinstance(one, str | int | float):
            if (type(one), one) not in simple:
                simple.add((type(one), one))
                found.append(one)
        elif len(found) > _PAIRS_MAX:
            raise Refusal(f"uniq: more than {_PAIRS_MAX} elements")
        elif not any(_deep_equal(one, other) for other in found):
            found.append(one)
    return found


def _without(values: list[object], *unwanted: object) -> list[object]:
    return [one for one in values if not any(_deep_equal(one, other) for other in unwanted)]


def _has(wanted: object, values: list[object]) -> bool:
    return any(_deep_equal(one, wanted) for one in values)


def _compact(values: list[object]) -> list[object]:
    return [one for one in values if is_true(one)]


def _slice(values: list[object], *bounds: int) -> list[object]:
    start, end = bounds[0] if bounds else 0, bounds[1] if len(bounds) > 1 else len(values)
    if not 0 <= start <= end <= len(values):
        raise Refusal("slice: index out of range")
    return list(values[start:end])


def _chunk(size: int, values: list[object]) -> list[object]:
    if size < 1:
        raise Refusal("chunk: expected a size of at least 1")
    return [list(values[start : start + size]) for start in range(0, len(values), size)]


def _sort_alpha(values: object) -> list[object]:
    return [*sorted(texts_of(values), key=to_bytes)]


def _to_strings(values: object) -> list[object]:
    return list(texts_of(values))


def _deep_equal(first: object, second: object) -> bool:
    bounded(first)
    bounded(second)
    return _same(first, second)


def _same(first: object, second: object) -> bool:
    if is_map(first) and is_map(second):
        a, b = dict(first), dict(second)
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if is_slice(first) and is_slice(second):
        return len(first) == len(second) and all(map(_same, first, second))
    return type(first) is type(second) and first == second


# Maps.


class _Own(dict[str, object]):
    """A map that the template made: it may be changed, which answers and the caller's data may not."""


def _dict(*pairs: object) -> dict[str, object]:
    values = [*pairs, ""] if len(pairs) % 2 else list(pairs)
    return _Own({text_of(values[number]): values[number + 1] for number in range(0, len(values), 2)})


def _get(values: dict[str, object], key: str) -> object:
    return values.get(key, "")


def _set(values: dict[str, object], key: str, value: object) -> dict[str, object]:
    """The map itself with the key, or a copy of a map that the template did not make."""
    own = values if isinstance(values, _Own) else _Own(values)
    own[key] = value
    return own


def _unset(values: dict[str, object], key: str) -> dict[str, object]:
    own = values if isinstance(values, _Own) else _Own(values)
    own.pop(key, None)
    return own


def _deep_copy(value: object) -> object:
    bounded(value)
    return _copied(value)


def _copied(value: object) -> object:
    if is_map(value):
        return _Own({key: _copied(one) for key, one in value.items()})
    return [_copied(one) for one in value] if is_slice(value) else value


def _has_key(values: dict[str, object], key: str) -> bool:
    return key in values


def _keys(*maps: dict[str, object]) -> list[object]:
    return [key for values in maps for key in sorted(values, key=key_order)]


def _values(values: dict[str, object]) -> list[object]:
    return [values[key] for key in sorted(values, key=key_order)]


def _pick(values: dict[str, object], *keys: str) -> dict[str, object]:
    return {key: values[key] for key in keys if key in values}


def _omit(values: dict[str, object], *keys: str) -> dict[str, object]:
    return {key: value for key, value in values.items() if key not in keys}


def _merge(into: dict[str, object], *others: dict[str, object]) -> dict[str, object]:
    for other in others:
        into = merge_map_with_override(into, other)
    return into


def _merge_overwrite(into: dict[str, object], *others: dict[str, object]) -> dict[str, object]:
    for other in others:
        into = merge_map(into, other)
    return into


def _pluck(key: str, *maps: dict[str, object]) -> list[object]:
    return [values[key] for values in maps if key in values]


def _dig(*path: object) -> object:
    """Keys, a default, a map."""
    if len(path) < 3:
        raise Refusal("dig needs at least three arguments")
    *keys, default, value = path
    for key in keys:
        if not is_map(value) or not isinstance(key, str) or key not in value:
            return default
        value = value[key]
    return value


COLLECTIONS: Mapping[str, Callable[..., object]] = {
    "toStrings": _to_strings, "sortAlpha": _sort_alpha, "list": _list, "tuple": _list, "first": _first, "last": _last,
    "rest": _rest, "initial": _initial, "append": _append, "push": _append, "prepend": _prepend, "concat": _concat,
    "reverse": _reverse, "uniq": _uniq, "without": _without, "has": _has, "compact": _compact, "slice": _slice,
    "chunk": _chunk, "dict": _dict, "get": _get, "set": _set, "unset": _unset, "hasKey": _has_key, "keys": _keys,
    "values": _values, "pick": _pick, "omit": _omit, "merge": _merge, "mergeOverwrite": _merge_overwrite,
    "pluck": _pluck, "dig": _dig, "deepCopy": _deep_copy, "deepEqual": _deep_equal,
}  # fmt: skip
