"""What does a parsed template consist of?

pos: where a node begins in the text, in characters.
"""

from dataclasses import dataclass
from typing import Literal as OneOf


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: text, bool, int, float, or None for nil. source: as written."""

    pos: int
    value: object
    source: str


@dataclass(frozen=True, slots=True)
class Dot:
    pos: int


@dataclass(frozen=True, slots=True)
class Field:
    """`.A.B`"""

    pos: int
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x.A.B`; name with its dollar."""

    pos: int
    name: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identifier:
    """A function's name."""

    pos: int
    name: str


@dataclass(frozen=True, slots=True)
class Command:
    """What is called, then its arguments; never empty."""

    pos: int
    args: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands, each given the one before as its last argument. declares: the variables that get the result."""

    pos: int
    declares: tuple[str, ...]
    is_assignment: bool
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """`(pipeline).A.B`, `function.A`"""

    pos: int
    inner: "Pipeline | Identifier"
    names: tuple[str, ...]


Expression = Literal | Dot | Field | Variable | Identifier | Chain | Pipeline


@dataclass(frozen=True, slots=True)
class Text:
    pos: int
    text: str


@dataclass(frozen=True, slots=True)
class Action:
    pos: int
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """`if` or `with`, its `else if`s in order, and what is left for `else`."""

    pos: int
    kind: OneOf["if", "with"]
    ways: "tuple[tuple[Pipeline, Nodes], ...]"
    otherwise: "Nodes"


@dataclass(frozen=True, slots=True)
class Range:
    pos: int
    pipeline: Pipeline
    body: "Nodes"
    otherwise: "Nodes"


@dataclass(frozen=True, slots=True)
class Call:
    """`{{template "name" pipeline}}`"""

    pos: int
    name: str
    pipeline: Pipeline | None


@dataclass(frozen=True, slots=True)
class Leave:
    """`break`, or `continue`."""

    pos: int
    is_break: bool


Node = Text | Action | Branch | Range | Call | Leave
Nodes = tuple[Node, ...]


def shown(node: Expression | Command) -> str:
    """The node as a template would have it, for messages."""
    match node:
        case Literal():
            return node.source
        case Dot():
            return "."
        case Field():
            return "." + ".".join(node.names)
        case Variable():
            return ".".join((node.name, *node.names))
        case Identifier():
            return node.name
        case Chain():
            inner = shown(node.inner)
            return ".".join((f"({inner})" if isinstance(node.inner, Pipeline) else inner, *node.names))
        case Command():
            return " ".join(f"({shown(a)})" if isinstance(a, Pipeline) else shown(a) for a in node.args)
        case Pipeline():
            sign = " = " if node.is_assignment else " := "
            declared = ", ".join(node.declares) + sign if node.declares else ""
            return declared + " | ".join(shown(command) for command in node.commands)
