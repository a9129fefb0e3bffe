"""Which blocks does a job file in HCL's JSON form hold?

JSON does not tell a block from an argument, nor a label from a block inside: only the table of fields
does. So the JSON tree is turned, along the table, into the same bodies that the HCL parser makes, and from
there on there is one path.
"""

from jobspec import sugar
from jobspec.schema import STRUCTS, Struct
from jobspec.suggest import did_you_mean
from jobspec.syntax.jsonform import parse_json
from jobspec.syntax.source import Source
from jobspec.syntax.tree import Block, Body, Expression, Literal, ObjectOf, Setting, TupleOf

_Item = tuple[str, int, Expression]


def job_file_body(source: Source) -> Body:
    """The body of a job file that starts with `{`. Raises JobspecError."""
    node = parse_json(source)
    if not isinstance(node, ObjectOf):
        source.refuse(0, "expected an object")
    settings: dict[str, Setting] = {}
    blocks: list[Block] = []
    for name, at, value in _items(source, node):
        if name == "job":
            blocks += _blocks(source, "job", STRUCTS["Job"], value, at, has_label=True)
        elif name in ("variable", "locals", "variables"):
            blocks += _plain_blocks(source, name, value, at)
        elif name in ("Job", "ID", "TaskGroups"):
            source.refuse(
                at, 'this is a job of the JSON API and no job file (use -json; a job file has "job")'
            )
        elif name != "//":
            source.refuse(
                at,
                f'unknown property "{name[:60]}"{did_you_mean(name, ("job", "variable", "variables", "locals"))}',
            )
    return Body(settings, tuple(blocks), len(source.text))


def _items(source: Source, node: Expression) -> list[_Item]:
    """The properties of an object, or of a list of objects."""
    if isinstance(node, TupleOf):
        return [item for part in node.items for item in _items(source, part)]
    if not isinstance(node, ObjectOf):
        source.refuse(node.at, "expected an object")
    return [(str(key.value), key.at, value) for key, value in node.items if isinstance(key, Literal)]


def _plain_blocks(source: Source, kind: str, node: Expression, at: int) -> list[Block]:
    """`variable` and `locals`: what is inside are arguments only, but for a variable's validations."""
    if kind == "variable":
        return [_variable(source, name, value, at) for name, at, value in _items(source, node)]
    return [Block(at, kind, (), (), Body(_settings(source, node), (), at))]


def _variable(source: Source, name: str, node: Expression, at: int) -> Block:
    settings = _settings(source, node)
    validation = settings.pop("validation", None)
    parts: tuple[Expression, ...] = ()
    if validation is not None:
        parts = validation.value.items if isinstance(validation.value, TupleOf) else (validation.value,)
    blocks = tuple(
        Block(part.at, "validation", (), (), Body(_settings(source, part), (), part.at)) for part in parts
    )
    return Block(at, "variable", (name,), (at,), Body(settings, blocks, at))


def _settings(source: Source, node: Expression) -> dict[str, Setting]:
    return {name: Setting(at, name, value) for name, at, value in _items(source, node) if name != "//"}


def _blocks(
    source: Source, kind: str, struct: Struct | None, node: Expression, at: int, *, has_label: bool
) -> list[Block]:
    """A property that is a block: one object, or a list of them; a label is one more level."""
    if has_label:
        return [
            block
            for name, label_at, value in _items(source, node)
            for block in _labelled(source, kind, struct, name, value, label_at)
        ]
    parts = node.items if isinstance(node, TupleOf) else (node,)
    return [Block(part.at, kind, (), (), _body(source, struct, part)) for part in parts]


def _labelled(
    source: Source, kind: str, struct: Struct | None, label: str, node: Expression, at: int
) -> list[Block]:
    parts = node.items if isinstance(node, TupleOf) and not _is_one_body(node) else (node,)
    return [Block(at, kind, (label,), (at,), _body(source, struct, part)) for part in parts]


def _is_one_body(node: TupleOf) -> bool:
    """`[{a}, {b}]` below a label is one body in pieces, unless a piece repeats a property."""
    names = [
        key.value
        for part in node.items
        if isinstance(part, ObjectOf)
        for key, _ in part.items
        if isinstance(key, Literal)
    ]
    return len(names) == len(set(names))


def _body(source: Source, struct: Struct | None, node: Expression) -> Body:
    settings: dict[str, Setting] = {}
    blocks: list[Block] = []
    for name, at, value in _items(source, node):
        if name == "//":
            continue
        field = struct.blocks.get(name) if struct else None
        extra = sugar.BLOCKS.get(struct.name, {}).get(name) if struct else None
        kind = field.kind if field is not None and field.is_struct else extra
        if kind is not None:
            inner = STRUCTS[kind]
            has_label = inner.label is not None or inner.name == "TaskScaling"
            blocks += _blocks(source, name, inner, value, at, has_label=has_label)
        elif name in settings:
            source.refuse(at, f'"{name}" is set twice')
        else:
            settings[name] = Setting(at, name, _unwrapped(value) if field is not None else value)
    return Body(settings, tuple(blocks), node.at)


def _unwrapped(node: Expression) -> Expression:
    """A map of data may stand in a list of one, as all blocks may."""
    if isinstance(node, TupleOf) and len(node.items) == 1:
        return node.items[0]
    return node
