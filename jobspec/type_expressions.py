"""Which type does `list(string)` or `object({ port = number })` name?"""

from collections.abc import Mapping

from jobspec.suggest import did_you_mean
from jobspec.syntax.tree import Call, Expression, Literal, ObjectOf, Reference, TupleOf
from jobspec.values import ANY, BOOL, NUMBER, STRING, Type

_PLAIN_TYPES: Mapping[str, Type] = {"string": STRING, "number": NUMBER, "bool": BOOL, "any": ANY}
_COLLECTIONS = ("list", "set", "map")


class TypeFault(Exception):
    """An expression names no type: `at` is the offset of the part that does not."""

    def __init__(self, at: int, message: str) -> None:
        self.at = at
        super().__init__(message)


def read_type(node: Expression, *, accepts_any: bool = True) -> Type:
    """`string`, `list(string)`, `object({ a = number })` as a Type. Raises TypeFault.

    accepts_any: as in convert(); a variable's type is an exact one, and Nomad refuses `any` there.
    """
    if isinstance(node, Reference) and not node.steps:
        if node.root == "any" and not accepts_any:
            raise TypeFault(
                node.at, "any cannot be used here: an exact type is required (none at all: the default's)"
            )
        if node.root in _PLAIN_TYPES:
            return _PLAIN_TYPES[node.root]
        if node.root in _COLLECTIONS:
            raise TypeFault(node.at, f"{node.root} needs the type of its elements: {node.root}(string)")
        raise TypeFault(
            node.at,
            f'"{node.root}" is no type{did_you_mean(node.root, [*_PLAIN_TYPES, *_COLLECTIONS, "object", "tuple"])}',
        )
    if isinstance(node, Literal) and isinstance(node.value, str):  # the old quoted form
        return read_type(Reference(node.at, node.value, (), node.value), accepts_any=accepts_any)
    if isinstance(node, Call) and len(node.arguments) >= 1:
        inner = node.arguments[0]
        if node.name in _COLLECTIONS and len(node.arguments) == 1:
            return Type(name=node.name, of=read_type(inner, accepts_any=accepts_any))
        if node.name == "object" and isinstance(inner, ObjectOf):
            return _object_type(inner, accepts_any=accepts_any)
        if node.name == "tuple" and isinstance(inner, TupleOf):
            return Type(
                name="tuple",
                fields={
                    str(at): read_type(item, accepts_any=accepts_any) for at, item in enumerate(inner.items)
                },
            )
    raise TypeFault(
        node.at,
        "no type (expected string, number, bool, any, list(…), set(…), map(…), object({…}) or tuple([…]))",
    )


def _object_type(node: ObjectOf, *, accepts_any: bool) -> Type:
    fields: dict[str, Type] = {}
    optional: set[str] = set()
    for key, kind in node.items:
        name = str(key.value) if isinstance(key, Literal) else ""
        if isinstance(kind, Call) and kind.name == "optional" and kind.arguments:
            if len(kind.arguments) > 1:
                raise TypeFault(
                    kind.arguments[1].at, "optional() takes a type only: defaults are not supported"
                )
            optional.add(name)
            kind = kind.arguments[0]
        fields[name] = read_type(kind, accepts_any=accepts_any)
    return Type(name="object", fields=fields, optional=frozenset(optional))
