"""What does a template look up, as far as its text says?

Found in the tree, without rendering: every call of a function that looks something up, in whatever branch it stands. What
its arguments are is known when they are constants, printf or print of constants, or variables that are set once, to
such. All other calls are listed as open.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from template.faults import Refusal, TemplateFault
from template.formats import sprint, sprintf
from template.functions.answers import REFUSED
from template.lookups import Read, What, read_of
from template.scanner import Source
from template.tree import (
    Action,
    Branch,
    Call,
    Command,
    Expression,
    Identifier,
    Literal,
    Nodes,
    Pipeline,
    Range,
    Variable,
    shown,
)

_LOOKUPS = {
    "key", "keyOrDefault", "keyExists", "keyExistsGet", "ls", "safeLs", "tree", "safeTree", "service", "services", "node",
    "nodes", "datacenters", "secret", "secrets", "env", "envOrDefault", "mustEnv", "file", "sockaddr",
}  # fmt: skip
# Of their arguments only the first says what is read.
_WITH_DEFAULT = {"keyOrDefault", "envOrDefault"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A call whose arguments are known only when it is rendered."""

    function: str
    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """all: what is known to be read. open: calls of which it is not known. faults: calls that will be refused.
    messages: what `sprig_fail` is known to say."""

    all: frozenset[Read]
    open: tuple[Open, ...]
    faults: tuple[TemplateFault, ...]
    messages: frozenset[str] = frozenset()

    def of(self, *kinds: What) -> tuple[Read, ...]:
        return tuple(sorted(read for read in self.all if read.what in kinds))

    @property
    def keys(self) -> frozenset[str]:
        """Keys, and prefixes whose keys are read."""
        return frozenset(read.name for read in self.of(What.KEY, What.PAIRS))

    @property
    def services(self) -> frozenset[str]:
        return frozenset(read.name for read in self.of(What.SERVICE))

    @property
    def secrets(self) -> frozenset[str]:
        """Paths in Vault."""
        return frozenset(read.name for read in self.of(What.SECRET, What.SECRETS))

    @property
    def env(self) -> frozenset[str]:
        return frozenset(read.name for read in self.of(What.ENV))

    @property
    def files(self) -> frozenset[str]:
        return frozenset(read.name for read in self.of(What.FILE))

    @property
    def needs_vault(self) -> bool:
        return bool(self.secrets) or any(one.function in ("secret", "secrets") for one in self.open)


def reads_of(source: Source, bodies: Iterable[Nodes], allowed: frozenset[str]) -> Reads:
    """allowed: functions that are refused otherwise."""
    finder = _Finder(source, allowed)
    bodies = list(bodies)
    for body in bodies:
        finder.count(body)
    for body in bodies:
        finder.nodes(body)
    return Reads(all=frozenset(finder.found), open=tuple(finder.open), faults=tuple(finder.faults), messages=frozenset(finder.messages))


class _Finder:
    def __init__(self, source: Source, allowed: frozenset[str]) -> None:
        self._source, self._allowed = source, allowed
        self.found: set[Read] = set()
        self.open: list[Open] = []
        self.faults: list[TemplateFault] = []
        self.messages: set[str] = set()
        # How often each variable gets a value, and which one it has.
        self._set: dict[str, int] = {}
        self._values: dict[str, object] = {}

    def count(self, nodes: Nodes) -> None:
        for pipeline in _pipelines(nodes):
            for name in pipeline.declares:
                self._set[name] = self._set.get(name, 0) + 1

    def nodes(self, nodes: Nodes) -> None:
        for node in nodes:
            match node:
                case Action():
                    self._pipeline(node.pipeline)
                case Branch():
                    for condition, body in node.ways:
                        self._pipeline(condition)
                        self.nodes(body)
                    self.nodes(node.otherwise)
                case Range():
                    self._pipeline(node.pipeline, is_range=True)
                    self.nodes(node.body)
                    self.nodes(node.otherwise)
                case Call() if node.pipeline is not None:
                    self._pipeline(node.pipeline)
                case _:
                    pass

    def _pipeline(self, pipeline: Pipeline, *, is_range: bool = False) -> object:
        """Its value, None: not known."""
        value: object = None
        for number, command in enumerate(pipeline.commands):
            value = self._command(command, value, is_first=not number)
        for name in pipeline.declares:
            if self._set.get(name) == 1 and not is_range:
                self._values[name] = value
        return value

    def _command(self, command: Command, before: object, *, is_first: bool) -> object:
        first, *others = command.args
        values = [self._operand(one) for one in others]
        if not is_first:
            values.append(before)
        if isinstance(first, Identifier):
            return self._call(first, values)
        value = self._operand(first)
        return None if values else value

    def _operand(self, node: Expression) -> object:
        match node:
            case Literal():
                return node.value
            case Variable() if not node.names:
                return self._values.get(node.name)
            case Pipeline():
                return self._pipeline(node)
            case Identifier():
                return self._call(node, [])
            case _:
                inner = getattr(node, "inner", None)  # of a chain
                if inner is not None:
                    self._operand(inner)
                return None

    def _call(self, node: Identifier, values: list[object]) -> object:
        name = node.name
        if name in REFUSED and name not in self._allowed:
            self._fault(node, f"{name}: {REFUSED[name]}")
        if name in _LOOKUPS:
            self._lookup(node, values[:1] if name in _WITH_DEFAULT else values)
            return None
        if any(value is None for value in values):
            return None
        try:
            match name:
                case "sprig_fail":
                    self.messages.update(value for value in values if isinstance(value, str))
                case "printf" if values and isinstance(values[0], str):
                    return sprintf(values[0], values[1:])
                case "print":
                    return sprint(values)
        except Refusal as refusal:
            self._fault(node, str(refusal))
        return None

    def _lookup(self, node: Identifier, values: list[object]) -> None:
        texts = [value for value in values if isinstance(value, str)]
        if node.name == "datacenters":
            texts, values = [], []
        if len(texts) != len(values):
            line, column = self._source.place(node.pos)
            self.open.append(Open(function=node.name, line=line, column=column))
            return
        try:
            read = read_of(node.name, texts)
        except Refusal as refusal:
            self._fault(node, f"{node.name}: {refusal}")
            return
        if read is not None:
            self.found.add(read)

    def _fault(self, node: Identifier, words: str) -> None:
        self.faults.append(self._source.fault(node.pos, f"<{shown(node)}>: {words}"))


def _pipelines(nodes: Nodes) -> Iterator[Pipeline]:
    """All of them, those in parentheses as well."""
    for node in nodes:
        match node:
            case Action():
                yield from _inner(node.pipeline)
            case Branch():
                for condition, body in node.ways:
                    yield from _inner(condition)
                    yield from _pipelines(body)
                yield from _pipelines(node.otherwise)
            case Range():
                yield from _inner(node.pipeline)
                yield from _pipelines(node.body)
                yield from _pipelines(node.otherwise)
            case Call() if node.pipeline is not None:
                yield from _inner(node.pipeline)
            case _:
                pass


def _inner(pipeline: Pipeline) -> Iterator[Pipeline]:
    yield pipeline
    for command in pipeline.commands:
        for arg in command.args:
            inner = arg if isinstance(arg, Pipeline) else getattr(arg, "inner", None)
            if isinstance(inner, Pipeline):
                yield from _inner(inner)
