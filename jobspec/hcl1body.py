"""Which blocks does a job file in HCL's first version hold?

As in JSON, the table of fields tells a block from an argument and a label from a key. What HCL1 does besides: the
last of two arguments of a name counts, maps that are given in pieces are one, a single value may stand for a list
of it, and a boolean in a map of text is 1 or 0.
"""

from collections.abc import Iterator

from jobspec import sugar
from jobspec.schema import STRUCTS, Field, Struct
from jobspec.syntax.hcl1 import parse_hcl1
from jobspec.syntax.source import Source
from jobspec.syntax.tree import Block, Body, Expression, Literal, ObjectOf, Setting, TupleOf

_Item = tuple[str, int, Expression]


def hcl1_file_body(source: Source) -> Body:
    """The body of a job file in HCL1. Raises JobspecError."""
    settings: dict[str, Setting] = {}
    blocks: list[Block] = []
    for name, at, value in _items(parse_hcl1(source)):
        if name in ("variable", "variables", "locals"):
            source.refuse(at, f"HCL1 has no {name} (leave -hcl1 away)")
        if _is_object(value):
            blocks += _blocks(name, STRUCTS["Job"], value, at)
        else:
            settings[name] = Setting(at, name, value)
    return Body(settings, tuple(blocks), len(source.text))


def _items(node: Expression) -> Iterator[_Item]:
    """The items of an object, or of a list of objects."""
    for part in node.items if isinstance(node, TupleOf) else (node,):
        if isinstance(part, ObjectOf):
            for key, value in part.items:
                assert isinstance(key, Literal)
                yield str(key.value), key.at, value


def _is_object(node: Expression) -> bool:
    return isinstance(node, ObjectOf) or (
        isinstance(node, TupleOf) and bool(node.items) and all(isinstance(item, ObjectOf) for item in node.items)
    )


def _blocks(kind: str, struct: Struct, node: Expression, at: int) -> Iterator[Block]:
    parts = node.items if isinstance(node, TupleOf) else (node,)
    has_label = struct.name in ("Job", "TaskScaling") or struct.label is not None
    for part in parts:
        items = list(_items(part))
        if has_label and items and all(_is_object(value) for _, _, value in items):
            for label, label_at, value in items:
                for body in value.items if isinstance(value, TupleOf) else (value,):
                    yield Block(at, kind, (label,), (label_at,), _body(struct, body))
        else:
            yield Block(at, kind, (), (), _body(struct, part))


def _body(struct: Struct, node: Expression) -> Body:
    settings: dict[str, Setting] = {}
    blocks: list[Block] = []
    maps: dict[str, list[_Item]] = {}
    for name, at, value in _items(node):
        field = struct.blocks.get(name)
        inner = field.kind if field is not None and field.is_struct else sugar.BLOCKS.get(struct.name, {}).get(name)
        if inner is not None and _is_object(value):
            blocks += _blocks(name, STRUCTS[inner], value, at)
        elif field is not None and not field.is_struct and _is_object(value):
            maps.setdefault(name, []).extend(_items(value))
        elif struct.name == "VolumeRequest" and name not in struct.attributes:
            continue  # the one block in which Nomad's reader of HCL1 looks at nothing that it does not know
        else:
            settings[name] = Setting(at, name, _one_or_many(struct.attributes.get(name), value))
    for name, items in maps.items():
        at = next(at for found, at, _ in _items(node) if found == name)
        body = _free(items, at) if struct.blocks[name].kind == "any" else _texts(items, at)
        blocks.append(Block(at, name, (), (), body))
    return Body(settings, tuple(blocks), node.at)


def _one_or_many(field: Field | None, value: Expression) -> Expression:
    if field is not None and field.shape == "list" and not isinstance(value, TupleOf):
        return TupleOf(value.at, (value,))
    return value


def _texts(items: list[_Item], at: int) -> Body:
    return Body({name: Setting(item_at, name, _text(value)) for name, item_at, value in items}, (), at)


def _text(value: Expression) -> Expression:
    if isinstance(value, Literal) and isinstance(value.value, bool):
        return Literal(value.at, str(int(value.value)))
    return value


def _free(items: list[_Item], at: int) -> Body:
    """Driver configuration: every object is a block there."""
    settings: dict[str, Setting] = {}
    blocks: list[Block] = []
    for name, item_at, value in items:
        if isinstance(value, ObjectOf):
            blocks.append(Block(item_at, name, (), (), _free(list(_items(value)), item_at)))
        else:
            settings[name] = Setting(item_at, name, _in_lists(value))
    return Body(settings, tuple(blocks), at)


def _in_lists(value: Expression) -> Expression:
    """Objects in a list: each object inside of them is a list of one, as a block would be."""
    if isinstance(value, TupleOf):
        return TupleOf(value.at, tuple(map(_in_lists, value.items)))
    if not isinstance(value, ObjectOf):
        return value
    return ObjectOf(
        value.at,
        tuple(
            (key, TupleOf(inner.at, (_in_lists(inner),)) if isinstance(inner, ObjectOf) else _in_lists(inner))
            for key, inner in value.items
        ),
    )
