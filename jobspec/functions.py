"""Which functions may a job file call?

Plain functions over HCL values, one table at the end; those that make texts are in `text_functions`.
Each converts its own arguments (values.to_text and friends raise ConversionFault, which the evaluator
reports at the call). What takes a library of its own (YAML, CIDR, dates, templatefile, bcrypt) is not here
yet and is an unknown function until it is.
"""

import inspect
import math
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from itertools import product

from jobspec.evaluate import Function
from jobspec.text_functions import TEXT_FUNCTIONS
from jobspec.values import (
    ANY,
    ARITHMETIC,
    ConversionFault,
    Type,
    Value,
    convert,
    equal,
    make_set,
    to_bool,
    to_index,
    to_list,
    to_map,
    to_number,
    to_text,
    to_texts,
    type_name,
    whole,
)

# ---- numbers


def _abs(number: Value) -> Value:
    value = to_number(number)
    return -value if value < 0 else value


def _ceil(number: Value) -> Value:
    return math.ceil(to_number(number))


def _floor(number: Value) -> Value:
    return math.floor(to_number(number))


def _max(*numbers: Value) -> Value:
    if not numbers:
        raise ConversionFault("at least one number required")
    return max(to_number(number) for number in numbers)


def _min(*numbers: Value) -> Value:
    if not numbers:
        raise ConversionFault("at least one number required")
    return min(to_number(number) for number in numbers)


def _pow(base: Value, exponent: Value) -> Value:
    try:
        return whole(ARITHMETIC.power(Decimal(to_number(base)), Decimal(to_number(exponent))))
    except ArithmeticError:
        raise ConversionFault("the result is too large or not real") from None


def _log(number: Value, base: Value) -> Value:
    return whole(Decimal(repr(math.log(to_number(number)) / math.log(to_number(base)))))


def _signum(number: Value) -> Value:
    value = to_number(number)
    return (value > 0) - (value < 0)


def _parseint(text: Value, base: Value) -> Value:
    radix = to_index(base)
    if not 2 <= radix <= 36:
        raise ConversionFault("base must be between 2 and 36")
    return int(to_text(text)[:1000], radix)


# ---- collections


def _length(value: Value) -> Value:
    if isinstance(value, str | list | dict):
        return len(value)
    raise ConversionFault(f"list, map or string required, found {type_name(value)}")


def _concat(*lists: Value) -> Value:
    return [item for values in lists for item in to_list(values)]


def _merge(*maps: Value) -> Value:
    merged: dict[str, Value] = {}
    for item in maps:
        if item is not None:
            merged |= to_map(item)
    return merged


def _keys(value: Value) -> Value:
    names: list[Value] = [*sorted(to_map(value))]
    return names


def _values(value: Value) -> Value:
    items = to_map(value)
    return [items[key] for key in sorted(items)]


def _lookup(items: Value, key: Value, *default: Value) -> Value:
    found = to_map(items)
    name = to_text(key)
    if name in found:
        return found[name]
    if default:
        return default[0]
    raise ConversionFault(f'no element "{name}" and no default')


def _element(items: Value, index: Value) -> Value:
    values = to_list(items)
    if not values:
        raise ConversionFault("cannot take an element of an empty list")
    number = to_index(index)
    if number < 0:
        raise ConversionFault("index must not be negative")
    return values[number % len(values)]


def _slice(items: Value, start: Value, end: Value) -> Value:
    values, first, last = to_list(items), to_index(start), to_index(end)
    if not 0 <= first <= last <= len(values):
        raise ConversionFault(f"range {first} to {last} is outside of the list's {len(values)} elements")
    return values[first:last]


def _contains(items: Value, wanted: Value) -> Value:
    return any(equal(item, wanted) for item in to_list(items))


def _index_of(items: Value, wanted: Value) -> Value:
    for number, item in enumerate(to_list(items)):
        if equal(item, wanted):
            return number
    raise ConversionFault("the list has no such element")


def _distinct(items: Value) -> Value:
    kept: list[Value] = []
    for item in to_list(items):
        if not any(equal(item, known) for known in kept):
            kept.append(item)
    return kept


def _sort(items: Value) -> Value:
    texts: list[Value] = [*sorted(to_texts(items))]
    return texts


def _reverse(items: Value) -> Value:
    return to_list(items)[::-1]


def _chunklist(items: Value, size: Value) -> Value:
    values, step = to_list(items), to_index(size)
    if step < 0:
        raise ConversionFault("size must not be negative")
    return [values] if step == 0 else [values[at : at + step] for at in range(0, len(values), step)]


def _range(*limits: Value) -> Value:
    if not 1 <= len(limits) <= 3:
        raise ConversionFault("one to three numbers required")
    numbers = [Decimal(to_number(limit)) for limit in limits]
    start, stop = (Decimal(0), numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])
    step = numbers[2] if len(numbers) == 3 else Decimal(1 if start <= stop else -1)
    if step == 0 or (stop - start) * step < 0:
        raise ConversionFault("the step never reaches the end")
    made: list[Value] = []
    while (start < stop) if step > 0 else (start > stop):
        made.append(whole(start))
        start += step
        if len(made) > 1024:
            raise ConversionFault("more than 1024 values")
    return made


def _flatten(items: Value) -> Value:
    flat: list[Value] = []
    for item in to_list(items):
        if isinstance(item, list):
            flat.extend(to_list(_flatten(item)))
        else:
            flat.append(item)
    return flat


def _compact(items: Value) -> Value:
    return [item for item in to_list(items) if item not in ("", None)]


def _coalesce(*values: Value) -> Value:
    for value in values:
        if value is not None and value != "":
            return value
    raise ConversionFault("no value that is neither null nor empty")


def _coalescelist(*lists: Value) -> Value:
    for values in lists:
        if to_list(values):
            return values
    raise ConversionFault("no list that is not empty")


def _zipmap(keys: Value, values: Value) -> Value:
    names, items = to_texts(keys), to_list(values)
    if len(names) != len(items):
        raise ConversionFault(f"{len(names)} keys for {len(items)} values")
    return dict(zip(names, items, strict=True))


def _setproduct(*lists: Value) -> Value:
    sides = [to_list(values) for values in lists]
    if math.prod(len(side) for side in sides) > 100_000:
        raise ConversionFault("the product is too large")
    return [list(combination) for combination in product(*sides)]


def _setunion(*sets: Value) -> Value:
    return make_set([item for values in sets for item in to_list(values)])


def _setintersection(first: Value, *others: Value) -> Value:
    return make_set([item for item in to_list(first) if all(_contains(other, item) for other in others)])


def _setsubtract(items: Value, removed: Value) -> Value:
    return make_set([item for item in to_list(items) if not _contains(removed, item)])


def _setsymmetricdifference(first: Value, second: Value) -> Value:
    return make_set([*to_list(_setsubtract(first, second)), *to_list(_setsubtract(second, first))])


def _sethaselement(items: Value, wanted: Value) -> Value:
    return _contains(items, wanted)


def _sum(items: Value) -> Value:
    return whole(sum((Decimal(to_number(item)) for item in to_list(items)), Decimal(0)))


def _alltrue(items: Value) -> Value:
    return all(to_bool(item) for item in to_list(items))


def _anytrue(items: Value) -> Value:
    return any(to_bool(item) for item in to_list(items))


def _one(items: Value) -> Value:
    values = to_list(items)
    if len(values) > 1:
        raise ConversionFault("a list of at most one element required")
    return values[0] if values else None


# ---- conversion


def _tostring(value: Value) -> Value:
    return None if value is None else to_text(value)


def _tonumber(value: Value) -> Value:
    return None if value is None else to_number(value)


def _tobool(value: Value) -> Value:
    return None if value is None else to_bool(value)


def _tolist(value: Value) -> Value:
    return list(to_list(value))


def _toset(value: Value) -> Value:
    return make_set(to_list(value))


def _tomap(value: Value) -> Value:
    return convert(value, Type(name="map", of=ANY))


_PLAIN: Mapping[str, Function] = {
    "abs": _abs,
    "alltrue": _alltrue,
    "anytrue": _anytrue,
    "ceil": _ceil,
    "chunklist": _chunklist,
    "coalesce": _coalesce,
    "coalescelist": _coalescelist,
    "compact": _compact,
    "concat": _concat,
    "contains": _contains,
    "distinct": _distinct,
    "element": _element,
    "flatten": _flatten,
    "floor": _floor,
    "index": _index_of,
    "keys": _keys,
    "length": _length,
    "log": _log,
    "lookup": _lookup,
    "max": _max,
    "merge": _merge,
    "min": _min,
    "one": _one,
    "parseint": _parseint,
    "pow": _pow,
    "range": _range,
    "reverse": _reverse,
    "sethaselement": _sethaselement,
    "setintersection": _setintersection,
    "setproduct": _setproduct,
    "setsubtract": _setsubtract,
    "setsymmetricdifference": _setsymmetricdifference,
    "setunion": _setunion,
    "signum": _signum,
    "slice": _slice,
    "sort": _sort,
    "sum": _sum,
    "tobool": _tobool,
    "tolist": _tolist,
    "tomap": _tomap,
    "tonumber": _tonumber,
    "toset": _toset,
    "tostring": _tostring,
    "values": _values,
    "zipmap": _zipmap,
}


@lru_cache(maxsize=256)
def _arity(function: Function) -> tuple[int, int | None]:
    """The least and the most arguments a function takes; None: any number."""
    least, most = 0, 0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return least, None
        least += parameter.default is inspect.Parameter.empty
        most += 1
    return least, most


def checked(function: Function) -> Function:
    """The function, with a wrong number of arguments as a fault of the caller's."""

    def call(*arguments: Value) -> Value:
        least, most = _arity(function)
        if len(arguments) < least or (most is not None and len(arguments) > most):
            wanted = (
                f"{least}" if most == least else f"at least {least}" if most is None else f"{least} to {most}"
            )
            raise ConversionFault(f"{wanted} arguments required, found {len(arguments)}")
        return function(*arguments)

    return call


FUNCTIONS: Mapping[str, Function] = {
    name: checked(function) for name, function in {**_PLAIN, **TEXT_FUNCTIONS}.items()
}
