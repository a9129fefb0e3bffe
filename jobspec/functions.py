"""Which functions may a job file call?

Exactly those of Nomad: what other dialects of HCL know beside them (tostring, regex, sum, …) is unknown here
as it is there. Plain functions over HCL values; numbers and collections here, the others in modules by what
they are about, and one table of all at the end. Each converts its own arguments (values.to_text and friends
raise ConversionFault, which the evaluator reports at the call). try, can and convert take expressions and not
values: they are the evaluator's own.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from itertools import product

from jobspec.crypto_functions import CRYPTO_FUNCTIONS, bcrypt_steps
from jobspec.document_functions import DOCUMENT_FUNCTIONS
from jobspec.evaluate import Function
from jobspec.format_functions import FORMAT_FUNCTIONS
from jobspec.graphemes import clusters
from jobspec.network_functions import NETWORK_FUNCTIONS
from jobspec.text_functions import TEXT_FUNCTIONS
from jobspec.time_functions import TIME_FUNCTIONS
from jobspec.values import (
    ConversionFault,
    SetOf,
    Value,
    equal,
    make_set,
    to_index,
    to_list,
    to_map,
    to_number,
    to_text,
    to_texts,
    type_name,
    unified,
    whole,
)

# A list's own limit: far above any job's, far below what hurts to hold.
_ELEMENTS_MAX = 100_000

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
    # A double, as Go's; its shortest digits are what a job file sees of it.
    return _double(float(to_number(base)) ** float(to_number(exponent)))


def _log(number: Value, base: Value) -> Value:
    return _double(math.log(to_number(number)) / math.log(to_number(base)))


def _double(number: float | complex) -> Value:
    if isinstance(number, complex) or not math.isfinite(number):
        raise ConversionFault("the result is not a finite number")
    return whole(Decimal(repr(number)))


def _signum(number: Value) -> Value:
    value = to_index(number)
    return (value > 0) - (value < 0)


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _parseint(text: Value, base: Value) -> Value:
    radix = to_index(base)
    if not 2 <= radix <= len(_DIGITS):
        raise ConversionFault(f"base must be between 2 and {len(_DIGITS)}")
    if not isinstance(text, str):
        raise ConversionFault(f"string required, found {type_name(text)}")
    digits = text[1:] if text[:1] in ("+", "-") else text
    if radix <= 36:
        digits = digits.lower()
    known = _DIGITS[:radix]
    if not digits or len(digits) > 400 or not set(digits) <= set(known):
        raise ConversionFault(f'"{text[:60]}" is no whole number in base {radix}')
    number = 0
    for digit in digits:
        number = number * radix + known.index(digit)
    return -number if text.startswith("-") else number


# ---- collections


def _length(value: Value) -> Value:
    if isinstance(value, str):
        return len(clusters(value))
    if isinstance(value, list | dict):
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


def _lookup(items: Value, key: Value, default: Value) -> Value:
    return to_map(items).get(to_text(key), default)


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


def _index(items: Value, key: Value) -> Value:
    """The element at a place or under a key (and not, as elsewhere, the place of an element)."""
    if isinstance(items, dict):
        name = to_text(key)
        if name not in items:
            raise ConversionFault(f'no element "{name}"')
        return items[name]
    values, number = to_list(items), to_index(key)
    if not 0 <= number < len(values):
        raise ConversionFault(f"index {number} is out of range (the list has {len(values)} elements)")
    return values[number]


def _distinct(items: Value) -> Value:
    kept: list[Value] = []
    for item in unified(to_list(items)):
        if not any(equal(item, known) for known in kept):
            kept.append(item)
    return kept


def _sort(items: Value) -> Value:
    texts: list[Value] = [*sorted(to_texts(items))]
    return texts


def _reverse(items: Value) -> Value:
    """Of a list as documented, of a text as Nomad does it."""
    if isinstance(items, list):
        return items[::-1]
    return "".join(reversed(clusters(to_text(items))))


def _chunklist(items: Value, size: Value) -> Value:
    values, step = unified(to_list(items)), to_index(size)
    if step < 0:
        raise ConversionFault("size must not be negative")
    step = step or max(1, len(values))  # 0: all in one
    return [values[at : at + step] for at in range(0, len(values), step)]


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
    left = to_list(items)[::-1]
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += reversed(item)
        else:
            flat.append(item)
        if len(left) + len(flat) > _ELEMENTS_MAX:
            raise ConversionFault(f"the result has more than {_ELEMENTS_MAX} elements")
    return flat


def _compact(items: Value) -> Value:
    return [text for item in to_list(items) if item is not None and (text := to_text(item))]


def _coalesce(*values: Value) -> Value:
    for value in unified(list(values)):
        if value is not None:  # an empty text is a value: so does Nomad, whatever its documentation says
            return value
    raise ConversionFault("no value that is not null")


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
    if len(lists) < 2:
        raise ConversionFault("at least two lists required")
    sides = [unified(to_list(values)) for values in lists]
    if math.prod(len(side) for side in sides) > _ELEMENTS_MAX:
        raise ConversionFault("the product is too large")
    return [list(combination) for combination in product(*sides)]


def _setunion(first: Value, *others: Value) -> Value:
    return make_set(unified([item for values in (first, *others) for item in to_list(values)]))


def _setintersection(first: Value, *others: Value) -> Value:
    kept = make_set(unified(to_list(first)))
    for other in others:
        known = {_hashable(item) for item in make_set(unified(to_list(other)))}
        kept = SetOf(item for item in kept if _hashable(item) in known)
    return kept


def _hashable(value: Value) -> object:
    return value if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else repr(value)


_PLAIN: Mapping[str, Function] = {
    "abs": _abs,
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
    "index": _index,
    "keys": _keys,
    "length": _length,
    "log": _log,
    "lookup": _lookup,
    "max": _max,
    "merge": _merge,
    "min": _min,
    "parseint": _parseint,
    "pow": _pow,
    "range": _range,
    "reverse": _reverse,
    "setintersection": _setintersection,
    "setproduct": _setproduct,
    "setunion": _setunion,
    "signum": _signum,
    "slice": _slice,
    "sort": _sort,
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
    name: checked(function)
    for name, function in {
        **_PLAIN,
        **TEXT_FUNCTIONS,
        **FORMAT_FUNCTIONS,
        **DOCUMENT_FUNCTIONS,
        **TIME_FUNCTIONS,
        **NETWORK_FUNCTIONS,
        **CRYPTO_FUNCTIONS,
    }.items()
}

# What the arguments make a call cost of the file's budget, where that is much more than its result's size.
PRICES: Mapping[str, Callable[..., int]] = {"bcrypt": bcrypt_steps}
