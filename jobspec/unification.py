"""Which type has a value, and which type do several have in common?

As HCL2 sees it: what is written in brackets is a tuple, what is written in braces an object; a value of no known
type (null) is `any` and fits everything.
"""

from collections.abc import Sequence

from jobspec.values import ANY, BOOL, NUMBER, STRING, SetOf, Type, Value


def type_of(value: Value) -> Type:
    if value is None:
        return ANY
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, str):
        return STRING
    if isinstance(value, SetOf):
        return Type(name="set", of=unify([type_of(item) for item in value]) or ANY)
    if isinstance(value, list):
        return Type(name="tuple", fields={str(at): type_of(item) for at, item in enumerate(value)})
    if isinstance(value, dict):
        return Type(name="object", fields={name: type_of(item) for name, item in value.items()})
    return NUMBER


def unify(types: Sequence[Type]) -> Type | None:
    """The type that all of these can become; None: there is none."""
    names = {item.name for item in types}
    if not types or "any" in names:
        return ANY
    if len(names) == 1 and names & {"tuple", "object"}:
        fields = types[0].fields.keys()
        if all(item.fields.keys() == fields for item in types):
            return _of_fields(types[0].name, types)
    if names <= {"object", "map"}:
        return _of_elements("map", types)
    if names <= {"tuple", "list", "set"}:
        return _of_elements("set" if "set" in names else "list", types)
    if len(names) == 1:
        return types[0]
    # A number and a bool have nothing in common, but beside a text both are texts.
    return STRING if "string" in names and names <= {"string", "number", "bool"} else None


def _of_fields(name: str, types: Sequence[Type]) -> Type | None:
    """Tuples of one length, or objects with the same attributes: each of them for itself."""
    fields: dict[str, Type] = {}
    for field in types[0].fields:
        shared = unify([item.fields[field] for item in types])
        if shared is None:
            return None
        fields[field] = shared
    return Type(name=name, fields=fields)


def _of_elements(name: str, types: Sequence[Type]) -> Type | None:
    """Others become a list, set or map: one type for every element."""
    elements = [inner for item in types for inner in ([item.of] if item.of else item.fields.values())]
    shared = unify(elements)
    return None if shared is None else Type(name=name, of=shared)
