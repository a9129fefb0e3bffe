"""What does an HCL2 text consist of?

Nodes are msgspec structs and not dataclasses: a large job has ten thousand of them, and a frozen
dataclass costs six times as long to make. `at` is always an offset into the source's text; lines and
columns are worked out only when a fault is printed.
"""

from decimal import Decimal
from typing import TypeAlias

import msgspec


class Node(msgspec.Struct, frozen=True):
    at: int


class Literal(Node, frozen=True):
    """A string without templates, a number, true, false or null."""

    value: str | int | Decimal | bool | None


class Reference(Node, frozen=True):
    """A name and what is taken out of it, all known from the text: `var.x`, `env["HOME"]`, `a.b[0]`.

    raw: the source text, white space included when it stands in `${ }`: what is left of it at run
    time if nobody knows the name.
    """

    root: str
    steps: tuple[str | int, ...]
    raw: str


class Index(Node, frozen=True):
    target: "Expression"
    key: "Expression"


class Attribute(Node, frozen=True):
    """`target.name` where target is not a plain name."""

    target: "Expression"
    name: str


class Splat(Node, frozen=True):
    """`target[*].steps` (full) or `target.*.steps`; steps apply to every element."""

    target: "Expression"
    steps: tuple["Expression | str", ...]


class Template(Node, frozen=True):
    """A quoted string or heredoc; strings are text, other nodes are interpolated."""

    parts: tuple["str | Expression", ...]


class If(Node, frozen=True):
    """`%{ if }`: its branches are templates."""

    condition: "Expression"
    then: Template
    other: Template


class ForDirective(Node, frozen=True):
    key: str
    value: str
    collection: "Expression"
    body: Template


class Unary(Node, frozen=True):
    operator: str
    operand: "Expression"


class Binary(Node, frozen=True):
    operator: str
    left: "Expression"
    right: "Expression"


class Conditional(Node, frozen=True):
    condition: "Expression"
    then: "Expression"
    other: "Expression"


class TupleOf(Node, frozen=True):
    items: tuple["Expression", ...]


class ObjectOf(Node, frozen=True):
    items: tuple[tuple["Expression", "Expression"], ...]


class ForTuple(Node, frozen=True):
    key: str
    value: str
    collection: "Expression"
    result: "Expression"
    condition: "Expression | None"


class ForObject(Node, frozen=True):
    key: str
    value: str
    collection: "Expression"
    result_key: "Expression"
    result: "Expression"
    condition: "Expression | None"
    is_grouping: bool


class Call(Node, frozen=True):
    """A function call; is_spread: the last argument is followed by `...`."""

    name: str
    arguments: tuple["Expression", ...]
    is_spread: bool


Expression: TypeAlias = (
    Literal
    | Reference
    | Index
    | Attribute
    | Splat
    | Template
    | If
    | ForDirective
    | Unary
    | Binary
    | Conditional
    | TupleOf
    | ObjectOf
    | ForTuple
    | ForObject
    | Call
)


class Setting(Node, frozen=True):
    """`name = value` in a body."""

    name: str
    value: Expression


class Block(Node, frozen=True):
    """`kind "label" … { body }`."""

    kind: str
    labels: tuple[str, ...]
    label_ats: tuple[int, ...]
    body: "Body"


class Body(msgspec.Struct, frozen=True):
    """What stands between two braces, or in a whole file; end is where it closes."""

    settings: dict[str, Setting]
    blocks: tuple[Block, ...]
    end: int
