"""May a function be called with these values? By its annotations, in Go's words.

A parameter annotated str, int, float, bool, list or dict takes only that (a float also an int, a list nil); object takes
anything. `*args: T` takes any number.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from template.faults import Refusal
from template.values import NO_VALUE, go_type, is_int, is_map, is_nil, is_slice, is_text


@dataclass(frozen=True, slots=True)
class _Kind:
    go_name: str
    fits: Callable[[object], bool]


_KINDS = {
    str: _Kind("string", is_text),
    int: _Kind("int", is_int),
    float: _Kind("float64", lambda value: isinstance(value, float) or is_int(value)),
    bool: _Kind("bool", lambda value: isinstance(value, bool)),
    list: _Kind("[]interface {}", lambda value: is_slice(value) or is_nil(value)),
    dict: _Kind("map[string]interface {}", lambda value: is_map(value) or is_nil(value)),
    object: _Kind("interface {}", lambda value: True),
}


@dataclass(frozen=True, slots=True)
class _Signature:
    """kinds: of the parameters in order. least: how many have to be given. rest: of `*args`, None without."""

    kinds: tuple[_Kind, ...]
    least: int
    rest: _Kind | None


@lru_cache(2048)  # bounded: sockaddr's are made for each call
def _signature(function: Callable[..., object]) -> _Signature:
    kinds: list[_Kind] = []
    least, rest = 0, None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        origin = getattr(parameter.annotation, "__origin__", parameter.annotation)
        kind = _KINDS[origin]
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = kind
            continue
        kinds.append(kind)
        least += parameter.default is parameter.empty
    return _Signature(tuple(kinds), least, rest)


def call(name: str, function: Callable[..., object], values: Sequence[object]) -> object:
    """What the function answers. Raises Refusal, also for values that do not fit."""
    signature = _signature(getattr(function, "__func__", function))
    count = len(values)
    if count < signature.least or (count > len(signature.kinds) and signature.rest is None):
        wanted = f"at least {signature.least}" if signature.rest else str(len(signature.kinds))
        raise Refusal(f"wrong number of args for {name}: want {wanted} got {count}")
    given: list[object] = []
    for number, value in enumerate(values):
        kind = signature.kinds[number] if number < len(signature.kinds) else signature.rest
        if kind is not None and not kind.fits(value):
            if is_nil(value):
                raise Refusal(f"invalid value; expected {kind.go_name}")
            raise Refusal(f"wrong type for value; expected {kind.go_name}; got {go_type(value)}")
        if value is NO_VALUE:
            value = None
        if value is None and kind is not None and kind.go_name[0] in "[m":
            value = [] if kind.go_name[0] == "[" else {}
        given.append(value)
    return function(*given)
